"""What one attempt of a task is handed: its params, results before it, a log, a way to stop.

Made by whoever runs the attempt; what a task is and may return is said in ``shared.tasks``.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

Json: TypeAlias = Any
"""JSON as tasks give and get it; only ``shared.task_results`` knows whether it really is."""

LOGGER_NAME = "flow_manager.tasks"
"""Under it are the loggers that tasks are given, one a task type."""


@dataclass(frozen=True, slots=True)
class FlowRunResult:
    """What a run came to that a task has waited for."""

    flow_run_id: str
    flow_id: str
    status: str
    """``completed``, ``failed`` or ``cancelled``."""
    outcome: str | None
    """Of a completed one: ``success`` or ``failure``."""
    output: Json = None
    error: Json = None
    """Of a failed one: ``{"task", "type", "message", "traceback"}``."""


@dataclass(frozen=True, slots=True)
class Signal:
    """A signal that was sent to the run and ended a wait."""

    name: str
    data: Json = None
    """The JSON that came with it."""


@dataclass(frozen=True, slots=True)
class EarlierResult:
    """The last finished visit of another task of the same run."""

    success: bool | None
    """None where it raised."""
    data: Json = None
    error: Json = None
    """``{"type", "message", "traceback"}`` where it raised."""
    iteration: int = 1


class _TaskLog(logging.LoggerAdapter[logging.Logger]):
    """Adds which run and task a line belongs to, and keeps what the caller adds."""

    def process(
        self, msg: object, kwargs: MutableMapping[str, Any]
    ) -> tuple[object, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs


@dataclass(slots=True, kw_only=True, eq=False)
class TaskContext:
    """All that one attempt is handed. Made anew for every attempt, owned by it alone."""

    task_name: str
    """The task's name in the definition; several tasks may share a type."""
    params: Any = None
    """An instance of the type's ``Params``, or the plain dictionary where it has none."""
    input: Json = None
    """What the run was started with."""
    tasks: Mapping[str, EarlierResult] = field(default_factory=dict)
    """Results of the tasks that ran before, by name. Empty where ``needs_results`` is false."""
    previous: Json = None
    """``data`` of the task before in this branch; behind a join a dictionary of the joined
    tasks' data by their names. None where ``needs_results`` is false."""
    item: Json = None
    """The item of a ``for_each``."""
    index: int | None = None
    """Its place in the list."""
    run_id: str = ""
    flow_id: str = ""
    branch: str = "main"
    attempt: int = 1
    iteration: int = 1
    """1 at the first visit of this task in the run, 2 when a loop comes by again."""
    signal: Signal | None = None
    """In ``resume``, the signal that ended the wait; None where its time was over first."""
    flow_run: FlowRunResult | None = None
    """In ``resume``, what the run came to that was waited for."""
    idempotency_key: str = ""
    """The same for every attempt of one visit: give it to what must happen only once."""
    clock: Callable[[], datetime] = field(default=partial(datetime.now, UTC), repr=False)
    """Tells the time; in a simulation it is the simulation's."""
    _stopped: bool = False
    _unread: dict[str, Callable[[], Json]] = field(default_factory=dict, init=False, repr=False)

    def read_when_asked(self, name: str, read: Callable[[], Json]) -> None:
        """Let ``input`` or ``previous`` be what ``read`` gives, when it is first looked at.

        All items of a list have the same, which is mostly as long as the list, and few tasks
        look at it: parsing it for each would take time with the square of the length.
        """
        self._unread[name] = read
        delattr(self, name)

    if not TYPE_CHECKING:  # or else every attribute would seem to be there

        def __getattr__(self, name: str) -> Json:
            # Only what is not there comes here.
            if name == "_unread" or name not in self._unread:
                raise AttributeError(f"a task's context has no {name!r}")
            setattr(self, name, self._unread[name]())
            return getattr(self, name)

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger whose lines are kept with the task run. Any other logger's are, too."""
        return _TaskLog(
            logging.getLogger(f"{LOGGER_NAME}.{self.task_name}"),
            {"flow_run_id": self.run_id, "task": self.task_name, "attempt": self.attempt},
        )

    @property
    def cancelled(self) -> bool:
        """Whether this attempt shall stop: it was cancelled, or passed its timeout.

        For synchronous tasks, which nobody can interrupt: look at it, or call
        :meth:`heartbeat`, in every long loop.
        """
        if self._stopped:
            return True
        try:
            current = asyncio.current_task()
        except RuntimeError:
            return False
        return current is not None and current.cancelling() > 0

    def heartbeat(self) -> None:
        """A point where a long task can be stopped.

        Raises:
            asyncio.CancelledError: the attempt shall stop. Let it pass.
        """
        if self.cancelled:
            raise asyncio.CancelledError

    def stop(self) -> None:
        """Tell a synchronous task to stop. Called by whoever runs the attempt."""
        self._stopped = True
