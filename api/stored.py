"""What the API reads of stored definitions for who wants to run one."""

from dataclasses import dataclass

from api.reading import Reader
from shared.errors import Finding, InvalidDefinition
from shared.findings import nearest_names, quoted
from shared.queries.definitions import flow_ids, get_version

_MAX_NAMES = 1_000


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """One version of a stored definition."""

    version: int
    hash: str
    content: bytes
    """JSON."""


class StoredView:
    """The stored definitions."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def version(self, flow_id: str, version: int | None) -> StoredVersion:
        """A version, the newest where none is named.

        Raises:
            InvalidDefinition: there is none, told of the body that named it.
        """
        row = await self._reader.call(get_version, flow_id, version)
        if row is None:
            raise InvalidDefinition([await self._unknown(flow_id, version)])
        return StoredVersion(row.version, row.hash, row.definition)

    async def _unknown(self, flow_id: str, version: int | None) -> Finding:
        known = await self._reader.call(flow_ids, _MAX_NAMES)
        if flow_id in known:
            message = f"the flow {quoted(flow_id)} has no version {version}"
            return Finding("/version", "unknown_flow", message)
        nearest = nearest_names(flow_id, known)
        return Finding(
            "/flow_id",
            "unknown_flow",
            f"no flow {quoted(flow_id)} is stored",
            f"did you mean {quoted(nearest[0])}?" if nearest else None,
        )
