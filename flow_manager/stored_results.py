"""What the service answers about stored definitions and schedules, typed as its runs are."""

from datetime import datetime

from pydantic import Field, JsonValue

from flow_manager.results import Answer
from shared.status import RunStatus


class DefinitionSummary(Answer):
    """A version of a flow."""

    flow_id: str
    version: int
    """Counted from 1; no number is given twice."""
    hash: str = ""
    created_at: datetime | None = None


class StoredVersion(DefinitionSummary):
    """The newest version of a flow after it was put."""

    warnings: list[dict[str, JsonValue]] = Field(default_factory=list)
    """What is doubtful about the definition."""
    created: bool = True
    """False where the newest version had this content already."""


class Definition(DefinitionSummary):
    """A version of a flow, with what it is."""

    definition: JsonValue = None


class DefinitionPage(Answer):
    """Some flows by their ids, each with its newest version."""

    definitions: list[DefinitionSummary]
    next_cursor: str | None = None


class VersionPage(Answer):
    """Some versions of a flow, the newest first."""

    versions: list[DefinitionSummary]
    next_cursor: str | None = None


class ScheduledStart(Answer):
    """The last start of a schedule."""

    tick: datetime | None = None
    """None where somebody started it by hand."""
    at: datetime
    flow_run_id: str
    status: RunStatus | None = None
    """None where the run has been deleted."""


class LeftOutTick(Answer):
    """A tick that got no start."""

    tick: datetime
    reason: str


class StartError(Answer):
    """Why a start came to nothing."""

    at: datetime
    message: str


class Schedule(Answer):
    """Starts runs of a stored definition by the clock."""

    id: str
    flow_id: str
    version: int | None = None
    """None for the newest one at each start."""
    input: JsonValue = None
    cron: str | None = None
    time_zone: str | None = None
    every: float | None = None
    """Seconds."""
    start: datetime | None = None
    overlap: str = "skip"
    catch_up: bool = True
    paused: bool = False
    next_tick: datetime | None = None
    next_ticks: list[datetime] = Field(default_factory=list)
    """The next five; lists show only the next one."""
    waiting: datetime | None = None
    """The tick whose start waits until the run before it is over."""
    last_start: ScheduledStart | None = None
    last_left_out: LeftOutTick | None = None
    last_error: StartError | None = None


class SchedulePage(Answer):
    """Some schedules by their ids."""

    schedules: list[Schedule]
    next_cursor: str | None = None
