"""Stored definitions as runs and schedules refer to them: which version is meant, if any."""

from sqlalchemy import Connection

from api.reading import Reader
from api.refusals import InvalidRequest
from api.run_requests import StoredRequest
from shared.errors import Finding
from shared.findings import nearest_names, quoted
from shared.queries.definitions import find_version, get_version, list_definitions
from shared.queries.rows import AnyRow

_MAX_NAMES = 1_000
"""Flows that a suggestion is looked for among."""


class StoredFlows:
    """Looks stored definitions up, each time anew: the newest version may change at any moment."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def find(self, wanted: StoredRequest) -> AnyRow:
        """The version that is meant, with the hash of its definition.

        Raises:
            InvalidRequest: no such flow or version is stored.
        """
        found = await self._reader.call(find_version, wanted.flow_id, wanted.version)
        if found is None:
            raise await self._unknown(wanted)
        return found

    async def content(self, wanted: StoredRequest, version: int) -> bytes:
        """The definition of that version as JSON.

        Raises:
            InvalidRequest: it was deleted meanwhile.
        """
        row = await self._reader.call(get_version, wanted.flow_id, version)
        if row is None:
            raise await self._unknown(wanted)
        content: bytes = row.definition
        return content

    async def _unknown(self, wanted: StoredRequest) -> InvalidRequest:
        return InvalidRequest([await self._reader.call(unknown_flow, wanted)])


def unknown_flow(connection: Connection, wanted: StoredRequest) -> Finding:
    """What is said of a flow or version that is not stored."""
    if find_version(connection, wanted.flow_id) is not None:
        message = f"the flow {quoted(wanted.flow_id)} has no version {wanted.version}"
        return Finding("/version", "unknown_version", message)
    known = [row.flow_id for row in list_definitions(connection, None, _MAX_NAMES).rows]
    nearest = nearest_names(wanted.flow_id, known)
    hint = f"did you mean {quoted(nearest[0])}?" if nearest else None
    message = f"no flow {quoted(wanted.flow_id)} is stored"
    return Finding("/flow_id", "unknown_flow", message, hint)
