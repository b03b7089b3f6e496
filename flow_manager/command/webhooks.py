"""The command ``webhooks``: which ends of runs could not be told."""

from enum import StrEnum

import typer

from flow_manager.command.options import API_KEY, AS_JSON, URL, connect


class State(StrEnum):
    """How far a delivery is."""

    DEAD = "dead"
    PENDING = "pending"
    DELIVERED = "delivered"


_NONE = {
    State.DEAD: "No delivery was given up. Others are shown by --state pending and delivered.",
    State.PENDING: "No delivery is under way.",
    State.DELIVERED: "Nothing was delivered yet.",
}


def webhooks(
    state: State = typer.Option(State.DEAD, "--state", help="Deliveries in this state."),
    limit: int = typer.Option(50, min=1, max=1_000, help="How many at most."),
    url: str = URL,
    api_key: str | None = API_KEY,
    as_json: bool = AS_JSON,
) -> None:
    """List deliveries of webhooks, by default those that were given up."""
    from flow_manager.command.output import cell, print_json, print_table, rows_in

    with connect(url, api_key) as client:
        document = client.get_json(f"/webhooks?state={state.value}&limit={limit}")
    if as_json:
        print_json(document)
        return
    names = ("flow_run_id", "type", "host", "attempts", "status_code", "error", "created_at")
    rows = [[cell(row.get(name)) for name in names] for row in rows_in(document)]
    columns = ("run", "event", "receiver", "attempts", "answer", "error", "created")
    print_table(columns, rows, empty=_NONE[state])
