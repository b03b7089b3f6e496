"""The table of schedules: what they start, when, and how far they have come.

Every change of a row counts its ``revision`` up, and whoever has decided by an earlier look
writes only where the row still is at that revision: so a leader that was deposed starts
nothing, and neither does one whose schedule was paused or changed a moment ago.
"""

from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import CheckConstraint, Index, String, Table, text
from sqlalchemy.dialects.postgresql import UUID
from sqlmodel import Field, SQLModel

from shared.columns import JsonText, UtcDateTime
from shared.cron import EPOCH, Cron, Interval, Schedule


def identifier() -> Any:
    return String(36).with_variant(UUID(as_uuid=False), "postgresql")


class ScheduleRow(SQLModel, table=True):
    """Starts runs of a stored definition."""

    __tablename__ = "schedule"
    __table__: ClassVar[Table]
    __table_args__ = (
        CheckConstraint("(cron IS NULL) <> (every_seconds IS NULL)", name="cron_or_interval"),
        CheckConstraint("overlap IN ('skip', 'queue', 'allow')", name="overlap_is_known"),
        CheckConstraint("paused = false OR look_at IS NULL", name="paused_is_not_looked_at"),
        Index(
            "schedule_to_look_at",
            "look_at",
            sqlite_where=text("look_at IS NOT NULL"),
            postgresql_where=text("look_at IS NOT NULL"),
        ),
        Index("schedule_by_flow", "flow_id", "id"),
    )

    id: str = Field(primary_key=True)
    flow_id: str
    version: int | None = None
    """Of the stored definition; the newest one where it is null."""
    input: bytes = Field(sa_type=JsonText)
    cron: str | None = None
    time_zone: str | None = None
    every_seconds: float | None = None
    start: datetime | None = Field(default=None, sa_type=UtcDateTime)
    overlap: str
    catch_up: bool
    paused: bool
    created_at: datetime = Field(sa_type=UtcDateTime)
    updated_at: datetime = Field(sa_type=UtcDateTime)
    """When somebody last changed what it is; its starts do not count."""
    revision: int = 1
    last_tick: datetime = Field(sa_type=UtcDateTime)
    """Up to here every tick has been dealt with."""
    waiting: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """The tick whose start waits until the run before it is over."""
    next_tick: datetime | None = Field(default=None, sa_type=UtcDateTime)
    look_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """When the leader looks at it: at its next tick, sooner while a start waits, never while it
    is paused."""
    started_tick: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """Of the last start: its tick; null where somebody started it by hand."""
    started_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    run_id: str | None = Field(default=None, sa_type=identifier())
    left_out_tick: datetime | None = Field(default=None, sa_type=UtcDateTime)
    left_out_reason: str | None = None
    error: str | None = None
    """Why its last start came to nothing; null after one that did not."""
    error_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


def timing(
    cron: str | None,
    time_zone: str | None,
    every_seconds: float | None,
    start: datetime | None,
) -> Schedule:
    """When a schedule fires, of the columns that say so."""
    if cron is not None:
        assert time_zone is not None, "a cron expression is read in a time zone"
        return Cron(cron, time_zone)
    assert every_seconds is not None, "what is no cron expression is an interval"
    return Interval(every_seconds, start or EPOCH)
