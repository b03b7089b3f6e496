"""How stored definitions look as JSON."""

from collections.abc import Sequence
from datetime import datetime
from urllib.parse import quote

import orjson

from api.representations import Document, dump, told
from shared.errors import Finding
from shared.queries.rows import AnyRow
from shared.queries.runs import Page


def definition_path(flow_id: str) -> str:
    """Where the stored definition of a flow is found."""
    return f"/definitions/{quote(flow_id, safe='')}"


def stored_version(
    flow_id: str,
    version: int,
    definition_hash: str,
    created_at: datetime,
    warnings: Sequence[Finding],
) -> bytes:
    """What a PUT came to."""
    head = _head(flow_id, version, definition_hash, created_at)
    return dump({**head, "warnings": [told(finding) for finding in warnings]})


def definition(row: AnyRow) -> bytes:
    """One version with its definition."""
    return dump({**_summary(row), "definition": orjson.Fragment(row.definition)})


def definition_list(page: Page) -> bytes:
    """A page of flows, each with its newest version."""
    return _list("definitions", page)


def version_list(page: Page) -> bytes:
    """A page of the versions of one flow."""
    return _list("versions", page)


def _list(name: str, page: Page) -> bytes:
    rows = [_summary(row) for row in page.rows]
    return dump({name: rows, "next_cursor": page.next_cursor})


def _summary(row: AnyRow) -> Document:
    return _head(row.flow_id, row.version, row.hash, row.created_at)


def _head(flow_id: str, version: int, definition_hash: str, created_at: datetime) -> Document:
    place = definition_path(flow_id)
    return {
        "flow_id": flow_id,
        "version": version,
        "hash": definition_hash,
        "created_at": created_at,
        "links": {
            "self": f"{place}?version={version}",
            "newest": place,
            "versions": f"{place}/versions",
        },
    }
