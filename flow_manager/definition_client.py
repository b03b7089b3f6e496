"""Stored definitions, from Python: ``client.definitions`` of both clients."""

from collections.abc import Awaitable
from typing import Protocol, TypeVar

from pydantic import JsonValue

from flow_manager import definition_calls as calls
from flow_manager.calls import Call
from flow_manager.stored_results import (
    Definition,
    DefinitionPage,
    StoredVersion,
    VersionPage,
)

T = TypeVar("T")


class Send(Protocol):
    """Sends a call and reads its answer."""

    def __call__(self, call: Call[T]) -> T: ...


class AsyncSend(Protocol):
    """The same, to be awaited."""

    def __call__(self, call: Call[T]) -> Awaitable[T]: ...


class Definitions:
    """The stored definitions of a service. The methods raise what those of the client do."""

    def __init__(self, send: Send) -> None:
        self._send = send

    def put(
        self,
        definition: JsonValue,
        *,
        after_version: int | None = None,
        only_new: bool = False,
    ) -> StoredVersion:
        """Store a definition under its own id; what is the newest version already is no new one.

        With ``after_version`` only where that is the newest one, with ``only_new`` only where the
        flow is not stored: else the service refuses with 412.
        """
        call = calls.put_definition(definition, after_version=after_version, only_new=only_new)
        return self._send(call)

    def get(self, flow_id: str, *, version: int | None = None) -> Definition:
        """A stored definition: that version, or the newest one."""
        return self._send(calls.get_definition(flow_id, version))

    def list(self, *, limit: int | None = None, cursor: str | None = None) -> DefinitionPage:
        """A page of the stored flows by their ids, each with its newest version."""
        return self._send(calls.list_definitions(limit, cursor))

    def versions(
        self, flow_id: str, *, limit: int | None = None, cursor: str | None = None
    ) -> VersionPage:
        """A page of the versions of a flow, the newest first."""
        return self._send(calls.list_versions(flow_id, limit, cursor))

    def delete(self, flow_id: str) -> None:
        """Hide a flow from new runs; its runs go on."""
        self._send(calls.delete_definition(flow_id))


class AsyncDefinitions:
    """The same methods as :class:`Definitions`, to be awaited."""

    def __init__(self, send: AsyncSend) -> None:
        self._send = send

    async def put(
        self,
        definition: JsonValue,
        *,
        after_version: int | None = None,
        only_new: bool = False,
    ) -> StoredVersion:
        """Store a definition under its own id; see :meth:`Definitions.put`."""
        call = calls.put_definition(definition, after_version=after_version, only_new=only_new)
        return await self._send(call)

    async def get(self, flow_id: str, *, version: int | None = None) -> Definition:
        """A stored definition: that version, or the newest one."""
        return await self._send(calls.get_definition(flow_id, version))

    async def list(self, *, limit: int | None = None, cursor: str | None = None) -> DefinitionPage:
        """A page of the stored flows by their ids, each with its newest version."""
        return await self._send(calls.list_definitions(limit, cursor))

    async def versions(
        self, flow_id: str, *, limit: int | None = None, cursor: str | None = None
    ) -> VersionPage:
        """A page of the versions of a flow, the newest first."""
        return await self._send(calls.list_versions(flow_id, limit, cursor))

    async def delete(self, flow_id: str) -> None:
        """Hide a flow from new runs; its runs go on."""
        await self._send(calls.delete_definition(flow_id))
