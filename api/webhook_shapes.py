"""Deliveries of webhooks as JSON, as models: for the OpenAPI document and for tests."""

from datetime import datetime

from pydantic import BaseModel

from api.shapes import Shape
from shared.models_webhooks import DeliveryState


class Webhook(Shape):
    """An event for one receiver."""

    webhook_id: str
    """The event's id, the same for all its receivers."""
    type: str
    flow_run_id: str
    host: str
    """Of the receiver; its URL, which may hold a token, is not stored."""
    state: DeliveryState
    attempts: int
    status_code: int | None
    """What the receiver answered last."""
    error: str | None
    """Why the last attempt failed."""
    created_at: datetime
    next_at: datetime | None
    """When it is due, while it is pending."""
    ended_at: datetime | None


class WebhookPage(Shape):
    """Some deliveries, the newest first."""

    webhooks: list[Webhook]
    next_cursor: str | None


WEBHOOK_SHAPES: tuple[type[BaseModel], ...] = (WebhookPage,)
"""What the operations name."""
