"""The deliveries of webhooks: which are under way, and which were given up."""

from typing import Annotated

from fastapi import Query
from starlette.requests import Request
from starlette.responses import Response

from api.answers import json_answer
from api.operations import LIST_WEBHOOKS
from api.parameters import Cursor, Limit
from api.representations import dump
from api.resources import resources_of
from api.strict_routes import strict_router
from shared.models_webhooks import DeliveryState
from shared.queries.webhooks import DeliveryPage, list_deliveries

router = strict_router()


@router.get("/webhooks", response_model=None, **LIST_WEBHOOKS)
async def list_webhooks(
    request: Request,
    state: Annotated[
        DeliveryState,
        Query(description="Deliveries in this state; without it those that were given up."),
    ] = DeliveryState.DEAD,
    cursor: Cursor = None,
    limit: Limit = None,
) -> Response:
    """Deliveries of webhooks, the newest first."""
    resources = resources_of(request)
    size = limit or resources.settings.page_size
    page = await resources.reader.call(list_deliveries, state, cursor, size)
    return json_answer(_document(page))


def _document(page: DeliveryPage) -> bytes:
    return dump(
        {
            "webhooks": [
                {
                    "webhook_id": row.event_id,
                    "type": row.event_type,
                    "flow_run_id": row.flow_run_id,
                    "host": row.host,
                    "state": row.state,
                    "attempts": row.attempts,
                    "status_code": row.status_code,
                    "error": row.error,
                    "created_at": row.created_at,
                    "next_at": row.next_at if row.state == DeliveryState.PENDING else None,
                    "ended_at": row.ended_at,
                }
                for row in page.rows
            ],
            "next_cursor": page.next_cursor,
        }
    )
