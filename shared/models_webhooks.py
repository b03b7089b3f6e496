"""The table of what is to be told to others: the outbox of webhooks."""

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from sqlalchemy import CheckConstraint, Index, String, Table, text
from sqlalchemy.dialects.postgresql import UUID
from sqlmodel import Field, SQLModel

from shared.columns import JsonText, UtcDateTime

_ID = String(36).with_variant(UUID(as_uuid=False), "postgresql")


class DeliveryState(StrEnum):
    """How far a delivery is."""

    PENDING = "pending"
    """From the end of the run until it is delivered or given up."""
    DELIVERED = "delivered"
    """The receiver said so. Final."""
    DEAD = "dead"
    """The receiver refused it, or all attempts are used up. Final."""


class WebhookDelivery(SQLModel, table=True):
    """One event for one receiver.

    The receiver's URL may hold a token and is not stored: the row names it by its digest.
    """

    __tablename__ = "webhook_delivery"
    __table__: ClassVar[Table]
    __table_args__ = (
        CheckConstraint("state IN ('pending', 'delivered', 'dead')", name="state_is_known"),
        CheckConstraint("(state = 'pending') = (ended_at IS NULL)", name="final_has_its_time"),
        # A run ends once, and so it is told to each receiver once.
        Index("webhook_delivery_of_run", "flow_run_id", "endpoint", unique=True),
        Index(
            "webhook_delivery_due",
            "endpoint",
            "next_at",
            sqlite_where=text("state = 'pending'"),
            postgresql_where=text("state = 'pending'"),
        ),
        Index("webhook_delivery_by_state", "state", "id"),
    )

    id: str = Field(primary_key=True, sa_type=_ID)
    event_id: str = Field(sa_type=_ID)
    """The same for all receivers of the event, and for all attempts."""
    flow_run_id: str = Field(sa_type=_ID)
    event_type: str
    endpoint: str = Field(max_length=16)
    host: str
    """Of the receiver, to be shown."""
    body: bytes = Field(sa_type=JsonText)
    state: DeliveryState = Field(sa_type=String(16))
    attempts: int = 0
    """Attempts begun; what an attempt records carries its number."""
    next_at: datetime = Field(sa_type=UtcDateTime)
    """When it is due: also again, should its sender die."""
    status_code: int | None = None
    """What the receiver answered last."""
    error: str | None = None
    """Why the last attempt failed."""
    created_at: datetime = Field(sa_type=UtcDateTime)
    ended_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
