"""Stored definitions: put, look at, list, delete. Every change is a version of its own."""

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated

from fastapi import Path, Query
from starlette.requests import Request
from starlette.responses import Response

from api import representations
from api.answers import json_answer
from api.bodies import read_body, refuse_content
from api.operations import (
    DELETE_DEFINITION,
    GET_DEFINITION,
    LIST_DEFINITIONS,
    LIST_VERSIONS,
    PUT_DEFINITION,
)
from api.parameters import Limit, Text
from api.refusals import InvalidRequest, RefusedDefinition
from api.resources import resources_of
from api.strict_routes import strict_router
from shared.definition import MAX_VERSION
from shared.errors import Finding, NotFound
from shared.findings import quoted
from shared.queries import definitions as queries
from shared.store.definitions import DeleteFlow, NewVersion, delete_flows, put_versions

router = strict_router()

_FlowId = Annotated[str, Path(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
_Version = Annotated[int | None, Query(ge=1, le=MAX_VERSION, description="The newest without it.")]
_VersionCursor = Annotated[int | None, Query(ge=1, le=MAX_VERSION)]


@router.get("/definitions", response_model=None, **LIST_DEFINITIONS)
async def list_definitions(request: Request, cursor: Text = None, limit: Limit = None) -> Response:
    """The newest version of each flow, by their ids."""
    resources = resources_of(request)
    page = await resources.reader.call(
        queries.list_definitions, cursor, limit or resources.settings.page_size
    )
    return json_answer(representations.version_list("definitions", page))


# Before the others: an id may hold slashes.
@router.get("/definitions/{flow_id:path}/versions", response_model=None, **LIST_VERSIONS)
async def list_versions(
    request: Request, flow_id: _FlowId, cursor: _VersionCursor = None, limit: Limit = None
) -> Response:
    """The versions of a flow, the newest first."""
    resources = resources_of(request)
    page = await resources.reader.call(
        queries.list_versions, flow_id, cursor, limit or resources.settings.page_size
    )
    if not page.rows and cursor is None:
        raise _unknown()
    return json_answer(representations.version_list("versions", page))


@router.get("/definitions/{flow_id:path}", response_model=None, **GET_DEFINITION)
async def get_definition(request: Request, flow_id: _FlowId, version: _Version = None) -> Response:
    """One version of a stored definition."""
    row = await resources_of(request).reader.call(queries.get_version, flow_id, version)
    if row is None:
        raise _unknown()
    return json_answer(representations.stored_definition(row))


@router.put("/definitions/{flow_id:path}", response_model=None, **PUT_DEFINITION)
async def put_definition(request: Request, flow_id: _FlowId) -> Response:
    """Store a definition, unless the newest version is the same."""
    resources = resources_of(request)
    validated = await resources.submissions.validate(await read_body(request, resources.settings))
    if validated.flow is None:
        raise RefusedDefinition(validated.errors, validated.error_count)
    if validated.flow.definition.id != flow_id:
        raise InvalidRequest([Finding("/path/flow_id", "other_flow", _other(flow_id))])
    content = validated.definition_json
    item = NewVersion(flow_id, validated.flow.hash, content, datetime.now(UTC))
    put = await resources.writer.call(put_versions, item)
    warnings = [representations.finding(one) for one in validated.warnings]
    summary = representations.version(flow_id, put.version, item.hash, put.created_at)
    answer = representations.dump(summary | {"warnings": warnings})
    if not put.created:
        return json_answer(answer)
    place = representations.version_path(flow_id, put.version)
    return json_answer(answer, HTTPStatus.CREATED, {"Location": place})


@router.delete("/definitions/{flow_id:path}", response_model=None, **DELETE_DEFINITION)
async def delete_definition(request: Request, flow_id: _FlowId) -> Response:
    """Let no more runs be started of a flow. Its numbers go on where it is put again."""
    resources = resources_of(request)
    await refuse_content(request, resources.settings)
    deletion = DeleteFlow(flow_id, datetime.now(UTC))
    if not await resources.writer.call(delete_flows, deletion):
        raise _unknown()
    return Response(status_code=HTTPStatus.NO_CONTENT)


def _unknown() -> NotFound:
    return NotFound("There is no stored definition of that id and version.")


def _other(flow_id: str) -> str:
    return f"The definition's id must be that of the path, {quoted(flow_id)}."
