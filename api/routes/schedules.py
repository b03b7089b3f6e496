"""Schedules: make one, look at it, change, pause and delete it, start one by hand."""

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated

import orjson
from fastapi import Query
from starlette.requests import Request
from starlette.responses import Response

from api import representations, schedule_answers
from api.admitting import admit
from api.answers import json_answer
from api.bodies import read_body, refuse_content
from api.parameters import Limit, Text, idempotency_key
from api.refusals import InvalidRequest
from api.resources import Resources, resources_of
from api.schedule_bodies import SCHEDULE_ID, ScheduleRequest, read_schedule
from api.schedule_operations import (
    CREATE_SCHEDULE,
    DELETE_SCHEDULE,
    GET_SCHEDULE,
    LIST_SCHEDULES,
    PAUSE_SCHEDULE,
    PUT_SCHEDULE,
    RESUME_SCHEDULE,
    TRIGGER_SCHEDULE,
)
from api.strict_routes import strict_router
from api.submission import PreparedRun
from shared.cron import SCHEDULE_KEYS
from shared.documents import parse_document
from shared.errors import Conflict, Finding, IdempotencyMismatch, NotFound
from shared.ids import new_id
from shared.queries import schedules
from shared.queries.rows import AnyRow
from shared.queries.runs import run_statuses
from shared.status import RunStatus
from shared.store.scheduled_starts import Trigger, trigger_schedules
from shared.store.schedules import (
    NewSchedule,
    Pause,
    create_schedules,
    delete_schedules,
    pause_schedules,
    put_schedules,
)

router = strict_router()

ScheduleCursor = Annotated[Text, Query(description="`next_cursor` of the page before.")]


@router.get("/schedules", response_model=None, **LIST_SCHEDULES)
async def list_schedules(
    request: Request, flow_id: Text = None, cursor: ScheduleCursor = None, limit: Limit = None
) -> Response:
    """The schedules by their ids, a page at a time."""
    resources = resources_of(request)
    page = await resources.reader.call(
        schedules.list_schedules, flow_id, cursor, limit or resources.settings.page_size
    )
    return json_answer(schedule_answers.schedule_list(page))


@router.post("/schedules", response_model=None, **CREATE_SCHEDULE)
async def create_schedule(request: Request) -> Response:
    """Make a schedule; without an id of its own it gets one."""
    resources = resources_of(request)
    wanted = await _read(request)
    item = await _new(resources, wanted, wanted.id or new_id())
    if not await resources.writer.call(create_schedules, item):
        raise Conflict("There is a schedule of this id already; PUT changes it.")
    return await _answer(resources, item.id, HTTPStatus.CREATED)


@router.get("/schedules/{schedule_id}", response_model=None, **GET_SCHEDULE)
async def get_schedule(request: Request) -> Response:
    """One schedule: its next ticks, its last start, and what went wrong."""
    return await _answer(resources_of(request), _schedule_id(request))


@router.put("/schedules/{schedule_id}", response_model=None, **PUT_SCHEDULE)
async def put_schedule(request: Request) -> Response:
    """Make a schedule of that id, or change it."""
    resources, schedule_id = resources_of(request), _schedule_id(request)
    wanted = await _read(request)
    if wanted.id is not None and wanted.id != schedule_id:
        raise InvalidRequest([Finding("/id", "other_id", "the address has another id")])
    item = await _new(resources, wanted, schedule_id)
    created = await resources.writer.call(put_schedules, item)
    return await _answer(resources, schedule_id, HTTPStatus.CREATED if created else HTTPStatus.OK)


@router.delete("/schedules/{schedule_id}", response_model=None, **DELETE_SCHEDULE)
async def delete_schedule(request: Request) -> Response:
    """Delete a schedule; runs that it started go on."""
    resources = resources_of(request)
    await refuse_content(request, resources.settings)
    if not await resources.writer.call(delete_schedules, _schedule_id(request)):
        raise _unknown()
    return Response(status_code=HTTPStatus.NO_CONTENT)


@router.post("/schedules/{schedule_id}/pause", response_model=None, **PAUSE_SCHEDULE)
async def pause_schedule(request: Request) -> Response:
    """Start nothing until it is resumed; what comes due meanwhile is never made up for."""
    return await _pause(request, paused=True)


@router.post("/schedules/{schedule_id}/resume", response_model=None, **RESUME_SCHEDULE)
async def resume_schedule(request: Request) -> Response:
    """Go on with the first tick from now on."""
    return await _pause(request, paused=False)


@router.post("/schedules/{schedule_id}/trigger", response_model=None, **TRIGGER_SCHEDULE)
async def trigger_schedule(request: Request) -> Response:
    """Start a run of a schedule now, also where it is paused or another one goes on."""
    resources, schedule_id = resources_of(request), _schedule_id(request)
    key = idempotency_key(request) or new_id()
    await refuse_content(request, resources.settings)
    row = await _find(resources, schedule_id)
    prepared = await _prepare(resources, row.flow_id, row.version, row.input)
    new_run = prepared.new_run(
        resources.clock, f"{SCHEDULE_KEYS}{schedule_id}:by-hand:{key}", schedule_id=schedule_id
    )
    created = await resources.writer.call(trigger_schedules, Trigger(schedule_id, new_run))
    if created is None:
        raise _unknown()
    if created.mismatch:
        raise IdempotencyMismatch("The schedule has changed since this key was used.")
    admit(resources, created)
    if created.branch_id is not None:
        resources.ringer.ring([created.branch_id], queues={created.branch_id: new_run.start_queue})
    headers, status = {"Location": f"/flows/{created.flow_run_id}"}, RunStatus.RUNNING
    if created.replayed:
        headers["Idempotent-Replayed"] = "true"
        statuses = await resources.reader.call(run_statuses, [created.flow_run_id])
        status = statuses.get(created.flow_run_id, status)
    content = representations.accepted(created.flow_run_id, new_run.flow_id, status)
    return json_answer(content, HTTPStatus.ACCEPTED, headers)


async def _read(request: Request) -> ScheduleRequest:
    settings = resources_of(request).settings
    body = await read_body(request, settings)
    document = parse_document(body, max_depth=settings.max_depth, max_bytes=settings.max_body_bytes)
    return read_schedule(document, datetime.now(UTC))


async def _new(resources: Resources, wanted: ScheduleRequest, schedule_id: str) -> NewSchedule:
    """What is to be stored, once it is sure that the flow can be started as it is now."""
    input_json = orjson.dumps(wanted.wanted.input)
    limit = resources.settings.max_result_bytes
    if len(input_json) > limit:
        message = f"has {len(input_json)} bytes; at most FLOW_MAX_RESULT_BYTES, {limit}, are kept"
        raise InvalidRequest([Finding("/input", "too_large", message)])
    await _prepare(resources, wanted.wanted.flow_id, wanted.wanted.version, input_json)
    return NewSchedule(
        id=schedule_id,
        flow_id=wanted.wanted.flow_id,
        version=wanted.wanted.version,
        input=input_json,
        timing=wanted.timing,
        overlap=wanted.overlap,
        catch_up=wanted.catch_up,
        paused=wanted.paused,
        at=datetime.now(UTC),
    )


async def _prepare(
    resources: Resources, flow_id: str, version: int | None, input_json: bytes
) -> PreparedRun:
    """The run that a submit of this flow and input would start now.

    Raises:
        InvalidDefinition: there would be none.
    """
    body: dict[str, object] = {"flow_id": flow_id, "input": orjson.Fragment(input_json)}
    if version is not None:
        body["version"] = version
    return await resources.submissions.prepare(orjson.dumps(body))


async def _pause(request: Request, *, paused: bool) -> Response:
    resources, schedule_id = resources_of(request), _schedule_id(request)
    await refuse_content(request, resources.settings)
    item = Pause(schedule_id, paused, datetime.now(UTC))
    if not await resources.writer.call(pause_schedules, item):
        raise _unknown()
    return await _answer(resources, schedule_id)


async def _answer(
    resources: Resources, schedule_id: str, status: HTTPStatus = HTTPStatus.OK
) -> Response:
    row = await _find(resources, schedule_id)
    headers = {}
    if status is HTTPStatus.CREATED:
        headers["Location"] = schedule_answers.schedule_path(schedule_id)
    return json_answer(schedule_answers.schedule(row), status, headers)


async def _find(resources: Resources, schedule_id: str) -> AnyRow:
    row = await resources.reader.call(schedules.get_schedule, schedule_id)
    if row is None:
        raise _unknown()
    return row


def _schedule_id(request: Request) -> str:
    """The schedule that the path names.

    Raises:
        NotFound: it cannot be the id of any schedule.
    """
    text: str = request.path_params["schedule_id"]
    if SCHEDULE_ID.fullmatch(text) is None:
        raise _unknown()
    return text


def _unknown() -> NotFound:
    return NotFound("There is no schedule of that id.")
