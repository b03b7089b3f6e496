"""The commands ``definitions put|list|show|versions|delete``: what is stored at the service."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from flow_manager.command.exits import ExitStatus
from flow_manager.command.options import API_KEY, AS_JSON, URL, connect

if TYPE_CHECKING:
    from flow_manager.stored import VersionPage

FLOW_ID = typer.Argument(help="The id of the flow.", metavar="FLOW_ID", show_default=False)
LIMIT = typer.Option(50, min=1, max=1_000, help="How many.")
CURSOR = typer.Option(None, help="Where a page before ended.", show_default=False)


def put(
    file: Path = typer.Argument(help="A definition as JSON; - for standard input."),
    url: str = URL,
    api_key: str | None = API_KEY,
    as_json: bool = AS_JSON,
) -> None:
    """Store a definition, as a new version unless the newest is the same."""
    from flow_manager.calls import RequestRefused
    from flow_manager.command.definitions import read_document
    from flow_manager.command.output import print_json
    from flow_manager.command.runs import INVALID_STATUSES, print_refusal
    from shared.errors import InvalidInput

    body, definition = read_document(file)
    if not isinstance(definition, dict):
        raise InvalidInput(f"{file}: a definition is an object")
    with connect(url, api_key) as client:
        try:
            stored = client.definitions.put(definition)
        except RequestRefused as refusal:
            if refusal.status not in INVALID_STATUSES:
                raise
            print_refusal(file, body, refusal)
            raise typer.Exit(ExitStatus.INVALID) from None
    if as_json:
        print_json(stored.to_json())
        return
    for warning in stored.warnings:
        print(f"{file}: warning: {warning.get('message')} [{warning.get('code')}]")
    print(f"Stored {stored.flow_id} as version {stored.version}.")


def list_definitions(
    limit: int = LIMIT,
    cursor: str | None = CURSOR,
    url: str = URL,
    api_key: str | None = API_KEY,
    as_json: bool = AS_JSON,
) -> None:
    """List the stored definitions, each in its newest version."""
    with connect(url, api_key) as client:
        page = client.definitions.list(limit=limit, cursor=cursor)
    _print_page("definitions", page, as_json, "Nothing is stored.")


def versions(
    flow_id: str = FLOW_ID,
    limit: int = LIMIT,
    cursor: str | None = CURSOR,
    url: str = URL,
    api_key: str | None = API_KEY,
    as_json: bool = AS_JSON,
) -> None:
    """List the versions of a stored definition, the newest first."""
    with connect(url, api_key) as client:
        page = client.definitions.versions(flow_id, limit=limit, cursor=cursor)
    _print_page("versions", page, as_json, "There are no more versions.")


def show(
    flow_id: str = FLOW_ID,
    version: int | None = typer.Option(
        None, "--version", min=1, help="The newest without it.", show_default=False
    ),
    url: str = URL,
    api_key: str | None = API_KEY,
) -> None:
    """Print a stored definition, as it was sent."""
    from flow_manager.command.output import print_json

    with connect(url, api_key) as client:
        print_json(client.definitions.get(flow_id, version).definition)


def delete(flow_id: str = FLOW_ID, url: str = URL, api_key: str | None = API_KEY) -> None:
    """Let no more runs of a flow be started. Those that run go on."""
    with connect(url, api_key) as client:
        client.definitions.delete(flow_id)
    print(f"Deleted {flow_id}.")


def _print_page(field: str, page: "VersionPage", as_json: bool, empty: str) -> None:
    from flow_manager.command.output import local_time, print_json, print_table

    if as_json:
        rows = [each.to_json() for each in page.versions]
        print_json({field: rows, "next_cursor": page.next_cursor})
        return
    print_table(
        ("flow", "version", "stored", "hash"),
        [
            (each.flow_id, str(each.version), local_time(each.created_at), each.hash[:12])
            for each in page.versions
        ],
        empty=empty,
    )
    if page.next_cursor:
        print(f"More: --cursor {page.next_cursor}")
