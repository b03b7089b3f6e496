"""Judges the sub-flows that a definition names, by what is stored now.

Asked anew for every submit: what is stored may have changed since the definition was judged.
"""

from collections.abc import Sequence

from sqlalchemy import Connection

from api.reading import Reader
from shared.definition import FlowDefinition
from shared.errors import Finding
from shared.findings import nearest_names, quoted
from shared.queries.definitions import flow_ids, get_version
from shared.sub_flows import SubFlowReference, sub_flow_references

_MAX_LOOKED_AT = 200
"""Definitions below one: what lies behind them is found when it runs."""
_MAX_NAMES = 1_000


class SubFlowView:
    """What is stored, for who refers to it."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def findings(
        self, flow_id: str, references: Sequence[SubFlowReference], prefix: str
    ) -> list[Finding]:
        """What is wrong with the sub-flows of a definition.

        Raises:
            DatabaseUnavailable: it cannot be told now.
        """
        if not references:
            return []
        return await self._reader.call(judge_sub_flows, flow_id, references, prefix)


def judge_sub_flows(
    connection: Connection, flow_id: str, references: Sequence[SubFlowReference], prefix: str
) -> list[Finding]:
    """Find flows that are not stored, and those that lead back to ``flow_id``."""
    found: list[Finding] = []
    seen: set[tuple[str, int | None]] = set()
    for reference in references:
        content = _content(connection, reference)
        if content is None:
            found.append(_unknown(connection, reference, prefix))
        elif _leads_back(connection, flow_id, content, seen):
            message = f"the flow {quoted(reference.flow_id)} has {quoted(flow_id)} as a part"
            found.append(Finding(prefix + reference.pointer, "recursive_flow", message))
    return found


def _leads_back(
    connection: Connection, flow_id: str, content: bytes, seen: set[tuple[str, int | None]]
) -> bool:
    waiting = [content]
    while waiting and len(seen) < _MAX_LOOKED_AT:
        definition = FlowDefinition.model_validate_json(waiting.pop())
        for reference in sub_flow_references(definition):
            if reference.flow_id == flow_id:
                return True
            key = (reference.flow_id, reference.version)
            if key not in seen:
                seen.add(key)
                below = _content(connection, reference)
                waiting += [] if below is None else [below]
    return False


def _content(connection: Connection, reference: SubFlowReference) -> bytes | None:
    stored = get_version(connection, reference.flow_id, reference.version)
    return None if stored is None else stored.definition


def _unknown(connection: Connection, reference: SubFlowReference, prefix: str) -> Finding:
    known = flow_ids(connection, _MAX_NAMES)
    if reference.flow_id in known:
        message = f"the flow {quoted(reference.flow_id)} has no version {reference.version}"
        return Finding(prefix + reference.pointer, "unknown_flow", message)
    nearest = nearest_names(reference.flow_id, known)
    return Finding(
        prefix + reference.pointer,
        "unknown_flow",
        f"no flow {quoted(reference.flow_id)} is stored",
        f"did you mean {quoted(nearest[0])}?" if nearest else None,
    )
