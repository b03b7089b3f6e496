"""The JSON of schedules, as models; used as those of ``api.shapes``."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field, JsonValue

from api.shapes import Shape
from shared.status import RunStatus


class ScheduleTiming(Shape):
    """What a schedule starts, and when: `cron` with its time zone, or `every`."""

    flow_id: Annotated[str, Field(min_length=1, max_length=200)]
    """The id of a stored definition."""
    version: Annotated[int, Field(ge=1)] | None = None
    """The newest one at each start where it is not given."""
    input: JsonValue = None
    """What each run is started with."""
    cron: str | None = None
    """Five fields: minute, hour, day of the month, month, day of the week; or `@daily` and such."""
    time_zone: str | None = None
    """A name of the IANA data base, in which `cron` is read; UTC where it is not given."""


class WantedSchedule(ScheduleTiming):
    """A schedule as it is sent."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,99}$")] | None = None
    """It gets one where it brings none."""
    every: float | str | None = None
    """In place of `cron`: seconds, or text such as `"5m"`."""
    start: datetime | None = None
    """The first tick of `every`; they are counted from it."""
    overlap: Literal["skip", "queue", "allow"] = "skip"
    """What becomes of a start that is due while the run before it goes on."""
    catch_up: bool = True
    """Whether the newest of the starts that were missed is made up for."""
    paused: bool | None = None
    """Where it is not given: as it is, and not for a new one."""


class ScheduledStart(Shape):
    """The last start of a schedule."""

    tick: datetime | None
    """Null where somebody started it by hand."""
    at: datetime
    flow_run_id: str
    status: RunStatus | None
    """Null where the run has been deleted."""


class LeftOutTick(Shape):
    """A tick that got no start."""

    tick: datetime
    reason: Literal["late", "running", "paused"]


class StartError(Shape):
    """Why a start came to nothing."""

    at: datetime
    message: str


class ScheduleLinks(Shape):
    """Where to go on from a schedule."""

    self: str
    trigger: str
    runs: str
    """The runs that it started, the newest first."""


class ScheduleSummary(ScheduleTiming):
    """A schedule as lists show it."""

    id: str
    every: float | None
    """Seconds."""
    start: datetime | None
    overlap: Literal["skip", "queue", "allow"]
    catch_up: bool
    paused: bool
    created_at: datetime
    updated_at: datetime
    """When somebody last changed it."""
    next_tick: datetime | None
    """Null while it is paused."""
    waiting: datetime | None
    """The tick whose start waits until the run before it is over."""
    last_start: ScheduledStart | None
    last_left_out: LeftOutTick | None
    last_error: StartError | None
    """Null after a start that did not fail."""
    links: ScheduleLinks


class Schedule(ScheduleSummary):
    """A schedule."""

    next_ticks: list[datetime]
    """The next five."""


class SchedulePage(Shape):
    """Some schedules by their ids."""

    schedules: list[ScheduleSummary]
    next_cursor: str | None


SCHEDULE_SHAPES: tuple[type[BaseModel], ...] = (
    WantedSchedule,
    Schedule,
    SchedulePage,
)
