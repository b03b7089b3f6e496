"""Commands about runs: ``run``, ``rerun``, ``runs``, ``show``, ``watch``, ``cancel``, ``signal``.

They speak to the service by HTTP, so they work from any machine that reaches it.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import typer

from flow_manager.command.exits import ExitStatus
from flow_manager.command.options import API_KEY, AS_JSON, URL, connect
from shared.errors import InvalidInput

if TYPE_CHECKING:
    from pydantic import JsonValue

    from flow_manager.calls import RequestRefused
    from flow_manager.client import FlowClient
    from flow_manager.results import Run
    from shared.errors import Finding


INVALID_STATUSES = frozenset({400, 413, 415, 422})
"""The service's answers that mean the file or the input."""

ID = typer.Argument(help="Its id.", metavar="ID", show_default=False)
TIMEOUT = typer.Option(
    None, "--timeout", min=0, help="Seconds to wait at most.", show_default=False
)


def run(
    file: Path | None = typer.Argument(
        None, help="A definition as JSON; - for standard input.", show_default=False
    ),
    flow_id: str | None = typer.Option(
        None, "--stored", help="The id of a stored definition, in place of a file.", metavar="ID"
    ),
    version: int | None = typer.Option(
        None, "--version", min=1, help="Its version; the newest without it.", show_default=False
    ),
    given_input: str | None = typer.Option(
        None, "--input", help="The run's input: JSON, or @FILE.", show_default=False
    ),
    watched: bool = typer.Option(False, "--watch", help="Show a live tree of its tasks."),
    timeout_seconds: float | None = TIMEOUT,
    idempotency_key: str | None = typer.Option(
        None, "--idempotency-key", help="The same key starts only one run.", show_default=False
    ),
    url: str = URL,
    api_key: str | None = API_KEY,
    as_json: bool = AS_JSON,
) -> None:
    """Run a definition and wait for its result.

    Exit status: 0 completed with success, 1 failed or with outcome failure, 2 invalid,
    3 cancelled, 124 waited too long.
    """
    from flow_manager.calls import RequestRefused

    name, body, definition = _what_to_run(file, flow_id, version)
    run_input = read_input(given_input)
    with connect(url, api_key) as client:
        try:
            submitted = client.run(definition, run_input, idempotency_key=idempotency_key)
        except RequestRefused as refusal:
            if refusal.status not in INVALID_STATUSES:
                raise
            print_refusal(name, body, refusal)
            raise typer.Exit(ExitStatus.INVALID) from None
        _follow(client, submitted.flow_run_id, watched, timeout_seconds, as_json)


def _what_to_run(
    file: Path | None, flow_id: str | None, version: int | None
) -> "tuple[Path, bytes, JsonValue]":
    """What to call it where it is refused, its text, and what it says."""
    from flow_manager.command.definitions import read_document

    if (file is None) == (flow_id is None):
        raise InvalidInput("run takes a FILE, or --stored ID")
    if file is not None:
        if version is not None:
            raise InvalidInput("--version belongs to --stored")
        return file, *read_document(file)
    named: dict[str, JsonValue] = {"flow_id": flow_id}
    if version is not None:
        named["version"] = version
    return Path("--stored"), orjson.dumps(named), named


def watch(
    flow_run_id: str = ID,
    timeout_seconds: float | None = TIMEOUT,
    url: str = URL,
    api_key: str | None = API_KEY,
    as_json: bool = AS_JSON,
) -> None:
    """Show a run as a live tree until it is over. Exit status as for `run`."""
    with connect(url, api_key) as client:
        _follow(client, flow_run_id, True, timeout_seconds, as_json)


def show(
    flow_run_id: str = ID,
    logs: bool = typer.Option(False, "--logs", help="Also the lines that its tasks logged."),
    url: str = URL,
    api_key: str | None = API_KEY,
    as_json: bool = AS_JSON,
) -> None:
    """Show a run: its tasks, errors and result."""
    with connect(url, api_key) as client:
        found = client.get(flow_run_id)
    _print_run(found, as_json, with_logs=logs)


def list_runs(
    status: str | None = typer.Option(None, help="Only runs of this status.", show_default=False),
    flow_id: str | None = typer.Option(None, help="Only runs of this flow.", show_default=False),
    schedule_id: str | None = typer.Option(
        None, help="Only runs that this schedule started.", show_default=False
    ),
    limit: int = typer.Option(20, min=1, max=1_000, help="How many, newest first."),
    cursor: str | None = typer.Option(None, help="Where a page before ended.", show_default=False),
    url: str = URL,
    api_key: str | None = API_KEY,
    as_json: bool = AS_JSON,
) -> None:
    """List runs, newest first."""
    from flow_manager.command.output import duration, local_time, print_json, print_table

    with connect(url, api_key) as client:
        page = client.list(
            status=status, flow_id=flow_id, schedule_id=schedule_id, limit=limit, cursor=cursor
        )
    if as_json:
        runs = [each.to_json() for each in page.runs]
        print_json({"flows": runs, "next_cursor": page.next_cursor})
        return
    rows = [
        (
            each.flow_run_id,
            each.flow_id,
            each.status.value,
            each.outcome.value if each.outcome else "",
            local_time(each.created_at),
            duration(each.duration_ms),
        )
        for each in page.runs
    ]
    columns = ("run", "flow", "status", "outcome", "created", "took")
    print_table(columns, rows, empty="There are no such runs.")
    if page.next_cursor:
        print(f"More: --cursor {page.next_cursor}")


def cancel(flow_run_id: str = ID, url: str = URL, api_key: str | None = API_KEY) -> None:
    """Cancel a run: running tasks are stopped, and those that wait never start."""
    from shared.status import RunStatus

    with connect(url, api_key) as client:
        answer = client.cancel(flow_run_id)
    if answer.status is RunStatus.RUNNING:
        print(f"Run {flow_run_id} undoes what it did, and is cancelled then.")
    else:
        print(f"Cancelled run {flow_run_id}.")


def rerun(
    flow_run_id: str = ID,
    start: str = typer.Option(
        "failed", "--from", help="What runs again: start, failed, or a task and what follows it."
    ),
    given_input: str | None = typer.Option(
        None, "--input", help="Another input: JSON, or @FILE.", show_default=False
    ),
    definition: Path | None = typer.Option(
        None,
        "--definition",
        help="A corrected definition as JSON, or `latest` for the newest that is stored.",
        metavar="FILE|latest",
        show_default=False,
    ),
    watched: bool = typer.Option(False, "--watch", help="Show a live tree of its tasks."),
    timeout_seconds: float | None = TIMEOUT,
    idempotency_key: str | None = typer.Option(
        None, "--idempotency-key", help="The same key starts only one run.", show_default=False
    ),
    url: str = URL,
    api_key: str | None = API_KEY,
    as_json: bool = AS_JSON,
) -> None:
    """Run a run again and wait for its result. What succeeded before is kept.

    Exit status as for `run`.
    """
    from flow_manager.calls import RequestRefused
    from flow_manager.command.definitions import read_document

    body, corrected = b"", None
    if definition is not None and str(definition) not in ("same", "latest"):
        body, corrected = read_document(definition)
    elif definition is not None:
        corrected = str(definition)
    with connect(url, api_key) as client:
        try:
            submitted = client.rerun(
                flow_run_id,
                start=start,
                input=read_input(given_input),
                definition=corrected,
                idempotency_key=idempotency_key,
            )
        except RequestRefused as refusal:
            if refusal.status not in INVALID_STATUSES:
                raise
            _print_rerun_refusal(definition, body, corrected, refusal)
            raise typer.Exit(ExitStatus.INVALID) from None
        _follow(client, submitted.flow_run_id, watched, timeout_seconds, as_json)


def signal(
    flow_run_id: str = ID,
    name: str = typer.Argument(help="The signal's name.", metavar="SIGNAL"),
    data: str | None = typer.Option(
        None, "--data", help="JSON that comes with it, or @FILE.", metavar="JSON|@FILE"
    ),
    idempotency_key: str | None = typer.Option(
        None, "--idempotency-key", help="Sent twice with the same key, it counts once."
    ),
    url: str = URL,
    api_key: str | None = API_KEY,
) -> None:
    """Send a signal to a run: whoever waits for it goes on."""
    with connect(url, api_key) as client:
        client.signal(flow_run_id, name, read_input(data), idempotency_key=idempotency_key)
    print(f"Sent {name} to run {flow_run_id}.")


def exit_status(run: "Run") -> int:
    """What a run that is over means to the shell."""
    from shared.status import RunStatus

    if run.status is RunStatus.CANCELLED:
        return ExitStatus.CANCELLED
    return ExitStatus.SUCCESS if run.is_success else ExitStatus.FAILED


def _follow(
    client: "FlowClient",
    flow_run_id: str,
    watched: bool,
    timeout_seconds: float | None,
    as_json: bool,
) -> None:
    """Wait for a run, show it, and end with its exit status."""
    try:
        if watched and not as_json:
            over = _watch_live(client, flow_run_id, timeout_seconds)
        else:
            over = client.wait(flow_run_id, timeout_seconds=timeout_seconds)
            _print_run(over, as_json)
    except TimeoutError:
        _say_it_goes_on(flow_run_id, "It was not over in time.")
        raise typer.Exit(ExitStatus.WAITED_TOO_LONG) from None
    except KeyboardInterrupt:
        _say_it_goes_on(flow_run_id, "Not waiting any longer.")
        raise typer.Exit(ExitStatus.INTERRUPTED) from None
    raise typer.Exit(exit_status(over))


def _watch_live(client: "FlowClient", flow_run_id: str, timeout_seconds: float | None) -> "Run":
    from rich.console import Console

    from flow_manager.command.tree import follow

    console = Console(highlight=False)
    over = follow(client.watch(flow_run_id, timeout_seconds=timeout_seconds), console)
    _print_output(over)
    return over


def _say_it_goes_on(flow_run_id: str, why: str) -> None:
    print(f"{why} The run goes on: flow-manager watch {flow_run_id}", file=sys.stderr)


def _print_run(run: "Run", as_json: bool, *, with_logs: bool = False) -> None:
    from flow_manager.command.output import local_time, print_json

    if as_json:
        print_json(run.to_json())
        return
    from rich.console import Console
    from rich.text import Text

    from flow_manager.command.tree import draw

    console = Console(highlight=False)
    console.print(draw(run, console))
    if run.error is not None and run.error.traceback:
        console.print(Text(run.error.traceback.rstrip(), style="dim"))
    if with_logs:
        for line in run.logs:
            text = f"{local_time(line.at)} {line.level:<7} {line.task or '-'}: {line.message}"
            console.print(Text(text))
    _print_output(run)


def _print_output(run: "Run") -> None:
    from flow_manager.command.output import print_json

    if run.output is not None:
        print_json(run.output)


def read_input(text: str | None) -> "JsonValue":
    """JSON as an option gives it: the text itself, or @FILE; None where it was not given."""
    from shared.documents import parse_document
    from shared.errors import InvalidDocument
    from shared.settings import load_settings

    if text is None:
        return None
    limits = load_settings()
    try:
        body = Path(text[1:]).read_bytes() if text.startswith("@") else text.encode()
        return parse_document(body, max_depth=limits.max_depth, max_bytes=limits.max_body_bytes)
    except OSError as error:
        raise InvalidInput(f"--input: {text[1:]} cannot be read: {error.strerror}") from None
    except InvalidDocument as error:
        place = f" (line {error.line}, column {error.column})" if error.line else ""
        raise InvalidInput(f"--input: {error.message}{place}") from None


def print_refusal(file: Path, body: bytes, refusal: "RequestRefused") -> None:
    """What the service has against a file, with the places in it."""
    from flow_manager.command.definitions import describe
    from shared.documents import locate

    findings = [finding_of(each) for each in refusal.problem.errors]
    if not findings:
        print(f"{file}: {refusal}", file=sys.stderr)
    for finding in findings:
        # The client wraps a bare definition, which the file does not know.
        bare = finding.pointer.removeprefix("/flow")
        pointer = finding.pointer if locate(body, finding.pointer, None) else bare
        print(describe(file, body, finding, pointer, "error"), file=sys.stderr)


def _print_rerun_refusal(
    file: Path | None, body: bytes, definition: "JsonValue", refusal: "RequestRefused"
) -> None:
    """The same for a rerun: with a place in the file where it is about the file."""
    from flow_manager.command.definitions import describe

    wrapper = "/flow" if isinstance(definition, dict) and "flow" in definition else ""
    findings = [finding_of(each) for each in refusal.problem.errors]
    if not findings:
        print(refusal, file=sys.stderr)
    for finding in findings:
        if file is not None and body and finding.pointer.startswith("/definition"):
            pointer = wrapper + finding.pointer.removeprefix("/definition")
            print(describe(file, body, finding, pointer, "error"), file=sys.stderr)
            continue
        hint = f" ({finding.suggestion})" if finding.suggestion else ""
        option = f"--{finding.pointer[1:]}" if finding.pointer else "rerun"
        print(f"{option}: {finding.message}{hint} [{finding.code}]", file=sys.stderr)


def finding_of(error: dict[str, "JsonValue"]) -> "Finding":
    """A finding of a problem that the service sent."""
    from shared.errors import Finding

    suggestion, offset = error.get("suggestion"), error.get("offset")
    return Finding(
        pointer=str(error.get("pointer") or ""),
        code=str(error.get("code") or "invalid"),
        message=str(error.get("message") or ""),
        suggestion=suggestion if isinstance(suggestion, str) else None,
        offset=offset if isinstance(offset, int) else None,
    )
