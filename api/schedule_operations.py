"""What the OpenAPI document tells about the calls for schedules."""

from api.describing import Document, answer, header, operation, shape
from api.examples import ACCEPTED, RUN_ID

_SCHEDULE_ID: Document = {
    "name": "schedule_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._:-]{0,99}$"},
    "example": "nightly-intake",
}
_WANTED: Document = {
    "id": "nightly-intake",
    "flow_id": "data-intake",
    "input": {"source": "orders"},
    "cron": "30 2 * * MON-FRI",
    "time_zone": "Europe/Berlin",
    "overlap": "queue",
}
_LISTED: Document = _WANTED | {
    "version": None,
    "every": None,
    "start": None,
    "catch_up": True,
    "paused": False,
    "created_at": "2026-01-02T03:04:05.678901Z",
    "updated_at": "2026-01-02T03:04:05.678901Z",
    "next_tick": "2026-01-06T01:30:00Z",
    "waiting": None,
    "last_start": {
        "tick": "2026-01-05T01:30:00Z",
        "at": "2026-01-05T01:30:00.312000Z",
        "flow_run_id": RUN_ID,
        "status": "completed",
    },
    "last_left_out": None,
    "last_error": None,
    "links": {
        "self": "/schedules/nightly-intake",
        "trigger": "/schedules/nightly-intake/trigger",
        "runs": "/flows?schedule_id=nightly-intake",
    },
}
_SCHEDULE = _LISTED | {"next_ticks": ["2026-01-06T01:30:00Z", "2026-01-07T01:30:00Z"]}
_NO_SCHEDULE = "There is no such schedule."
_READ_SCHEDULE = {404: _NO_SCHEDULE, 422: "", 503: ""}
_WRITE = {400: "", 404: _NO_SCHEDULE, 408: "", 413: "", 415: "", 422: "", 503: ""}
_BODY: Document = {
    "required": True,
    "content": {
        "application/json": {
            "schema": shape("WantedSchedule"),
            "example": _WANTED,
        }
    },
}
_SHOWN = answer("The schedule.", "Schedule", _SCHEDULE)
_MADE = answer("It is there now.", "Schedule", _SCHEDULE, {"Location": "The path of it."})

CREATE_SCHEDULE = operation(
    "schedules",
    "Make a schedule",
    {201: _MADE},
    {400: "", 408: "", 409: "The id is taken.", 413: "", 415: "", 422: "", 503: ""},
    requestBody=_BODY,
)
LIST_SCHEDULES = operation(
    "schedules",
    "List the schedules",
    {
        200: answer(
            "A page of schedules by their ids.",
            "SchedulePage",
            {"schedules": [_LISTED], "next_cursor": None},
        )
    },
    (422, 503),
)
GET_SCHEDULE = operation(
    "schedules",
    "Look at a schedule",
    {200: _SHOWN},
    _READ_SCHEDULE,
    parameters=[_SCHEDULE_ID],
)
PUT_SCHEDULE = operation(
    "schedules",
    "Make or change a schedule",
    {200: _SHOWN, 201: _MADE},
    _WRITE,
    requestBody=_BODY,
    parameters=[_SCHEDULE_ID],
)
DELETE_SCHEDULE = operation(
    "schedules",
    "Delete a schedule",
    {204: {"description": "It starts nothing more; its runs go on."}},
    _WRITE,
    parameters=[_SCHEDULE_ID],
)
PAUSE_SCHEDULE = operation(
    "schedules",
    "Pause a schedule",
    {200: _SHOWN},
    _WRITE,
    parameters=[_SCHEDULE_ID],
)
RESUME_SCHEDULE = operation(
    "schedules",
    "Let a paused schedule go on",
    {200: _SHOWN},
    _WRITE,
    parameters=[_SCHEDULE_ID],
)
TRIGGER_SCHEDULE = operation(
    "schedules",
    "Start a run of a schedule now",
    {202: answer("The run.", "AcceptedRun", ACCEPTED, {"Location": "The path of the run."})},
    _WRITE | {409: ""},
    parameters=[
        _SCHEDULE_ID,
        header("Idempotency-Key", "The same key gives the same run again.", "by-hand-17"),
    ],
)
