"""The tables of the workers: who is there, what they can run, and who leads."""

from datetime import datetime

from sqlalchemy import CheckConstraint, Index
from sqlmodel import Field

from shared.columns import JsonText, Model, UtcDateTime, identifier


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
