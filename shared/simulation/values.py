"""What goes into a simulated run and what comes out of it, as values."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import orjson

from shared.expressions.budget import Json
from shared.status import Outcome, RunStatus, TaskRunStatus


@dataclass(frozen=True, slots=True)
class Result:
    """What a visit came to, as expressions and later tasks see it."""

    success: bool | None
    """None where it raised."""
    content: bytes | None
    """Its data as JSON: most of it is never asked for."""
    error: Json
    iteration: int

    @property
    def data(self) -> Json:
        """The data itself."""
        return load(self.content)


@dataclass(frozen=True, slots=True)
class SentSignal:
    """A signal that ended a wait."""

    name: str
    data: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """An attempt at a visit, for the caller to say what it comes to."""

    task: str
    task_type: str
    branch: str
    iteration: int
    attempt: int
    index: int | None
    """The place of its item in the list, of a task with ``for_each``."""
    item: Json
    params: Json
    """With their expressions filled in."""
    input: Json
    previous: Json
    tasks: Mapping[str, Result]
    """Earlier results by name; those that expressions name, or all where they are asked for."""
    at: datetime
    """By the clock of the simulation."""
    timeout_seconds: float | None = None
    is_resumed: bool = False
    """Whether it was suspended and is woken now."""
    signal: SentSignal | None = None
    """What woke it, where it was not its time."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What an attempt comes to."""

    kind: Literal["success", "failure", "error", "suspended", "finish"]
    content: bytes | None = None
    """JSON."""
    error: Json = None
    """``{"type", "message", "traceback"}``."""
    reason: str | None = None
    seconds: float = 0.0
    """How long it takes, by the clock of the simulation."""
    wake_at: datetime | None = None
    """Of ``suspended``: when it is woken."""
    signal: str | None = None
    """Of ``suspended``: the signal that wakes it."""
    cancels: tuple[str, ...] = ()
    is_assumed: bool = False
    """Whether nobody said what it comes to, and a plain success was taken."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How far a simulation goes."""

    max_attempts: int = 10_000
    max_items: int = 100_000
    """Of one ``for_each``."""
    max_bytes: int = 50_000_000
    """Of all params and data together, as JSON."""


def _never() -> None:
    """Let it go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What a simulated run starts with."""

    input: Json
    at: datetime
    """What its clock shows at first."""
    signals: Mapping[str, Json] = field(default_factory=dict)
    """Data of the signals that come; each comes to every wait for it, as soon as it waits."""
    secrets: Mapping[str, str] = field(default_factory=dict)
    """Those that are not here are ``***``."""
    remembers_all: bool = False
    """Whether attempts are told all earlier results, not only those that expressions name."""
    bounds: Bounds = Bounds()
    check: Callable[[], None] = _never
    """Called before each piece of work; what it raises ends the simulation."""


@dataclass(slots=True, eq=False, kw_only=True)
class SimulatedTaskRun:
    """One attempt at one visit, as a run tells it."""

    name: str
    type: str
    branch: str
    iteration: int
    index: int | None
    attempt: int
    started_seconds: float
    """From the start of the run, by the clock of the simulation."""
    status: TaskRunStatus = TaskRunStatus.RUNNING
    reason: str | None = None
    params_content: bytes | None = None
    """The params as the task is given them, as JSON."""
    content: bytes | None = None
    error: Json = None
    finished_seconds: float | None = None
    waits_for: str | None = None
    """The signal that it waits for."""

    @property
    def params(self) -> Json:
        """As the task is given them."""
        return load(self.params_content)

    @property
    def data(self) -> Json:
        """What it returned."""
        return load(self.content)

    @property
    def success(self) -> bool | None:
        """What the task said; None where it said nothing."""
        if self.status is TaskRunStatus.SUCCESS:
            return True
        return False if self.status is TaskRunStatus.FAILED and self.error is None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedRun:
    """What a simulated run came to."""

    flow_id: str
    input: Json
    status: RunStatus
    """``running`` where something waits for what never comes."""
    outcome: Outcome | None
    content: bytes | None
    """The output as JSON."""
    error: Json
    task_runs: tuple[SimulatedTaskRun, ...]
    """In the order in which they began."""
    seconds: float
    """What it took, by the clock of the simulation."""
    assumed: tuple[str, ...]
    """Tasks that ran although nobody said what they come to: they simply succeeded."""

    @property
    def output(self) -> Json:
        """What the run gives."""
        return load(self.content)

    @property
    def path(self) -> list[str]:
        """The visits in the order in which they began, by the names of their tasks."""
        return [run.name for run in self.task_runs if run.attempt == 1 and run.index is None]


def load(content: bytes | None) -> Json:
    """JSON that may not be there."""
    return None if content is None else orjson.loads(content)
