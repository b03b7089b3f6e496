"""The facts of why a run stands still: one frozen dataclass for each reason.

What they mean is said by ``shared.explanation``; where they come from, by
``shared.queries.explain``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from shared.durations import Rate
from shared.status import Outcome, RunStatus


@dataclass(frozen=True, slots=True)
class Place:
    """A branch and the task at which it stands."""

    branch: str
    task: str


@dataclass(frozen=True, slots=True)
class Ready:
    """A branch that any fitting worker may take."""

    place: Place
    task_type: str
    queue: str
    ahead: int
    """Ready branches of the queue that go before it."""
    queue_workers: int
    queue_slots: int
    able_workers: int
    """Workers of the queue that can run the type."""
    losses: int
    max_losses: int


@dataclass(frozen=True, slots=True)
class Running:
    """A branch that a worker holds."""

    place: Place
    worker: str
    host: str
    since: datetime | None
    silent_seconds: float
    """Since the worker's last heartbeat."""
    rescue_seconds: float
    """Until it counts as lost; less than nothing where that is overdue."""
    is_late: bool


@dataclass(frozen=True, slots=True)
class Sleeping:
    """A visit that asked to be woken."""

    place: Place
    wake_at: datetime
    seconds: float


@dataclass(frozen=True, slots=True)
class Retrying:
    """A visit that waits for its next attempt."""

    place: Place
    attempt: int
    max_attempts: int
    wake_at: datetime
    seconds: float


@dataclass(frozen=True, slots=True)
class ForSignal:
    """A visit that waits for a signal, for ever or until a time."""

    place: Place
    signal: str
    wake_at: datetime | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class ForItems:
    """A visit that waits for the items of its list."""

    place: Place
    count: int
    left: int
    failed: int


@dataclass(frozen=True, slots=True)
class ForRun:
    """A visit that waits for the run of a sub-flow."""

    place: Place
    flow_run_id: str
    flow_id: str
    status: RunStatus


@dataclass(frozen=True, slots=True)
class HeldBack:
    """An item that waits for others of its list to end."""

    place: Place
    concurrency: int | None


@dataclass(frozen=True, slots=True)
class InLine:
    """A visit, or a whole run, that waits for its turn under a limit."""

    place: Place
    key: str
    ahead: int
    """Who stands before it in the line."""
    in_use: int
    concurrency: int | None
    rate: Rate | None
    next_seconds: float | None
    """Until the first in line may start, where nothing but the rate holds it back."""
    holders: Sequence[str]
    """Runs that have the places, the oldest first."""
    is_run: bool
    """Whether the whole run waits for others of its flow."""


@dataclass(frozen=True, slots=True)
class AtJoin:
    """A branch that waits where others may still come."""

    place: Place
    waits_for: Sequence[Place]
    arrived: int
    missed: int
    needed: int | None
    """How many arrivals start the join's task; None where it waits for all."""


@dataclass(frozen=True, slots=True)
class InEnding:
    """A run that undoes what it did, or runs its last task."""

    status: RunStatus
    """What it will be; likewise the next."""
    outcome: Outcome | None
    error_type: str | None
    left: int
    """Compensations that have not begun."""
    failed: int
    last: str | None
    """The last task, where it has not begun."""


@dataclass(frozen=True, slots=True)
class Over:
    """A run with its final status."""

    status: RunStatus
    outcome: Outcome | None
    finished_at: datetime | None
    task: str | None
    error_type: str | None
    error: str | None


@dataclass(frozen=True, slots=True)
class JoinNotRun:
    """A join of a run that is over to which branches came, or failed to come, in vain."""

    task: str
    arrived: int
    missed_by: Sequence[Place]
    why: Literal["stopped", "missed", "unmet"]
    """The run ended before the join was decided; failures missed it; or too few could come,
    which is what ended the run."""
    needed: int | None = None
    """How many arrivals start the join's task; None where it waits for all."""


_OfBranch: TypeAlias = (
    Ready | Running | Sleeping | Retrying | ForSignal | ForItems | ForRun | HeldBack | InLine
)
Fact: TypeAlias = _OfBranch | AtJoin | InEnding | Over | JoinNotRun
