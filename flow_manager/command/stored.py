"""``flow-manager definitions``: what is stored, in which versions."""

from pathlib import Path

import typer

from flow_manager.command.exits import ExitStatus
from flow_manager.command.options import API_KEY, AS_JSON, URL, connect

FLOW_ID = typer.Argument(help="The flow's id.", metavar="FLOW_ID", show_default=False)
LIMIT = typer.Option(50, min=1, max=1_000, help="How many.")
CURSOR = typer.Option(None, help="Where a page before ended.", show_default=False)


def list_definitions(
    limit: int = LIMIT,
    cursor: str | None = CURSOR,
    url: str = URL,
    api_key: str | None = API_KEY,
    as_json: bool = AS_JSON,
) -> None:
    """List the stored flows, each with its newest version."""
    from flow_manager.command.output import local_time, print_json, print_table

    with connect(url, api_key) as client:
        page = client.definitions.list(limit=limit, cursor=cursor)
    if as_json:
        print_json(page.to_json())
        return
    rows = [
        (each.flow_id, str(each.version), local_time(each.created_at), each.hash[:12])
        for each in page.definitions
    ]
    print_table(("flow", "version", "stored", "hash"), rows, empty="No flow is stored.")
    if page.next_cursor:
        print(f"More: --cursor {page.next_cursor}")


def put(
    file: Path = typer.Argument(help="A definition as JSON; - for standard input."),
    after_version: int | None = typer.Option(
        None, "--after", min=1, help="Only where this version is the newest.", show_default=False
    ),
    only_new: bool = typer.Option(False, "--new", help="Only where the flow is not stored."),
    url: str = URL,
    api_key: str | None = API_KEY,
    as_json: bool = AS_JSON,
) -> None:
    """Store a definition. Exit status 2 where it is invalid."""
    from flow_manager.calls import RequestRefused
    from flow_manager.command.definitions import read_document
    from flow_manager.command.output import print_json
    from flow_manager.command.runs import INVALID_STATUSES, print_refusal

    body, definition = read_document(file)
    with connect(url, api_key) as client:
        try:
            stored = client.definitions.put(
                definition, after_version=after_version, only_new=only_new
            )
        except RequestRefused as refusal:
            if refusal.status not in INVALID_STATUSES:
                raise
            print_refusal(file, body, definition, refusal)
            raise typer.Exit(ExitStatus.INVALID) from None
    if as_json:
        print_json(stored.to_json())
        return
    for warning in stored.warnings:
        print(f"warning: {warning.get('pointer')}: {warning.get('message')}")
    told = "Stored" if stored.created else "Nothing has changed:"
    print(f"{told} {stored.flow_id}, version {stored.version}.")


def show(
    flow_id: str = FLOW_ID,
    version: int | None = typer.Option(
        None, "--version", min=1, help="This version; else the newest.", show_default=False
    ),
    url: str = URL,
    api_key: str | None = API_KEY,
) -> None:
    """Print a stored definition as JSON, ready to be edited and put again."""
    from flow_manager.command.output import print_json

    with connect(url, api_key) as client:
        found = client.definitions.get(flow_id, version=version)
    print_json(found.definition)


def versions(
    flow_id: str = FLOW_ID,
    limit: int = LIMIT,
    cursor: str | None = CURSOR,
    url: str = URL,
    api_key: str | None = API_KEY,
    as_json: bool = AS_JSON,
) -> None:
    """List the versions of a flow, the newest first."""
    from flow_manager.command.output import local_time, print_json, print_table

    with connect(url, api_key) as client:
        page = client.definitions.versions(flow_id, limit=limit, cursor=cursor)
    if as_json:
        print_json(page.to_json())
        return
    rows = [
        (str(each.version), local_time(each.created_at), each.hash[:12]) for each in page.versions
    ]
    print_table(("version", "stored", "hash"), rows, empty="There are no further versions.")
    if page.next_cursor:
        print(f"More: --cursor {page.next_cursor}")


def delete(flow_id: str = FLOW_ID, url: str = URL, api_key: str | None = API_KEY) -> None:
    """Hide a stored flow from new runs; its runs go on."""
    with connect(url, api_key) as client:
        client.definitions.delete(flow_id)
    print(f"Deleted {flow_id}.")
