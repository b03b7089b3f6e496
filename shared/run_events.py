"""The end of a run as an event: CloudEvents 1.0 in its structured JSON form.

An event tells that something happened, and where to read all of it. It never holds the input
or output of a run, which may be large or private.
"""

from dataclasses import dataclass
from datetime import datetime

import orjson

from shared.times import iso_time

CONTENT_TYPE = "application/cloudevents+json"
_MAX_MESSAGE = 1_000
"""Characters of the error's message: enough to see what it is about."""


@dataclass(frozen=True, slots=True)
class EndedRun:
    """A run with its final status."""

    flow_run_id: str
    flow_id: str
    name: str
    status: str
    outcome: str | None
    tags: bytes
    error: bytes | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime
    parent_flow_run_id: str | None


def event_type(status: str) -> str:
    """The type of the event that tells a final status."""
    return f"flow_manager.run.{status}"


def run_event(event_id: str, run: EndedRun, public_url: str) -> bytes:
    """The event; its links are relative where the service's own address is not known."""
    path = f"/flows/{run.flow_run_id}"
    duration = run.finished_at - run.created_at
    return orjson.dumps(
        {
            "specversion": "1.0",
            "id": event_id,
            "source": f"{public_url}/flows",
            "type": event_type(run.status),
            "subject": run.flow_run_id,
            "time": iso_time(run.finished_at),
            "datacontenttype": "application/json",
            "data": {
                "flow_run_id": run.flow_run_id,
                "flow_id": run.flow_id,
                "name": run.name,
                "status": run.status,
                "outcome": run.outcome,
                "tags": orjson.loads(run.tags),
                "error": _summary(run.error),
                "created_at": iso_time(run.created_at),
                "started_at": None if run.started_at is None else iso_time(run.started_at),
                "finished_at": iso_time(run.finished_at),
                "duration_ms": round(duration.total_seconds() * 1_000, 3),
                "parent_flow_run_id": run.parent_flow_run_id,
                "links": {"self": f"{public_url}{path}"},
            },
        }
    )


def _summary(error: bytes | None) -> dict[str, str | None] | None:
    """The error without its traceback."""
    if error is None:
        return None
    told = orjson.loads(error)
    message = told.get("message")
    if isinstance(message, str) and len(message) > _MAX_MESSAGE:
        message = f"{message[: _MAX_MESSAGE - 1]}…"
    return {"task": told.get("task"), "type": told.get("type"), "message": message}
