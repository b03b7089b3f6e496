"""What the OpenAPI document tells about the calls for stored definitions and schedules."""

from api.describing import Document, answer, body, header, operation
from api.examples import ACCEPTED, FLOW, RUN_ID

_HASH = "5f1c6d0d3a4d3b6a0f2f4e1c9b7d8e6f5a4b3c2d1e0f9a8b7c6d5e4f3a2b1c0d"
_PLACE = "/definitions/data-intake"
_SUMMARY: Document = {
    "flow_id": "data-intake",
    "version": 3,
    "hash": _HASH,
    "created_at": "2026-01-02T03:04:05.678901Z",
    "links": {
        "self": f"{_PLACE}?version=3",
        "newest": _PLACE,
        "versions": f"{_PLACE}/versions",
    },
}
_FLOW_ID: Document = {
    "name": "flow_id",
    "in": "path",
    "required": True,
    "description": "The id of the flow. A slash in it may stand as it is, or as %2F.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 200},
    "example": "data-intake",
}
_NO_DEFINITION = "There is no such stored definition."
_TAG = {"ETag": "The version's number, in quotes."}
_PUT_HEADERS = _TAG | {"Location": "The path of this version."}
_READ = {404: _NO_DEFINITION, 422: "", 503: ""}

PUT_DEFINITION = operation(
    "definitions",
    "Store a definition",
    {
        200: answer(
            "The newest version is this already.",
            "StoredVersion",
            _SUMMARY | {"warnings": []},
            _PUT_HEADERS,
        ),
        201: answer(
            "It is the newest version now.",
            "StoredVersion",
            _SUMMARY | {"warnings": []},
            _PUT_HEADERS,
        ),
    },
    {
        400: "",
        404: "No flow can have this id.",
        408: "",
        412: "",
        413: "",
        415: "",
        422: "",
        503: "",
    },
    requestBody=body(wrapped="SubmittedFlow", bare="FlowDefinition"),
    parameters=[
        _FLOW_ID,
        header("If-Match", "Store it only where this version is the newest.", '"3"'),
        header("If-None-Match", "`*`: store it only where the flow is not stored.", "*"),
    ],
)
GET_DEFINITION = operation(
    "definitions",
    "Look at a stored definition",
    {
        200: answer("The version.", "Definition", _SUMMARY | {"definition": FLOW}, _TAG),
        304: {"description": "The version is that of `If-None-Match`."},
    },
    _READ,
    parameters=[_FLOW_ID, header("If-None-Match", "The `ETag` that is known.", '"3"')],
)
DELETE_DEFINITION = operation(
    "definitions",
    "Delete a stored definition",
    {204: {"description": "New runs cannot start any of its versions; its runs go on."}},
    {400: "", 404: _NO_DEFINITION, 408: "", 413: "", 415: "", 422: "", 503: ""},
    parameters=[_FLOW_ID],
)
LIST_DEFINITIONS = operation(
    "definitions",
    "List the stored definitions",
    {
        200: answer(
            "A page of flows, each with its newest version.",
            "DefinitionPage",
            {"definitions": [_SUMMARY], "next_cursor": None},
        )
    },
    (422, 503),
)
LIST_VERSIONS = operation(
    "definitions",
    "List the versions of a stored definition",
    {
        200: answer(
            "A page of versions, the newest first.",
            "VersionPage",
            {"versions": [_SUMMARY], "next_cursor": "3"},
        )
    },
    _READ,
    parameters=[_FLOW_ID],
)

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
            "schema": {"$ref": "#/components/schemas/WantedSchedule"},
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
    _WRITE,
    parameters=[
        _SCHEDULE_ID,
        header("Idempotency-Key", "The same key gives the same run again.", "by-hand-17"),
    ],
)
