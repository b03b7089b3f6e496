"""The tables: what is true about every run.

SQLModel declares them; the hot paths in ``shared.store`` write them as Core statements
through ``Model.__table__``. The schema repeats what the code relies on: states as CHECK
constraints, one task run for a visit's attempt as a unique index.

JSON that tasks and clients gave is kept as text of bytes that we have checked, because it is
handed on far more often than it is read. Times of the wall clock are UTC. *Lease times* are
seconds of the one clock that decides about leases (``shared.database.lease_clock``).
"""

from datetime import datetime

from sqlalchemy import (
    CheckConstraint,
    Index,
    String,
    text,
)
from sqlmodel import Field

from shared.columns import JsonText, Model, UtcDateTime, identifier, one_of
from shared.status import BranchState, Outcome, RunStatus, TaskRunStatus

NO_INDEX = -1
"""``task_run.item_index`` of a visit that is not an item of a list: NULLs are never equal,
and the unique index must see them as equal."""


class StoredDefinition(Model, table=True):
    """A definition by the hash of its content: a million runs of one store it once."""

    __tablename__ = "flow_definition"

    hash: str = Field(primary_key=True, max_length=64)
    content: bytes = Field(sa_type=JsonText)
    created_at: datetime = Field(sa_type=UtcDateTime)


class FlowRun(Model, table=True):
    """One run of a flow."""

    __tablename__ = "flow_run"
    __table_args__ = (
        one_of("status", RunStatus),
        CheckConstraint("(status = 'running') = (finished_at IS NULL)", name="final_has_its_time"),
        CheckConstraint("status <> 'completed' OR active = 0", name="completed_has_no_branch"),
        Index("flow_run_by_flow", "flow_id", "id"),
        Index("flow_run_by_status", "status", "id"),
        Index(
            "flow_run_by_finish",
            "finished_at",
            sqlite_where=text("finished_at IS NOT NULL"),
            postgresql_where=text("finished_at IS NOT NULL"),
        ),
        Index(
            "flow_run_by_deadline",
            "deadline",
            sqlite_where=text("deadline IS NOT NULL AND finished_at IS NULL"),
            postgresql_where=text("deadline IS NOT NULL AND finished_at IS NULL"),
        ),
        Index("flow_run_by_definition", "definition_hash"),
        Index("flow_run_by_key", "idempotency_key", unique=True),
        Index(
            "flow_run_to_announce",
            "finished_at",
            sqlite_where=text("to_announce = 1 AND finished_at IS NOT NULL"),
            postgresql_where=text("to_announce = 1 AND finished_at IS NOT NULL"),
        ),
        Index(
            "flow_run_by_schedule",
            "schedule_id",
            "id",
            sqlite_where=text("schedule_id IS NOT NULL"),
            postgresql_where=text("schedule_id IS NOT NULL"),
        ),
        Index(
            "flow_run_of_schedule",
            "schedule_id",
            sqlite_where=text("schedule_id IS NOT NULL AND finished_at IS NULL"),
            postgresql_where=text("schedule_id IS NOT NULL AND finished_at IS NULL"),
        ),
        Index(
            "flow_run_of_rerun",
            "rerun_of",
            sqlite_where=text("rerun_of IS NOT NULL"),
            postgresql_where=text("rerun_of IS NOT NULL"),
        ),
        Index(
            "flow_run_of_task_run",
            "parent_task_run_id",
            unique=True,
            sqlite_where=text("parent_task_run_id IS NOT NULL"),
            postgresql_where=text("parent_task_run_id IS NOT NULL"),
        ),
        Index(
            "flow_run_awaited",
            "parent_task_run_id",
            sqlite_where=text("parent_task_run_id IS NOT NULL AND finished_at IS NULL"),
            postgresql_where=text("parent_task_run_id IS NOT NULL AND finished_at IS NULL"),
        ),
    )

    id: str = Field(primary_key=True, sa_type=identifier())
    flow_id: str
    name: str = ""
    definition_hash: str = Field(max_length=64)
    status: RunStatus = Field(sa_type=String(16))
    outcome: Outcome | None = Field(default=None, sa_type=String(16))
    input: bytes | None = Field(default=None, sa_type=JsonText)
    output: bytes | None = Field(default=None, sa_type=JsonText)
    error: bytes | None = Field(default=None, sa_type=JsonText)
    tags: bytes = Field(default=b"[]", sa_type=JsonText)
    active: int = 1
    """Branches that have not ended."""
    failed: int = 0
    """Branches that ended after a failure."""
    task_runs: int = 1
    """Visits begun, against ``max_task_runs``; kept up only where the run could pass it."""
    idempotency_key: str | None = None
    request_hash: str | None = None
    created_at: datetime = Field(sa_type=UtcDateTime)
    started_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    finished_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    deadline: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """When it fails if it is not over by then."""
    to_announce: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    """1 while its end has still to be put into the outbox of webhooks."""
    parent_flow_run_id: str | None = Field(default=None, sa_type=identifier())
    """Of a sub-flow's run: the run that started it."""
    parent_task_run_id: str | None = Field(default=None, sa_type=identifier())
    """Of a sub-flow's run: the task run that waits for it."""
    depth: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    """How many runs stand above it."""
    rerun_of: str | None = Field(default=None, sa_type=identifier())
    """The run whose recorded results it keeps."""
    rerun: bytes | None = Field(default=None, sa_type=JsonText)
    """Which of them it keeps (``shared.replay``); None where it keeps none."""
    ending: bytes | None = Field(default=None, sa_type=JsonText)
    """How it will have ended, while compensations and its last task still run."""
    concurrency_key: str | None = None
    """What its flow's concurrency counts it under."""
    schedule_id: str | None = None
    """The schedule that started it."""


class Branch(Model, table=True):
    """One path of a run from a fork on: the unit of scheduling, with its lease."""

    __tablename__ = "branch"
    __table_args__ = (
        one_of("state", BranchState),
        CheckConstraint("(state = 'running') = (worker_id IS NOT NULL)", name="running_is_held"),
        Index("branch_by_run", "flow_run_id", "task"),
        Index(
            "branch_held",
            "worker_id",
            sqlite_where=text("worker_id IS NOT NULL"),
            postgresql_where=text("worker_id IS NOT NULL"),
        ),
        Index(
            "branch_of_item",
            "parent_id",
            "item_index",
            sqlite_where=text("parent_id IS NOT NULL"),
            postgresql_where=text("parent_id IS NOT NULL"),
        ),
        Index(
            "branch_to_wake",
            "wake_at",
            sqlite_where=text("wake_at IS NOT NULL"),
            postgresql_where=text("wake_at IS NOT NULL"),
        ),
    )

    id: str = Field(primary_key=True, sa_type=identifier())
    flow_run_id: str = Field(sa_type=identifier())
    path: str
    """Readable, e.g. ``main/split:resize``."""
    state: BranchState = Field(sa_type=String(16))
    task: str
    """Where it stands: the task it runs, is ready to run, or waits at."""
    task_type: str
    queue: str = "default"
    priority: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    iteration: int = 1
    attempt: int = 0
    """Attempts started at this visit."""
    failed_attempts: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    """Attempts at this visit that went wrong, against its retry policy."""
    previous_id: str | None = Field(default=None, sa_type=identifier())
    """The task run before this one in the branch."""
    task_run_id: str | None = Field(default=None, sa_type=identifier())
    """The open task run: running, or waiting to be woken."""
    joined_by: str | None = Field(default=None, sa_type=identifier())
    """The task run of the join that this branch was merged into or, while it is the one that
    runs the join, of its visit there."""
    tracked: bool = False
    """Whether it is in the books of the joins: every branch but a run's first."""
    claim: int = 0
    """Counted up whenever the holder changes; every write about the branch carries it."""
    worker_id: str | None = Field(default=None, sa_type=identifier())
    losses: int = 0
    """Workers that were lost while they ran this visit."""
    ready_at: float = 0
    """Lease time since when it is ready."""
    wake_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    signal: str | None = None
    """The signal that its open task run waits for, or waited for."""
    parent_id: str | None = Field(default=None, sa_type=identifier())
    """Of a branch that runs one item of a list: the branch that waits for all of them."""
    item_index: int = Field(default=NO_INDEX, sa_column_kwargs={"server_default": "-1"})
    item: bytes | None = Field(default=None, sa_type=JsonText)
    item_count: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    """How many items its visit has; of a branch that waits for them, as the next two."""
    items_left: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    items_failed: int = Field(default=0, sa_column_kwargs={"server_default": "0"})


# In the order in which a pool's workers claim; written as columns, so that a comparison with the
# database can read it.
Index(
    "branch_ready",
    Branch.__table__.c.queue,
    Branch.__table__.c.priority.desc(),
    Branch.__table__.c.ready_at,
    sqlite_where=text("state = 'ready'"),
    postgresql_where=text("state = 'ready'"),
)


class Join(Model, table=True):
    """The books of one join of one run, kept from the run's first fork on."""

    __tablename__ = "join"
    __table_args__ = (CheckConstraint("arrived >= 0 AND missed >= 0", name="counts_hold"),)

    flow_run_id: str = Field(primary_key=True, sa_type=identifier())
    task: str = Field(primary_key=True)
    upstream: int = 0
    arrived: int = 0
    missed: int = 0
    fired: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    """1 where it went on early and others can still come."""


class Compensation(Model, table=True):
    """What a run in its ending has still to undo. Rows go when their turn has come."""

    __tablename__ = "compensation"

    flow_run_id: str = Field(primary_key=True, sa_type=identifier())
    position: int = Field(primary_key=True)
    """The lowest is next."""
    task: str
    """The task that undoes."""
    undoes: str = Field(sa_type=identifier())
    """The task run that it undoes."""
    path: str
    """What its branch is called meanwhile."""


class TaskRun(Model, table=True):
    """One attempt at one visit of a task."""

    __tablename__ = "task_run"
    __table_args__ = (
        one_of("status", TaskRunStatus),
        CheckConstraint(
            "(status IN ('running', 'waiting')) = (finished_at IS NULL)",
            name="final_has_its_time",
        ),
        Index(
            "task_run_of_visit",
            "flow_run_id",
            "task",
            "iteration",
            "item_index",
            "attempt",
            unique=True,
        ),
    )

    id: str = Field(primary_key=True, sa_type=identifier())
    flow_run_id: str = Field(sa_type=identifier())
    branch_id: str = Field(sa_type=identifier())
    branch: str
    """The branch's path at that time."""
    task: str
    task_type: str
    iteration: int = 1
    item_index: int = NO_INDEX
    attempt: int = 1
    previous_id: str | None = Field(default=None, sa_type=identifier())
    """The task run that its branch came from; of a join, that of the branch which went on."""
    status: TaskRunStatus = Field(sa_type=String(16))
    reason: str | None = None
    data: bytes | None = Field(default=None, sa_type=JsonText)
    error: bytes | None = Field(default=None, sa_type=JsonText)
    worker_id: str | None = Field(default=None, sa_type=identifier())
    started_at: datetime = Field(sa_type=UtcDateTime)
    finished_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    position: int | None = None
    """Its place among the results of its run, where they may have to be undone in reverse: no
    clock of a host tells that for sure. Of two of which one followed from the other, the later
    one has the higher."""


class SignalRow(Model, table=True):
    """A signal that was sent to a run, kept until a task waits for it."""

    __tablename__ = "signal"
    __table_args__ = (
        Index("signal_of_run", "flow_run_id", "name"),
        Index("signal_by_key", "flow_run_id", "idempotency_key", unique=True),
        Index("signal_by_task_run", "task_run_id"),
    )

    id: str = Field(primary_key=True, sa_type=identifier())
    flow_run_id: str = Field(sa_type=identifier())
    name: str
    data: bytes | None = Field(default=None, sa_type=JsonText)
    idempotency_key: str | None = None
    received_at: datetime = Field(sa_type=UtcDateTime)
    task_run_id: str | None = Field(default=None, sa_type=identifier())
    """The task run whose wait it ended."""


class LogLine(Model, table=True):
    """One line that a task logged."""

    __tablename__ = "log_line"
    __table_args__ = (Index("log_line_of_run", "flow_run_id", "id"),)

    id: str = Field(primary_key=True, sa_type=identifier())
    flow_run_id: str = Field(sa_type=identifier())
    task_run_id: str = Field(sa_type=identifier())
    task: str
    at: datetime = Field(sa_type=UtcDateTime)
    level: str
    message: str


class WorkerRow(Model, table=True):
    """A worker process, from its start until it left or was lost."""

    __tablename__ = "worker"
    __table_args__ = (
        CheckConstraint("state IN ('live', 'stopping', 'stopped', 'lost')", name="state_is_known"),
        Index("worker_by_state", "state"),
    )

    id: str = Field(primary_key=True, sa_type=identifier())
    host: str
    pid: int
    version: str
    queues: bytes = Field(sa_type=JsonText)
    concurrency: int
    state: str
    heartbeat: float
    """Lease time of the last sign of life."""
    started_at: datetime = Field(sa_type=UtcDateTime)
    seen_at: datetime = Field(sa_type=UtcDateTime)
    stopped_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class TaskType(Model, table=True):
    """A task type that a worker can run, as it told when it started."""

    __tablename__ = "task_type"

    worker_id: str = Field(primary_key=True, sa_type=identifier())
    name: str = Field(primary_key=True)
    description: str = ""
    params_schema: bytes | None = Field(default=None, sa_type=JsonText)
    source: str = ""


class Lease(Model, table=True):
    """Who may do what only one may do: at present the upkeep, ``leader``."""

    __tablename__ = "lease"

    name: str = Field(primary_key=True)
    holder: str | None = Field(default=None, sa_type=identifier())
    expires: float
    """Lease time."""


class DefinitionVersion(Model, table=True):
    """A definition that was stored under its flow's id, as one version of many."""

    __tablename__ = "definition_version"
    __table_args__ = (
        CheckConstraint("version >= 1", name="version_counts_from_one"),
        Index("definition_version_by_hash", "hash"),
    )

    flow_id: str = Field(primary_key=True)
    version: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    hash: str = Field(max_length=64)
    created_at: datetime = Field(sa_type=UtcDateTime)
    deleted_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """Since when new runs cannot start it."""
