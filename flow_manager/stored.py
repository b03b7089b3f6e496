"""Stored definitions, for programs: ``client.definitions`` of both clients.

.. code-block:: python

    client.definitions.put(definition)
    client.run_stored("billing", {"order": 17})
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx2
import orjson
from pydantic import JsonValue

from flow_manager.calls import Call, segment
from flow_manager.results import Definition, DefinitionVersion

_HEADERS = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class VersionPage:
    """Some versions, and where the rest begins."""

    versions: list[DefinitionVersion]
    next_cursor: str | None


class Definitions:
    """The stored definitions, from synchronous code."""

    # Any: each call gives what it reads.
    def __init__(self, send: Callable[[Call[Any]], Any]) -> None:
        self._send = send

    def put(self, definition: dict[str, JsonValue]) -> DefinitionVersion:
        """Store a definition under its own id, as a new version unless the newest is the same."""
        answer: DefinitionVersion = self._send(_put(definition))
        return answer

    def get(self, flow_id: str, version: int | None = None) -> Definition:
        """A version of a definition, the newest where none is named."""
        answer: Definition = self._send(_get(flow_id, version))
        return answer

    def list(self, *, limit: int | None = None, cursor: str | None = None) -> VersionPage:
        """A page of the newest versions, by the ids of their flows."""
        answer: VersionPage = self._send(_list(limit, cursor))
        return answer

    def versions(
        self, flow_id: str, *, limit: int | None = None, cursor: str | None = None
    ) -> VersionPage:
        """A page of the versions of a flow, the newest first."""
        answer: VersionPage = self._send(_versions(flow_id, limit, cursor))
        return answer

    def delete(self, flow_id: str) -> None:
        """Let no more runs of a flow be started."""
        self._send(_delete(flow_id))


class AsyncDefinitions:
    """The stored definitions, from asynchronous code; the same as :class:`Definitions`."""

    # Any: each call gives what it reads.
    def __init__(self, send: Callable[[Call[Any]], Awaitable[Any]]) -> None:
        self._send = send

    async def put(self, definition: dict[str, JsonValue]) -> DefinitionVersion:
        """Store a definition under its own id, as a new version unless the newest is the same."""
        answer: DefinitionVersion = await self._send(_put(definition))
        return answer

    async def get(self, flow_id: str, version: int | None = None) -> Definition:
        """A version of a definition, the newest where none is named."""
        answer: Definition = await self._send(_get(flow_id, version))
        return answer

    async def list(self, *, limit: int | None = None, cursor: str | None = None) -> VersionPage:
        """A page of the newest versions, by the ids of their flows."""
        answer: VersionPage = await self._send(_list(limit, cursor))
        return answer

    async def versions(
        self, flow_id: str, *, limit: int | None = None, cursor: str | None = None
    ) -> VersionPage:
        """A page of the versions of a flow, the newest first."""
        answer: VersionPage = await self._send(_versions(flow_id, limit, cursor))
        return answer

    async def delete(self, flow_id: str) -> None:
        """Let no more runs of a flow be started."""
        await self._send(_delete(flow_id))


def _put(definition: dict[str, JsonValue]) -> Call[DefinitionVersion]:
    flow = definition.get("flow", definition)
    flow_id = flow.get("id") if isinstance(flow, dict) else None
    # Without an id the service says what is missing; the path must hold something.
    path = _path(flow_id if isinstance(flow_id, str) and flow_id else "-")
    body = orjson.dumps(definition)
    return Call("PUT", path, _read_version, headers=_HEADERS, body=body)


def _get(flow_id: str, version: int | None) -> Call[Definition]:
    return Call("GET", _path(flow_id), _read_definition, query=_given(version=version))


def _list(limit: int | None, cursor: str | None) -> Call[VersionPage]:
    return Call("GET", "/definitions", _read_page, query=_given(limit=limit, cursor=cursor))


def _versions(flow_id: str, limit: int | None, cursor: str | None) -> Call[VersionPage]:
    path = f"{_path(flow_id)}/versions"
    return Call("GET", path, _read_page, query=_given(limit=limit, cursor=cursor))


def _delete(flow_id: str) -> Call[None]:
    return Call("DELETE", _path(flow_id), lambda _: None)


def _path(flow_id: str) -> str:
    return f"/definitions/{segment(flow_id)}"


def _given(**query: str | int | None) -> dict[str, str]:
    return {name: str(value) for name, value in query.items() if value is not None}


def _read_version(response: httpx2.Response) -> DefinitionVersion:
    return DefinitionVersion.model_validate_json(response.content)


def _read_definition(response: httpx2.Response) -> Definition:
    return Definition.model_validate_json(response.content)


def _read_page(response: httpx2.Response) -> VersionPage:
    document = orjson.loads(response.content)
    rows = document.get("versions") or document.get("definitions") or []
    versions = [DefinitionVersion.model_validate(row) for row in rows]
    return VersionPage(versions, document.get("next_cursor"))
