"""What a flow definition is: the shape of the JSON that clients send.

The models say what one field may hold. What the fields mean together (names that exist,
joins, cycles) is read off them by ``shared.graph`` and judged by ``shared.validation``.
Unknown fields are errors, because they are usually typos.
"""

from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from shared.durations import Duration, RateText
from shared.pools import DEFAULT_QUEUE, QueueName
from shared.retry import RetryPolicy
from shared.status import Outcome

MAX_VERSION = 2**31 - 1
"""Of a stored definition: what a column of the databases holds."""
END = "end"
"""The reserved target that ends a branch."""

MAX_NAME_LENGTH = 200
"""Names stand in paths, logs and index entries; longer ones help nobody."""
MAX_TEXT_LENGTH = 10_000
"""Characters of a description."""
MAX_TAGS = 50
MAX_AT_ONCE = 1_000_000
"""Places of a limit: more than this is no limit any more."""
DEFAULT_MAX_TASK_RUNS = 10_000
"""Task runs that one run may hold: what stops a loop that never ends."""

# No control characters: NUL cannot be stored in PostgreSQL, the others break logs and paths.
_PRINTABLE = r"^[^\x00-\x1f\x7f]*$"

Name = Annotated[
    str, StringConstraints(min_length=1, max_length=MAX_NAME_LENGTH, pattern=_PRINTABLE)
]
Text = Annotated[str, StringConstraints(max_length=MAX_TEXT_LENGTH, pattern=r"^[^\x00]*$")]
Expression = Annotated[str, StringConstraints(min_length=1)]
"""The text of an expression, with or without ``${`` and ``}`` around it."""
Tolerance = (
    Annotated[int, Field(ge=0)]
    | Annotated[str, StringConstraints(pattern=r"^(all|(100|[0-9]{1,2})%)$")]
)
Target = Name | Annotated[list[Name], Field(min_length=1)]
"""One task, ``"end"``, or a list of tasks to fork into."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class WaitFor(_Strict):
    """A join that goes on before everybody has come."""

    wait_for: Annotated[int, Field(ge=1)] = 1
    """How many arrivals start the task."""
    rest: Literal["cancel", "run"] = "cancel"
    """What becomes of the others: those that can then lead nowhere but here are cancelled, or
    run on and end here when they arrive."""


JoinRule = Literal["all", "any", "each"] | Annotated[int, Field(ge=1)] | WaitFor
"""Who must have come before a task that several edges lead to runs."""


class TaskLimit(_Strict):
    """How many visits may run at once, and how many may begin in a time, across all runs."""

    key: Text | None = None
    """Text with ``${expression}``: what is limited together. The task's type where it is not
    given."""
    concurrency: Annotated[int, Field(ge=1, le=MAX_AT_ONCE)] | None = None
    """How many at once."""
    rate: RateText | None = None
    """How many may begin in a time, such as ``"100/m"``."""


class FlowConcurrency(_Strict):
    """How many runs of a flow may go on at once."""

    key: Text | None = None
    """Text with ``${expression}`` of the input: runs with the same key count together. All
    runs of the flow do where it is not given."""
    limit: Annotated[int, Field(ge=1, le=MAX_AT_ONCE)] = 1
    """How many runs at once."""
    on_limit: Literal["wait", "refuse", "cancel_running"] = "wait"
    """What becomes of a run that would be one too many: it waits its turn, it is refused, or
    the oldest that runs is cancelled for it."""


class TaskDefinition(_Strict):
    """A unit of work of a flow."""

    name: Name
    """Unique in the flow; also the task type, where ``type`` is not given."""
    description: Text = ""
    type: Name | None = None
    """The registered task type that does the work."""
    params: dict[str, JsonValue] | None = None
    """JSON handed to the task as its parameters; any string in it may hold ``${expression}``."""
    timeout: Annotated[Duration, Field(gt=0)] | None = None
    """Seconds that one attempt may take."""
    retry: RetryPolicy | None = None
    """Whether an attempt that went wrong is followed by another one."""
    for_each: Expression | None = None
    """An expression that gives a list: the task runs once an item, in parallel."""
    concurrency: Annotated[int, Field(ge=1)] | None = None
    """How many items run at a time; all of them where it is not given."""
    tolerate: Tolerance = 0
    """How many items may fail, or branches miss the join here: a number, a share such as
    ``"10%"``, or ``"all"``."""
    join: JoinRule = "all"
    """Of a task that several edges lead to: whether it waits for all who can come, for the
    first, for so many, or runs once for each."""
    route: Literal["first", "all"] = "first"
    """Whether the first condition that applies decides, or every one that applies fires."""
    compensate: Name | None = None
    """The task that undoes this one when the run fails, is cancelled or ends with a failure."""
    limit: TaskLimit | None = None
    """At most so many at once, and so many in a time, across all runs."""
    queue: QueueName = DEFAULT_QUEUE
    """The pool of workers that must run it."""
    priority: Annotated[int, Field(ge=-1_000, le=1_000)] = 0
    """Higher goes first in its queue."""

    @property
    def task_type(self) -> str:
        """The registered type that runs this task."""
        return self.type or self.name


def _is_result(outcome: Outcome) -> Outcome:
    if outcome is Outcome.ERROR:
        raise PydanticCustomError("enum", "an error is routed by target_task_error")
    return outcome


class Condition(_Strict):
    """Where a branch goes after a task."""

    source_task: Name
    target_task_success: Target
    target_task_failure: Target = END
    target_task_error: Target | None = None
    """Where to go when the task raised and its attempts are used up. Without it, in any
    condition of the task, such an error fails the run."""
    when: Expression | None = None
    """An expression that must be true for the condition to apply."""
    outcome: Annotated[
        Outcome,
        Field(strict=False),
        AfterValidator(_is_result),
        WithJsonSchema({"type": "string", "enum": ["success", "failure"]}),
    ] = Outcome.SUCCESS
    """The outcome that leads to ``target_task_success``; the other leads to the other."""
    name: Annotated[str, StringConstraints(max_length=MAX_NAME_LENGTH, pattern=_PRINTABLE)] = ""
    description: Text = ""


class FlowDefinition(_Strict):
    """A flow as a client defines it."""

    id: Name
    """The flow's id; the runs of one flow share it."""
    start_task: Name
    tasks: list[TaskDefinition] = Field(min_length=1)
    conditions: list[Condition] = Field(default_factory=list)
    name: Annotated[str, StringConstraints(max_length=MAX_NAME_LENGTH, pattern=_PRINTABLE)] = ""
    description: Text = ""
    version: Annotated[str, StringConstraints(max_length=100, pattern=_PRINTABLE)] | int | None = (
        None
    )
    tags: list[Name] = Field(default_factory=list, max_length=MAX_TAGS)
    input_schema: dict[str, JsonValue] | bool | None = None
    """JSON Schema (2020-12) of what a run may be started with."""
    output: JsonValue = None
    """JSON with expressions; the data of the last task where it is not given."""
    timeout: Annotated[Duration, Field(gt=0)] | None = None
    """Seconds from the submit within which a run must be over."""
    max_task_runs: Annotated[int, Field(ge=1, le=10_000_000)] = DEFAULT_MAX_TASK_RUNS
    """Task runs that one run may hold before it fails."""
    finally_: Annotated[Name | None, Field(alias="finally")] = None
    """A task that runs once after everything else, however the run ends."""
    concurrency: FlowConcurrency | None = None
    """How many runs of this flow may go on at once."""


def bare_expression(text: str) -> tuple[str, int]:
    """The expression in a field that holds nothing else, and where in the text it begins."""
    if text.startswith("${") and text.endswith("}"):
        return text[2:-1], 2
    return text, 0


def allowed_failures(tolerance: Tolerance, total: int) -> int:
    """How many of ``total`` may fail."""
    if isinstance(tolerance, int):
        return tolerance
    if tolerance == "all":
        return total
    return total * int(tolerance.removesuffix("%")) // 100


def wait_for(join: JoinRule) -> WaitFor | None:
    """The rule of a join that goes on early; None for ``all`` and ``each``."""
    if isinstance(join, WaitFor):
        return join
    if join == "any":
        return WaitFor()
    return WaitFor(wait_for=join) if isinstance(join, int) else None
