"""What the OpenAPI document tells about the calls for stored definitions and schedules."""

from api.describing import Document, answer, body, header, operation
from api.examples import FLOW

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
