"""The command ``explain``: why a run stands where it does."""

from flow_manager.command.options import API_KEY, AS_JSON, URL, connect
from flow_manager.command.runs import ID


def explain(
    flow_run_id: str = ID,
    url: str = URL,
    api_key: str | None = API_KEY,
    as_json: bool = AS_JSON,
) -> None:
    """Say why a run does not move, a sentence for every reason."""
    from flow_manager.command.output import print_json

    with connect(url, api_key) as client:
        found = client.explain(flow_run_id)
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    print(found.summary)
    for reason in found.reasons:
        if reason.message != found.summary:
            print(f"  {reason.message}")
    if found.more:
        print(f"  ... and {found.more} more.")
