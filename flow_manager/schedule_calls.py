"""The calls for schedules as values; see :mod:`flow_manager.calls`."""

from collections.abc import Mapping

import httpx2
import orjson
from pydantic import JsonValue

from flow_manager.calls import Call, segment
from flow_manager.results import Schedule, SchedulePage, Submitted

_JSON = {"Content-Type": "application/json"}


def create_schedule(schedule: Mapping[str, JsonValue]) -> Call[Schedule]:
    """Make a schedule."""
    body = orjson.dumps(dict(schedule))
    return Call("POST", "/schedules", _read_schedule, headers=_JSON, body=body)


def put_schedule(schedule_id: str, schedule: Mapping[str, JsonValue]) -> Call[Schedule]:
    """Make or change the schedule of that id."""
    body = orjson.dumps(dict(schedule))
    return Call("PUT", _path(schedule_id), _read_schedule, headers=_JSON, body=body)


def get_schedule(schedule_id: str) -> Call[Schedule]:
    """One schedule."""
    return Call("GET", _path(schedule_id), _read_schedule)


def list_schedules(
    flow_id: str | None, limit: int | None, cursor: str | None
) -> Call[SchedulePage]:
    """A page of schedules."""
    given = {"flow_id": flow_id, "limit": limit, "cursor": cursor}
    query = {name: str(value) for name, value in given.items() if value is not None}
    return Call("GET", "/schedules", _read_page, query=query)


def pause_schedule(schedule_id: str, *, paused: bool) -> Call[Schedule]:
    """Pause a schedule, or let it go on."""
    action = "pause" if paused else "resume"
    return Call("POST", f"{_path(schedule_id)}/{action}", _read_schedule)


def trigger_schedule(schedule_id: str, idempotency_key: str | None) -> Call[Submitted]:
    """Start a run of a schedule now."""
    headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
    return Call("POST", f"{_path(schedule_id)}/trigger", _read_submitted, headers=headers)


def delete_schedule(schedule_id: str) -> Call[None]:
    """Delete a schedule."""
    return Call("DELETE", _path(schedule_id), _read_nothing)


def _path(schedule_id: str) -> str:
    return f"/schedules/{segment(schedule_id)}"


def _read_schedule(response: httpx2.Response) -> Schedule:
    return Schedule.model_validate_json(response.content)


def _read_page(response: httpx2.Response) -> SchedulePage:
    return SchedulePage.model_validate_json(response.content)


def _read_submitted(response: httpx2.Response) -> Submitted:
    return Submitted.model_validate_json(response.content)


def _read_nothing(_response: httpx2.Response) -> None:
    return None
