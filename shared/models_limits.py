"""The tables of limits: what counts together, who holds a place, who waits for one.

A *limiter* is the row of one key, and its lock is the lock of everything that is counted under
that key. A *place* belongs to the visit of a branch, or to a run, and never to a worker: it is
kept when a worker is lost. How many are in use is counted, not added up, so that no number can
drift from the truth.
"""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import BigInteger, CheckConstraint, Index, String, text
from sqlmodel import Field

from shared.columns import Model, UtcDateTime, identifier, one_of


class PlaceState(StrEnum):
    """Where one who asked for a place stands. All but the first have one."""

    WAITING = "waiting"
    """In line. Left when it is called, or its branch ends."""
    CALLED = "called"
    """The place is its own and its branch is ready; a visit has not begun yet. A run whose turn
    came stays so to its end."""
    RUNNING = "running"
    """Its visit, or its run, has begun."""
    ASLEEP = "asleep"
    """Its visit went to sleep and keeps the place: it is resumed, and not begun again."""


class Limiter(Model, table=True):
    """One key."""

    __tablename__ = "limiter"
    __table_args__ = (
        Index(
            "limiter_by_next_start",
            "next_at",
            sqlite_where=text("next_at IS NOT NULL"),
            postgresql_where=text("next_at IS NOT NULL"),
        ),
        Index("limiter_by_expiry", "expires_at"),
    )

    id: str = Field(primary_key=True, max_length=64)
    key: str
    """As it may be shown."""
    arrivals: int = Field(default=0, sa_type=BigInteger)
    """Who asked, counted."""
    starts: int = Field(default=0, sa_type=BigInteger)
    """Starts that count against a rate."""
    kept_starts: int = 0
    """The most that any rate under this key looks back to."""
    last_start: datetime | None = Field(default=None, sa_type=UtcDateTime)
    next_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """When the first in line may start, where nothing but a rate holds it back."""
    expires_at: datetime = Field(sa_type=UtcDateTime)
    """Until when its starts mean something; without places it is deleted then."""


class LimitStart(Model, table=True):
    """One start that counts against a rate."""

    __tablename__ = "limit_start"

    limiter_id: str = Field(primary_key=True, max_length=64)
    number: int = Field(
        primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False}
    )
    at: datetime = Field(sa_type=UtcDateTime)


class LimitPlace(Model, table=True):
    """A place under a key, or a place in its line."""

    __tablename__ = "limit_place"
    __table_args__ = (
        one_of("state", PlaceState),
        CheckConstraint("concurrency IS NULL OR concurrency >= 1", name="concurrency_is_some"),
        Index("limit_place_in_line", "limiter_id", "state", "arrived_at", "number"),
        Index("limit_place_of_run", "flow_run_id"),
    )

    holder: str = Field(primary_key=True, sa_type=identifier())
    """The branch whose visit it is, or the run."""
    limiter_id: str = Field(max_length=64)
    number: int = Field(sa_type=BigInteger)
    """Which one it was to ask."""
    arrived_at: datetime = Field(sa_type=UtcDateTime)
    """When its branch was ready, or its run submitted: the order of the line. Workers race to
    ask for those that are ready, and none shall lose its turn to that."""
    state: PlaceState = Field(sa_type=String(16))
    branch_id: str = Field(sa_type=identifier())
    """The branch that goes on when it is called: the holder itself, or a run's first."""
    flow_run_id: str = Field(sa_type=identifier())
    task: str | None = None
    """The task that the visit is of; None for a run."""
    concurrency: int | None = None
    """What the one who asked allows, as the next two."""
    rate_count: int | None = None
    rate_seconds: float | None = None
