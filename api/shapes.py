"""The JSON that goes in and out, as models: for the OpenAPI document and for tests.

Nothing is converted by them at run time: bodies are judged by ``shared.validation``, answers
are built by ``api.representations``. The tests hold the answers against these models.
"""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from shared.definition import FlowDefinition
from shared.status import Outcome, RunStatus, TaskRunStatus


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class SubmittedFlow(Shape):
    """A definition and the input of its run."""

    flow: FlowDefinition
    input: JsonValue = None
    """Any JSON; tasks read it as `context.input`."""


class SubmittedId(Shape):
    """A stored definition to be run, and the input of its run."""

    flow_id: Annotated[str, Field(min_length=1, max_length=200)]
    version: Annotated[int, Field(ge=1)] | None = None
    """The newest where it is not given."""
    input: JsonValue = None


class Rerun(Shape):
    """What a new run is to keep of one that is over, and what it has otherwise."""

    from_: Annotated[str, Field(alias="from", min_length=1)] = "failed"
    """`start`: nothing is kept. `failed`: everything but what ended badly, and what comes after
    it. A task: everything but its visits, and what comes after them."""
    input: JsonValue = None
    """Of the new run; left out, that of the old one."""
    definition: Literal["same", "latest"] | FlowDefinition = "same"
    """The definition of the old run, the newest that is stored for its flow, or a corrected one.
    Tasks whose `type`, `params` or `for_each` it changes are run again."""


class Links(Shape):
    """Where to go on from a run."""

    self: str
    tasks: str
    cancel: str


class AcceptedRun(Shape):
    """A run that was accepted, or cancelled."""

    flow_run_id: str
    flow_id: str
    status: RunStatus
    links: Links


class RunError(Shape):
    """Why a run failed: what its task raised, or the limit it passed."""

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)

    type: str
    message: str
    task: str | None = None
    traceback: str | None = None


class TaskRun(Shape):
    """One attempt at one visit of a task."""

    task_run_id: str
    name: str
    type: str
    branch: str
    """A readable path: `main`, `main/split:resize`."""
    iteration: int
    """Counts the visits of this task in the run, from 1."""
    index: int | None
    """The item's place, for an item of a list."""
    attempt: int
    status: TaskRunStatus
    success: bool | None
    """What the task said; null while it runs, and where it raised or was cancelled."""
    reason: str | None
    """Why it did not simply succeed."""
    data: JsonValue
    error: RunError | None
    """Filled by an exception only."""
    started_at: datetime
    finished_at: datetime | None
    duration_ms: float | None
    worker: str | None
    child_flow_run_id: str | None
    """Of a task of type `flow`: the run that it waited for."""


class LogLine(Shape):
    """One line that a task logged."""

    at: datetime
    level: str
    task: str
    message: str


class RunSummary(Shape):
    """A run as lists show it."""

    flow_run_id: str
    flow_id: str
    name: str
    status: RunStatus
    outcome: Outcome | None
    """Whether every branch ended after a success; null while it runs."""
    error: RunError | None
    tags: list[str]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    duration_ms: float | None
    rerun_of: str | None
    """The run that it runs again."""
    schedule_id: str | None
    """The schedule that started it."""
    links: Links


class RunEnding(Shape):
    """What a run will come to when what it has to undo, and its last task, are over."""

    status: RunStatus
    outcome: Outcome | None
    error: RunError | None


class Run(RunSummary):
    """A run with everything that belongs to it."""

    input: JsonValue
    output: JsonValue
    ending: RunEnding | None
    """Of a run in its ending, which is still `running`: what it will come to."""
    path: list[str]
    """The way the run took: a task's name for each visit, without further attempts at one and
    without the items of lists."""
    tasks: list[TaskRun]
    """In the order of their start; the first 1,000."""
    tasks_truncated: bool
    """Whether there are more, at `links.tasks`."""
    logs: list[LogLine]
    """The last 1,000."""
    logs_truncated: bool
    definition: JsonValue
    parent_flow_run_id: str | None


class RunPage(Shape):
    """Some runs."""

    flows: list[RunSummary]
    next_cursor: str | None
    """Give it as `cursor` to get the next page; null on the last one."""


class TaskRunPage(Shape):
    """Some task runs."""

    tasks: list[TaskRun]
    next_cursor: str | None


class Finding(Shape):
    """One thing wrong, or doubtful."""

    pointer: str
    """RFC 6901 pointer into the body; `/query/NAME` or `/header/NAME` for a parameter."""
    code: str
    message: str
    suggestion: str | None
    offset: int = 0
    """Where in the string, in characters, for a finding about an expression; else left out."""


class GraphTask(Shape):
    """A task that can be reached."""

    name: str
    type: str
    is_join: bool
    """Whether branches meet here."""


class GraphEdge(Shape):
    """Who can follow whom."""

    source: str
    target: str
    outcome: Outcome
    is_back_edge: bool
    """Whether it leads to an earlier task, so that a loop closes."""


class FlowGraph(Shape):
    """What a definition means."""

    start_task: str
    tasks: list[GraphTask]
    edges: list[GraphEdge]


class Verdict(Shape):
    """What can be said about a definition without running it."""

    valid: bool
    errors: list[Finding]
    warnings: list[Finding]
    graph: FlowGraph | None


class TaskType(Shape):
    """A registered task type."""

    name: str
    description: str
    params_schema: JsonValue
    """JSON Schema of `params`; null where anything goes."""
    source: str
    workers: int
    """Live workers that run it."""


class TaskTypeList(Shape):
    """The registered task types."""

    tasks: list[TaskType]


class Worker(Shape):
    """A worker process."""

    worker_id: str
    host: str
    pid: int
    version: str
    queues: list[str]
    state: Literal["live", "stopping", "stopped", "lost"]
    running: int
    """Branches that it runs now."""
    concurrency: int
    """Branches that it can run at a time."""
    started_at: datetime
    seen_at: datetime
    stopped_at: datetime | None


class WorkerList(Shape):
    """Worker processes."""

    workers: list[Worker]


class Queue(Shape):
    """A pool of workers."""

    queue: str
    depth: int
    """Branches that wait for one of its workers."""


class Throughput(Shape):
    """Runs that ended lately."""

    window_seconds: float
    finished: int
    finished_per_second: float


class Percentiles(Shape):
    """From accepted to finished."""

    p50: float
    p95: float
    p99: float


class Stats(Shape):
    """The figures of the whole installation, at most two seconds old."""

    runs: dict[RunStatus, int]
    branches: dict[Literal["ready", "running", "waiting"], int]
    queues: list[Queue]
    oldest_ready_seconds: float | None
    """How long the branch waits for a worker that waits longest."""
    workers: dict[Literal["live", "stopping"], int]
    throughput: Throughput
    duration_ms: Percentiles | None


class Alive(Shape):
    """The process answers."""

    status: Literal["alive"]


class Ready(Shape):
    """Runs can be accepted."""

    status: Literal["ready", "degraded"]
    """`degraded`: Redis is away, and runs start up to a second later."""
    checks: dict[Literal["database", "redis"], Literal["ok", "unreachable"]]


class StandingReason(Shape):
    """Why something of a run does not move."""

    code: str
    branch: str | None
    """Null where it is about the whole run."""
    task: str | None
    message: str
    """A sentence."""
    data: dict[str, JsonValue]
    """What the sentence tells, as values."""


class Explanation(Shape):
    """Why a run stands where it does."""

    flow_run_id: str
    status: RunStatus
    summary: str
    reasons: list[StandingReason]
    """For each of at most 100 open branches."""
    more: int
    """Open branches beyond those."""


class Problem(Shape):
    """RFC 9457 problem details."""

    type: str
    title: str
    status: int
    detail: str
    errors: Annotated[list[Finding], Field(max_length=20)]
    line: int | None = None
    """Of a body that is not JSON."""
    column: int | None = None
    flow_run_id: str | None = None
    """Of a run that is refused because of the concurrency of its flow: the oldest that runs."""


SHAPES: tuple[type[BaseModel], ...] = (
    SubmittedFlow,
    SubmittedId,
    Rerun,
    FlowDefinition,
    AcceptedRun,
    Run,
    RunPage,
    TaskRunPage,
    Explanation,
    Verdict,
    TaskTypeList,
    WorkerList,
    Stats,
    Alive,
    Ready,
    Problem,
)
"""What the operations name; what these consist of comes with them."""
