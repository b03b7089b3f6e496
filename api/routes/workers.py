"""The workers, the task types they run, and the figures of the whole."""

from typing import Annotated

from fastapi import Query
from starlette.requests import Request
from starlette.responses import Response

from api import representations
from api.answers import json_answer
from api.operations import LIST_TASK_TYPES, LIST_WORKERS, STATS
from api.resources import resources_of
from api.strict_routes import strict_router
from shared.queries import workers

router = strict_router()


@router.get("/tasks", response_model=None, **LIST_TASK_TYPES)
async def list_task_types(request: Request) -> Response:
    """The registered task types, with the JSON Schema of their params."""
    rows = await resources_of(request).reader.call(workers.task_types)
    return json_answer(representations.task_type_list(rows))


@router.get("/workers", response_model=None, **LIST_WORKERS)
async def list_workers(
    request: Request,
    state: Annotated[
        workers.WorkerState | None,
        Query(description="Workers of this state; without it those that live or are stopping."),
    ] = None,
) -> Response:
    """The workers, the newest first."""
    states: tuple[workers.WorkerState, ...] = ("live", "stopping") if state is None else (state,)
    rows = await resources_of(request).reader.call(workers.list_workers, states)
    return json_answer(representations.worker_list(rows))


@router.get("/stats", response_model=None, **STATS)
async def stats(request: Request) -> Response:
    """How many runs, how deep the queues, how fast."""
    return json_answer(await resources_of(request).statistics.content())
