"""Whether the process lives, and whether it can do its work."""

import asyncio

from fastapi import APIRouter
from sqlalchemy import Connection, literal, select
from starlette.requests import Request
from starlette.responses import Response

from api.answers import json_answer
from api.operations import LIVE, READY
from api.representations import dump
from api.resources import resources_of
from shared.errors import DatabaseUnavailable

router = APIRouter(prefix="/health")


@router.get("/live", response_model=None, **LIVE)
async def live(_request: Request) -> Response:
    """The process answers. Says nothing about what it depends on."""
    return json_answer(dump({"status": "alive"}))


@router.get("/ready", response_model=None, **READY)
async def ready(request: Request) -> Response:
    """Whether runs can be accepted.

    They can while Redis is away, for workers then look into the database by themselves: that
    is ``degraded``, not an error.
    """
    resources = resources_of(request)
    try:
        async with asyncio.timeout(resources.settings.database_timeout_seconds):
            await resources.reader.call(_ask)
    except TimeoutError:
        raise DatabaseUnavailable("the database does not answer in time") from None
    if not resources.upgrade.is_done:
        raise DatabaseUnavailable("the schema is not up to date yet")
    redis = await resources.ringer.ping()
    return json_answer(
        dump(
            {
                "status": "ready" if redis else "degraded",
                "checks": {"database": "ok", "redis": "ok" if redis else "unreachable"},
            }
        )
    )


def _ask(connection: Connection) -> None:
    connection.execute(select(literal(1))).scalar_one()
