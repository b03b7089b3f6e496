"""Stored definitions: put one, look at it and its versions, list them, delete one."""

import re
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from api import definition_answers
from api.answers import json_answer
from api.bodies import read_body, refuse_content
from api.operations_of_stored import (
    DELETE_DEFINITION,
    GET_DEFINITION,
    LIST_DEFINITIONS,
    LIST_VERSIONS,
    PUT_DEFINITION,
)
from api.parameters import Limit, Text
from api.preconditions import expected_versions, version_tag
from api.refusals import InvalidRequest, PreconditionFailed, RefusedDefinition
from api.representations import is_current
from api.resources import resources_of
from api.run_requests import MAX_VERSION
from shared.definition import MAX_NAME_LENGTH
from shared.errors import Finding, NotFound
from shared.findings import quoted
from shared.queries import definitions
from shared.store.definitions import Deletion, NewVersion, delete_flows, put_versions
from shared.validation import Validated

router = APIRouter()

_VERSIONS = "/versions"
_ID = re.compile(rf"[^\x00-\x1f\x7f\ud800-\udfff]{{1,{MAX_NAME_LENGTH}}}")
"""What an id may be; the database cannot even be asked for NUL and half of a surrogate pair."""

Version = Annotated[
    int | None, Query(ge=1, le=MAX_VERSION, description="This version; else the newest one.")
]
FlowCursor = Annotated[Text, Query(description="`next_cursor` of the page before.")]
VersionCursor = Annotated[
    int | None, Query(ge=1, le=MAX_VERSION, description="`next_cursor` of the page before.")
]


@router.get("/definitions", response_model=None, **LIST_DEFINITIONS)
async def list_definitions(
    request: Request, cursor: FlowCursor = None, limit: Limit = None
) -> Response:
    """The stored flows by their ids, each with its newest version, a page at a time."""
    resources = resources_of(request)
    page = await resources.reader.call(
        definitions.list_definitions, cursor, limit or resources.settings.page_size
    )
    return json_answer(definition_answers.definition_list(page))


# Before the others, because a flow's id may hold a slash.
@router.get("/definitions/{flow_id:path}/versions", response_model=None, **LIST_VERSIONS)
async def list_versions(
    request: Request, cursor: VersionCursor = None, limit: Limit = None
) -> Response:
    """The versions of a flow, the newest first, a page at a time."""
    resources = resources_of(request)
    flow_id = _flow_id(request)
    page = await resources.reader.call(
        definitions.list_versions, flow_id, cursor, limit or resources.settings.page_size
    )
    if not page.rows and await resources.reader.call(definitions.find_version, flow_id) is None:
        raise _unknown()
    return json_answer(definition_answers.version_list(page))


@router.get("/definitions/{flow_id:path}", response_model=None, **GET_DEFINITION)
async def get_definition(request: Request, version: Version = None) -> Response:
    """A stored definition: its newest version, or the one that is asked for."""
    resources = resources_of(request)
    flow_id = _flow_id(request)
    found = await resources.reader.call(definitions.find_version, flow_id, version)
    if found is None:
        raise _unknown()
    headers = {"ETag": version_tag(found.version)}
    if is_current(headers["ETag"], request.headers.get("if-none-match")):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    row = await resources.reader.call(definitions.get_version, flow_id, found.version)
    if row is None:
        raise _unknown()
    return json_answer(definition_answers.definition(row), headers=headers)


@router.put("/definitions/{flow_id:path}", response_model=None, **PUT_DEFINITION)
async def put_definition(request: Request) -> Response:
    """Store a definition as the newest version of its flow."""
    resources = resources_of(request)
    flow_id = _flow_id(request)
    after = expected_versions(request)
    body = await read_body(request, resources.settings)
    # A worker that knows more may have started a moment ago.
    await resources.workers.task_types(max_age_seconds=0.0)
    validated = await resources.submissions.validate(body)
    if validated.flow is None:
        raise RefusedDefinition(validated.errors, validated.error_count)
    _check_id(validated, validated.flow.definition.id, flow_id)
    item = NewVersion(
        flow_id, validated.flow.hash, validated.definition_json, datetime.now(UTC), after
    )
    put = await resources.writer.call(put_versions, item)
    if put is None:
        raise PreconditionFailed("The newest version is not the one that the request expects.")
    content = definition_answers.stored_version(
        flow_id, put.version, item.hash, put.created_at, validated.warnings
    )
    headers = {
        "ETag": version_tag(put.version),
        "Location": f"{definition_answers.definition_path(flow_id)}?version={put.version}",
    }
    return json_answer(content, HTTPStatus.CREATED if put.created else HTTPStatus.OK, headers)


@router.delete("/definitions/{flow_id:path}", response_model=None, **DELETE_DEFINITION)
async def delete_definition(request: Request) -> Response:
    """Hide all versions of a flow from new runs; its runs go on."""
    resources = resources_of(request)
    await refuse_content(request, resources.settings)
    item = Deletion(_flow_id(request), datetime.now(UTC))
    if not await resources.writer.call(delete_flows, item):
        raise _unknown()
    return Response(status_code=HTTPStatus.NO_CONTENT)


def _flow_id(request: Request) -> str:
    """The flow that the path names.

    Raises:
        NotFound: it cannot be the id of any flow.
    """
    text: str = request.path_params["flow_id"]
    if _ID.fullmatch(text) is None:
        raise _unknown()
    return text


def _check_id(validated: Validated, own: str, flow_id: str) -> None:
    pointer = f"{validated.prefix}/id"
    if own != flow_id:
        message = f"the definition has the id {quoted(own)}, the address {quoted(flow_id)}"
        raise InvalidRequest([Finding(pointer, "other_id", message)])
    if own.endswith(_VERSIONS):
        message = f'an id that ends in "{_VERSIONS}" cannot be stored: its address means another'
        raise InvalidRequest([Finding(pointer, "reserved_id", message)])


def _unknown() -> NotFound:
    return NotFound("There is no stored definition of that id or version.")
