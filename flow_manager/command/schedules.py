"""``flow-manager schedules``: what starts stored definitions by the clock."""

from typing import TYPE_CHECKING

import typer

from flow_manager.command.exits import ExitStatus
from flow_manager.command.options import API_KEY, AS_JSON, URL, connect
from shared.errors import InvalidInput

if TYPE_CHECKING:
    from pydantic import JsonValue

    from flow_manager.results import Schedule

SCHEDULE_ID = typer.Argument(help="The schedule's id.", metavar="ID", show_default=False)


def list_schedules(
    flow_id: str | None = typer.Option(None, help="Only those of this flow.", show_default=False),
    limit: int = typer.Option(50, min=1, max=1_000, help="How many."),
    cursor: str | None = typer.Option(None, help="Where a page before ended.", show_default=False),
    url: str = URL,
    api_key: str | None = API_KEY,
    as_json: bool = AS_JSON,
) -> None:
    """List the schedules."""
    from flow_manager.command.output import local_time, print_json, print_table

    with connect(url, api_key) as client:
        page = client.schedules.list(flow_id=flow_id, limit=limit, cursor=cursor)
    if as_json:
        print_json(page.to_json())
        return
    rows = [
        (
            each.id,
            each.flow_id,
            _timing(each),
            "paused" if each.paused else local_time(each.next_tick),
            local_time(each.last_start.at) if each.last_start else "",
            each.last_start.status or "deleted" if each.last_start else "",
            each.last_error.message if each.last_error else "",
        )
        for each in page.schedules
    ]
    columns = ("schedule", "flow", "when", "next", "last", "status", "error")
    print_table(columns, rows, empty="There are no schedules.")
    if page.next_cursor:
        print(f"More: --cursor {page.next_cursor}")


def create(
    flow_id: str = typer.Argument(help="The stored flow.", metavar="FLOW_ID", show_default=False),
    schedule_id: str | None = typer.Option(
        None, "--id", help="Its own id; else it gets one.", show_default=False
    ),
    cron: str | None = typer.Option(
        None, help='Such as "30 2 * * MON-FRI", or @daily.', show_default=False
    ),
    time_zone: str | None = typer.Option(
        None, help="Of --cron: Europe/Berlin. Else UTC.", show_default=False
    ),
    every: str | None = typer.Option(
        None, help="In place of --cron: 90, 5m, 1d.", show_default=False
    ),
    start: str | None = typer.Option(
        None, help="Of --every: the first tick, 2026-01-02T03:04:05Z.", show_default=False
    ),
    version: int | None = typer.Option(
        None, min=1, help="This version of the flow; else the newest.", show_default=False
    ),
    given_input: str | None = typer.Option(
        None, "--input", help="The input of each run: JSON, or @FILE.", show_default=False
    ),
    overlap: str = typer.Option(
        "skip", help="What to do while a run goes on: skip, queue or allow."
    ),
    catch_up: bool = typer.Option(True, help="Make up for the newest start that was missed."),
    paused: bool | None = typer.Option(
        None, "--paused/--not-paused", help="Whether it starts anything.", show_default=False
    ),
    replace: bool = typer.Option(False, "--replace", help="Change it where --id is there."),
    url: str = URL,
    api_key: str | None = API_KEY,
    as_json: bool = AS_JSON,
) -> None:
    """Make a schedule. Exit status 2 where it is invalid."""
    from flow_manager.command.runs import read_input

    given: dict[str, JsonValue] = {
        "id": schedule_id,
        "flow_id": flow_id,
        "cron": cron,
        "time_zone": time_zone,
        "every": every,
        "start": start,
        "version": version,
        "input": read_input(given_input),
        "overlap": overlap,
        "catch_up": catch_up,
        "paused": paused,
    }
    wanted: dict[str, JsonValue] = {
        name: value for name, value in given.items() if value is not None
    }
    _print_schedule(_send(wanted, schedule_id, replace, url, api_key), as_json)


def show(
    schedule_id: str = SCHEDULE_ID,
    url: str = URL,
    api_key: str | None = API_KEY,
    as_json: bool = AS_JSON,
) -> None:
    """Show a schedule: its next ticks, its last start, and what went wrong."""
    with connect(url, api_key) as client:
        found = client.schedules.get(schedule_id)
    _print_schedule(found, as_json)


def pause(schedule_id: str = SCHEDULE_ID, url: str = URL, api_key: str | None = API_KEY) -> None:
    """Start nothing until it is resumed; what comes due meanwhile is never made up for."""
    with connect(url, api_key) as client:
        client.schedules.pause(schedule_id)
    print(f"Paused {schedule_id}.")


def resume(schedule_id: str = SCHEDULE_ID, url: str = URL, api_key: str | None = API_KEY) -> None:
    """Let a paused schedule go on with its first tick from now on."""
    from flow_manager.command.output import local_time

    with connect(url, api_key) as client:
        found = client.schedules.resume(schedule_id)
    print(f"Resumed {schedule_id}; the next tick is {local_time(found.next_tick)}.")


def trigger(
    schedule_id: str = SCHEDULE_ID,
    idempotency_key: str | None = typer.Option(
        None, "--idempotency-key", help="The same key starts only one run.", show_default=False
    ),
    url: str = URL,
    api_key: str | None = API_KEY,
) -> None:
    """Start a run of a schedule now."""
    with connect(url, api_key) as client:
        started = client.schedules.trigger(schedule_id, idempotency_key=idempotency_key)
    print(f"Started run {started.flow_run_id}.")


def delete(schedule_id: str = SCHEDULE_ID, url: str = URL, api_key: str | None = API_KEY) -> None:
    """Delete a schedule; runs that it started go on."""
    with connect(url, api_key) as client:
        client.schedules.delete(schedule_id)
    print(f"Deleted {schedule_id}.")


def _send(
    wanted: "dict[str, JsonValue]",
    schedule_id: str | None,
    replace: bool,
    url: str,
    api_key: str | None,
) -> "Schedule":
    from flow_manager.calls import RequestRefused
    from flow_manager.command.runs import INVALID_STATUSES, finding_of

    if replace and schedule_id is None:
        raise InvalidInput("--replace needs --id")
    with connect(url, api_key) as client:
        try:
            if replace and schedule_id is not None:
                return client.schedules.put(schedule_id, wanted)
            return client.schedules.create(wanted)
        except RequestRefused as refusal:
            if refusal.status not in INVALID_STATUSES:
                raise
            for each in refusal.problem.errors:
                finding = finding_of(each)
                option = f"--{finding.pointer[1:].replace('_', '-')} " if finding.pointer else ""
                hint = f" ({finding.suggestion})" if finding.suggestion else ""
                typer.echo(f"flow-manager: {option}{finding.message}{hint}", err=True)
            raise typer.Exit(ExitStatus.INVALID) from None


def _timing(schedule: "Schedule") -> str:
    if schedule.cron is not None:
        return f"{schedule.cron} {schedule.time_zone}"
    return f"every {schedule.every:g} s"


def _print_schedule(schedule: "Schedule", as_json: bool) -> None:
    from flow_manager.command.output import local_time, print_json

    if as_json:
        print_json(schedule.to_json())
        return
    version = "newest version" if schedule.version is None else f"version {schedule.version}"
    print(f"{schedule.id}: runs {schedule.flow_id}, {version}, {_timing(schedule)}")
    if schedule.paused:
        print("  It is paused.")
    if schedule.next_ticks:
        ticks = ", ".join(local_time(tick) for tick in schedule.next_ticks)
        print(f"  next: {ticks}")
    if schedule.waiting is not None:
        print(f"  The start of {local_time(schedule.waiting)} waits for the run before it.")
    if schedule.last_start is not None:
        status = schedule.last_start.status or "deleted"
        at = local_time(schedule.last_start.at)
        print(f"  last: {at}, run {schedule.last_start.flow_run_id}, {status}")
    if schedule.last_left_out is not None:
        left_out = schedule.last_left_out
        print(f"  left out: {local_time(left_out.tick)}, {left_out.reason}")
    if schedule.last_error is not None:
        error = schedule.last_error
        print(f"  error: {local_time(error.at)}, {error.message}")
