"""Runs: look at one, list them, page through one's tasks, cancel one."""

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import Query
from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from api import representations
from api.answers import json_answer
from api.bodies import refuse_content
from api.border import extend_deadline
from api.operations import CANCEL, GET_RUN, LIST_RUNS, LIST_TASK_RUNS
from api.parameters import (
    Cursor,
    Limit,
    Text,
    Time,
    run_cursor,
    run_id,
    task_run_cursor,
    unknown_run,
    wait_seconds,
)
from api.resources import resources_of
from api.strict_routes import strict_router
from shared.errors import Conflict, RunIsOver
from shared.ids import FlowRunId
from shared.queries import runs
from shared.status import Outcome, RunStatus
from shared.store.stopping import Cancel, cancel_runs

router = strict_router()


@router.get("/flows", response_model=None, **LIST_RUNS)
async def list_flows(
    request: Request,
    status: RunStatus | None = None,
    outcome: Annotated[Literal["success", "failure"] | None, Query()] = None,
    flow_id: Text = None,
    schedule_id: Text = None,
    tag: Text = None,
    created_after: Time = None,
    created_before: Time = None,
    q: Annotated[Text, Query(description="Part of a name or flow id, or the start of an id.")] = (
        None
    ),
    cursor: Cursor = None,
    limit: Limit = None,
) -> Response:
    """The newest runs first, a page at a time."""
    resources = resources_of(request)
    # An error is the outcome of a visit, never of a run.
    wanted = None if outcome is None else Outcome(outcome)
    filters = runs.RunFilters(
        status, wanted, flow_id, tag, created_after, created_before, schedule_id, q
    )
    page = await resources.reader.call(
        runs.list_runs, filters, run_cursor(cursor), limit or resources.settings.page_size
    )
    return json_answer(representations.run_list(page))


@router.get("/flows/{flow_run_id}", response_model=None, **GET_RUN)
async def get_flow(request: Request) -> Response:
    """One run: its tasks, its logs, its result."""
    resources = resources_of(request)
    flow_run_id = run_id(request)
    seconds = wait_seconds(request, resources.settings.max_wait_seconds)
    known_tag = request.headers.get("if-none-match")
    if seconds:
        if await resources.reader.call(runs.run_version, flow_run_id) is None:
            raise unknown_run()
        extend_deadline(request, seconds)
        await resources.endings.wait(flow_run_id, seconds)
    tag, stored = await resources.reader.call_in_snapshot(_read_run, flow_run_id, known_tag)
    if stored is None:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=_tagged(tag))
    return json_answer(representations.run(stored), headers=_tagged(tag))


@router.get("/flows/{flow_run_id}/tasks", response_model=None, **LIST_TASK_RUNS)
async def list_task_runs(request: Request, cursor: Cursor = None, limit: Limit = None) -> Response:
    """The task runs of one run in the order of their start, a page at a time."""
    resources = resources_of(request)
    page = await resources.reader.call(
        runs.list_task_runs,
        run_id(request),
        task_run_cursor(cursor),
        limit or resources.settings.page_size,
    )
    if page is None:
        raise unknown_run()
    return json_answer(representations.task_run_list(page))


@router.post("/flows/{flow_run_id}/cancel", response_model=None, **CANCEL)
async def cancel_flow(request: Request) -> Response:
    """Cancel a run that is not over: tasks that run are told, the others never start.

    What it has to undo runs before it is cancelled; until then it is in its ending.
    """
    resources = resources_of(request)
    await refuse_content(request, resources.settings)
    flow_run_id = run_id(request)
    cancel = Cancel(flow_run_id, datetime.now(UTC), ready_at=resources.clock.now())
    result = await resources.writer.call(cancel_runs, cancel)
    match result:
        case "unknown":
            raise unknown_run()
        case "over":
            raise RunIsOver("The run had its final status before it could be cancelled.")
        case "ending":
            raise Conflict("The run is in its ending already, which nothing cuts short.")
    resources.publisher.cancelled([flow_run_id])
    if result == "cancelling":
        resources.ringer.ring([cancel.branch_id])
    else:
        resources.publisher.run_ended([flow_run_id])
    flow_id = await resources.reader.call(runs.flow_of_run, flow_run_id)
    if flow_id is None:
        raise unknown_run()
    status = RunStatus.RUNNING if result == "cancelling" else RunStatus.CANCELLED
    content = representations.accepted(flow_run_id, flow_id, status)
    return json_answer(content, HTTPStatus.ACCEPTED, {"Location": f"/flows/{flow_run_id}"})


def _read_run(
    connection: Connection, flow_run_id: FlowRunId, known_tag: str | None
) -> tuple[str, runs.StoredRun | None]:
    """The run's tag, and the run itself where the caller has it otherwise; in one snapshot."""
    version = runs.run_version(connection, flow_run_id)
    if version is None:
        raise unknown_run()
    tag = representations.entity_tag(version)
    if representations.is_current(tag, known_tag):
        return tag, None
    stored = runs.get_run(connection, flow_run_id)
    if stored is None:
        raise unknown_run()
    return tag, stored


def _tagged(tag: str) -> dict[str, str]:
    return {"ETag": tag, "Cache-Control": "no-cache"}
