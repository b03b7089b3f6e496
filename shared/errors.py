"""Every error of our own, in one tree.

.. code-block:: text

    FlowManagerError
    |-- InvalidInput                 the caller's fault
    |   |-- InvalidDocument          not JSON, or JSON that we refuse (line and column)
    |   |-- InvalidDefinition        a flow definition with findings
    |   |-- InvalidParams            params that do not fit the task's model
    |   |-- InvalidTaskResult        a task returned what cannot be recorded
    |   |-- InvalidTask              a task class or function that cannot be registered
    |   |-- InvalidExpression        an expression outside the language (offset in its text)
    |   |-- InvalidDuration          a duration or a rate that cannot be read
    |   |-- InvalidSchedule          a schedule that cannot be read or never fires (its field)
    |   `-- InvalidSettings          a setting that does not hold together
    |-- NotFound                     no such run, task or page
    |-- Conflict                     the state forbids it
    |   |-- RunIsOver                a run with a final status was to be changed
    |   |-- ConcurrencyReached       as many runs of a flow go on as may
    |   `-- IdempotencyMismatch      the same key came with another body
    |-- SubFlowRefused               a sub-flow that cannot be started
    |-- LimitExceeded                more than a setting allows
    |-- ExpressionError              an expression cannot be worked out with the values it met
    `-- Unavailable                  our side's fault; trying again may help
        |-- DatabaseUnavailable      the database does not answer, or its disk is full
        `-- QueueUnavailable         Redis does not answer

What a *task* raises is not in this tree: it is data, recorded with its traceback. The two
names that the engine itself puts there are :class:`TaskTimeout`, :class:`WorkerLost`,
:class:`SubFlowFailed` and :class:`SubFlowCancelled`.
Only ``api`` knows which HTTP status an error becomes.
"""

from collections.abc import Sequence
from dataclasses import dataclass


class FlowManagerError(Exception):
    """The root of every error that Flow Manager raises on purpose."""


class InvalidInput(FlowManagerError):
    """What was given cannot be used as it is."""


class InvalidDocument(InvalidInput):
    """A body or file that is not JSON, or JSON that is refused."""

    def __init__(
        self, message: str, *, line: int | None = None, column: int | None = None, pointer: str = ""
    ) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        """1-based line of the place, where there is one."""
        self.column = column
        """1-based column of the place, in characters, where there is one."""
        self.pointer = pointer
        """RFC 6901 pointer to the value, where the place is a value."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong, or doubtful, with a definition."""

    pointer: str
    """RFC 6901 pointer into the body as it was sent; ``""`` is the whole of it."""
    code: str
    """What kind of finding, in a stable word such as ``unknown_task``."""
    message: str
    """One sentence for a person. Never echoes more than a name of the input."""
    suggestion: str | None = None
    """What was probably meant, where we can tell."""
    offset: int | None = None
    """Where in the string, in characters, for a finding about an expression in it."""


class InvalidDefinition(InvalidInput):
    """A flow definition that cannot run; :attr:`findings` says all that is wrong with it."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("; ".join(f"{f.pointer or '/'}: {f.message}" for f in findings[:3]))
        self.findings = tuple(findings)


class InvalidParams(InvalidInput):
    """Params that do not fit the task's model; the message names each field."""


class InvalidTaskResult(InvalidInput):
    """A task returned something that cannot be recorded as JSON; the message names the key."""


class InvalidTask(InvalidInput):
    """A task class or function that cannot be registered as it is."""


class InvalidExpression(InvalidInput):
    """A text that is no expression of the language. Found when it is read, never later."""

    def __init__(self, offset: int, message: str, suggestion: str | None = None) -> None:
        super().__init__(message)
        self.offset = offset
        """Where in the text, in characters from 0."""
        self.message = message
        self.suggestion = suggestion
        """What was probably meant, where we can tell."""


class InvalidDuration(InvalidInput, ValueError):
    """A duration or a rate that cannot be read; the message follows the name of its field.

    A ``ValueError`` as well, because that is what pydantic takes for a wrong value.
    """


class InvalidSchedule(InvalidInput):
    """A schedule that cannot be read, or that never fires."""

    def __init__(self, field: str, message: str, suggestion: str | None = None) -> None:
        super().__init__(f'"{field}" {message}' if field else message)
        self.field = field
        """The field that is wrong; empty where it is the whole of the schedule."""
        self.message = message
        """What is wrong with it, to stand behind the name of the field."""
        self.suggestion = suggestion
        """What was probably meant, where we can tell."""


class InvalidSettings(InvalidInput):
    """Settings that do not hold together; the message names the setting and the value."""


class NotFound(FlowManagerError):
    """There is nothing under that name or id."""


class Conflict(FlowManagerError):
    """The present state forbids it."""


class RunIsOver(Conflict):
    """The run has its final status already."""


class ConcurrencyReached(Conflict):
    """As many runs of the flow go on as its ``concurrency`` allows, and it refuses others."""

    def __init__(self, message: str, flow_run_id: str) -> None:
        super().__init__(message)
        self.flow_run_id = flow_run_id
        """The oldest of the runs that go on."""


class IdempotencyMismatch(Conflict):
    """This idempotency key was used before, with another body."""


class LimitExceeded(FlowManagerError):
    """More than a setting allows; the message names the limit and the value."""


class ExpressionError(FlowManagerError):
    """An expression met values that it cannot work with, or passed a limit while it ran.

    The message names paths and shapes, never a value: values may be secrets.
    """

    def __init__(self, message: str, offset: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset
        """Which part of the expression, in characters from the start of its text."""


class Unavailable(FlowManagerError):
    """Something we depend on does not answer now; trying again may help."""


class DatabaseUnavailable(Unavailable):
    """The database does not answer, or cannot write."""


class QueueUnavailable(Unavailable):
    """Redis does not answer."""


class TaskTimeout(FlowManagerError):
    """The attempt ran longer than its timeout."""


class WorkerLost(FlowManagerError):
    """The task cost several workers their lives; it is not given another one."""


class SubFlowRefused(FlowManagerError):
    """A sub-flow that cannot be started: it is not stored, takes other input, or would contain
    itself."""


class SubFlowFailed(FlowManagerError):
    """The run of a sub-flow failed; the message names it and says why."""


class SubFlowCancelled(FlowManagerError):
    """The run of a sub-flow was cancelled; the message names it."""
