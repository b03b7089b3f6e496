"""Deliveries of webhooks, to be shown."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select

from shared.models_webhooks import DeliveryState, WebhookDelivery
from shared.queries.rows import AnyRow

deliveries = WebhookDelivery.__table__


@dataclass(frozen=True, slots=True)
class DeliveryPage:
    """Some deliveries, the newest first."""

    rows: Sequence[AnyRow]
    next_cursor: str | None


def list_deliveries(
    connection: Connection, state: DeliveryState, after: str | None, limit: int
) -> DeliveryPage:
    """The deliveries in a state, a page at a time."""
    statement = (
        select(
            deliveries.c.id,
            deliveries.c.event_id,
            deliveries.c.event_type,
            deliveries.c.flow_run_id,
            deliveries.c.host,
            deliveries.c.state,
            deliveries.c.attempts,
            deliveries.c.status_code,
            deliveries.c.error,
            deliveries.c.created_at,
            deliveries.c.next_at,
            deliveries.c.ended_at,
        )
        .where(deliveries.c.state == state)
        .order_by(deliveries.c.id.desc())
        .limit(limit + 1)
    )
    if after is not None:
        statement = statement.where(deliveries.c.id < after)
    rows = connection.execute(statement).all()
    return DeliveryPage(rows[:limit], rows[limit - 1].id if len(rows) > limit else None)
