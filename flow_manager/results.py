"""What the service answers, typed: runs, their tasks, pages of runs.

Unknown fields are kept, so that a client that is older than the service still hands on all
that was sent.
"""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from shared.status import Outcome, RunStatus, TaskRunStatus


class _Answer(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)

    def to_json(self) -> dict[str, JsonValue]:
        """The answer as it came."""
        document: dict[str, JsonValue] = self.model_dump(mode="json", exclude_unset=True)
        return document


class TaskError(_Answer):
    """What a task raised."""

    type: str = ""
    message: str = ""
    traceback: str | None = None
    task: str | None = None
    """The task that raised; given where the error is the run's."""


class TaskRunResult(_Answer):
    """One attempt at one visit of a task."""

    task_run_id: str
    name: str
    type: str = ""
    branch: str = "main"
    """A readable path: ``main``, ``main/split:resize``."""
    iteration: int = 1
    index: int | None = None
    attempt: int = 1
    status: TaskRunStatus
    success: bool | None = None
    data: JsonValue = None
    error: TaskError | None = None
    reason: str | None = None
    """Why it did not simply succeed."""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    duration_ms: float | None = None
    worker: str | None = None
    child_flow_run_id: str | None = None


class LogLine(_Answer):
    """A line that a task logged."""

    at: datetime
    level: str
    task: str | None = None
    message: str


class RunEnding(_Answer):
    """What a run will come to when what it has to undo, and its last task, are over."""

    status: RunStatus
    outcome: Outcome | None = None
    error: TaskError | None = None


class RunSummary(_Answer):
    """A run as lists show it."""

    flow_run_id: str
    flow_id: str
    name: str = ""
    status: RunStatus
    outcome: Outcome | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    duration_ms: float | None = None
    rerun_of: str | None = None
    schedule_id: str | None = None
    """The schedule that started it."""
    """The run that it runs again."""

    @property
    def is_over(self) -> bool:
        """Whether the run has its final status."""
        return self.status is not RunStatus.RUNNING

    @property
    def is_success(self) -> bool:
        """Whether it completed and every branch ended after a success."""
        return self.status is RunStatus.COMPLETED and self.outcome is Outcome.SUCCESS


class Run(RunSummary):
    """A run with its tasks, logs and results."""

    input: JsonValue = None
    output: JsonValue = None
    error: TaskError | None = None
    ending: RunEnding | None = None
    """Of a run in its ending, which is still running."""
    path: list[str] = []
    tasks: list[TaskRunResult] = []
    tasks_truncated: bool = False
    """Whether there are more tasks than were sent."""
    logs: list[LogLine] = []
    definition: JsonValue = None


class StandingReason(_Answer):
    """Why something of a run does not move."""

    code: str
    branch: str | None = None
    task: str | None = None
    message: str
    data: dict[str, JsonValue] = {}


class DefinitionVersion(_Answer):
    """One version of a stored definition."""

    flow_id: str
    version: int
    hash: str
    created_at: datetime
    warnings: list[dict[str, JsonValue]] = Field(default_factory=list)
    """What was found doubtful when it was put."""


class Definition(DefinitionVersion):
    """A stored definition."""

    definition: dict[str, JsonValue]


class ScheduledStart(_Answer):
    """The last start of a schedule."""

    tick: datetime | None = None
    """None where somebody started it by hand."""
    at: datetime
    flow_run_id: str
    status: RunStatus | None = None
    """None where the run has been deleted."""


class LeftOutTick(_Answer):
    """A tick that got no start."""

    tick: datetime
    reason: str


class StartError(_Answer):
    """Why a start came to nothing."""

    at: datetime
    message: str


class Schedule(_Answer):
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


class SchedulePage(_Answer):
    """Some schedules by their ids."""

    schedules: list[Schedule]
    next_cursor: str | None = None


class Explanation(_Answer):
    """Why a run stands where it does."""

    flow_run_id: str
    status: RunStatus
    summary: str
    reasons: list[StandingReason] = []
    more: int = 0
    """Open branches beyond those that are told about."""


class Submitted(_Answer):
    """An accepted run."""

    flow_run_id: str
    flow_id: str = ""
    status: RunStatus


class Problem(_Answer):
    """What is wrong with a request (RFC 9457)."""

    title: str = ""
    status: int = 0
    detail: str | None = None
    errors: list[dict[str, JsonValue]] = []
