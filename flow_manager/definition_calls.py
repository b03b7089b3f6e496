"""The calls for stored definitions as values; see :mod:`flow_manager.calls`."""

from http import HTTPStatus

import httpx2
import orjson
from pydantic import JsonValue

from flow_manager.calls import Call, query_of, segment
from flow_manager.stored_results import (
    Definition,
    DefinitionPage,
    StoredVersion,
    VersionPage,
)
from shared.errors import InvalidInput


def put_definition(
    definition: JsonValue, *, after_version: int | None, only_new: bool
) -> Call[StoredVersion]:
    """Store a definition; only where ``after_version`` is the newest, or where there is none.

    Raises:
        InvalidInput: it has no id, so that there is no address to send it to.
    """
    headers = {"Content-Type": "application/json"}
    if after_version is not None:
        headers["If-Match"] = f'"{after_version}"'
    if only_new:
        headers["If-None-Match"] = "*"
    body = orjson.dumps(definition)
    return Call("PUT", _path(_id_of(definition)), _read_stored, headers=headers, body=body)


def get_definition(flow_id: str, version: int | None) -> Call[Definition]:
    """A version with its definition."""
    return Call("GET", _path(flow_id), _read_definition, query=query_of({"version": version}))


def list_definitions(limit: int | None, cursor: str | None) -> Call[DefinitionPage]:
    """A page of stored flows."""
    query = query_of({"limit": limit, "cursor": cursor})
    return Call("GET", "/definitions", _read_definitions, query=query)


def list_versions(flow_id: str, limit: int | None, cursor: str | None) -> Call[VersionPage]:
    """A page of the versions of a flow."""
    query = query_of({"limit": limit, "cursor": cursor})
    return Call("GET", f"{_path(flow_id)}/versions", _read_versions, query=query)


def delete_definition(flow_id: str) -> Call[None]:
    """Hide a flow from new runs."""
    return Call("DELETE", _path(flow_id), _read_nothing)


def _path(flow_id: str) -> str:
    return f"/definitions/{segment(flow_id)}"


def _id_of(definition: JsonValue) -> str:
    """The id of a definition, which may be wrapped."""
    bare = definition.get("flow", definition) if isinstance(definition, dict) else None
    flow_id = bare.get("id") if isinstance(bare, dict) else None
    if not isinstance(flow_id, str) or not flow_id:
        raise InvalidInput('a definition needs an "id" to be stored under')
    return flow_id


def _read_stored(response: httpx2.Response) -> StoredVersion:
    stored = StoredVersion.model_validate_json(response.content)
    return stored.model_copy(update={"created": response.status_code == HTTPStatus.CREATED})


def _read_definition(response: httpx2.Response) -> Definition:
    return Definition.model_validate_json(response.content)


def _read_definitions(response: httpx2.Response) -> DefinitionPage:
    return DefinitionPage.model_validate_json(response.content)


def _read_versions(response: httpx2.Response) -> VersionPage:
    return VersionPage.model_validate_json(response.content)


def _read_nothing(_response: httpx2.Response) -> None:
    return None
