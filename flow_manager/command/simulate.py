"""``flow-manager simulate``: the way a definition takes, in memory and offline."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from flow_manager.command.exits import ExitStatus
from flow_manager.command.options import AS_JSON
from shared.errors import InvalidDefinition, InvalidDocument, InvalidInput

if TYPE_CHECKING:
    from pydantic import JsonValue

    from flow_manager.results import Run
    from shared.settings import Settings
    from shared.simulation import SimulatedRun
    from shared.simulation_requests import SimulationRequest


def simulate(
    file: Path = typer.Argument(help="A definition as JSON; - for standard input."),
    given_input: str | None = typer.Option(
        None, "--input", help="The run's input: JSON, or @FILE.", show_default=False
    ),
    outcomes: str | None = typer.Option(
        None,
        "--outcomes",
        help='What tasks come to: JSON such as {"scan": false}, or @FILE.',
        show_default=False,
    ),
    signals: str | None = typer.Option(
        None,
        "--signals",
        help="What comes with the signals that are waited for, by name: JSON, or @FILE.",
        show_default=False,
    ),
    as_json: bool = AS_JSON,
) -> None:
    """Show the way a definition takes, without running its tasks.

    Exit status: 0 completed with success, 1 anything else, 2 invalid.
    """
    from datetime import UTC, datetime

    from flow_manager.command.output import print_json
    from shared.settings import load_settings
    from shared.simulation.document import run_document

    settings = load_settings()
    request = _request(
        file, {"input": given_input, "outcomes": outcomes, "signals": signals}, settings
    )
    run = request.carry_out(settings, datetime.now(UTC))
    if as_json:
        print_json(run_document(run))
    else:
        _draw(run, request.flow.definition.name)
    if run.outcome != "success":
        raise typer.Exit(ExitStatus.FAILED)


def _request(file: Path, given: dict[str, str | None], settings: "Settings") -> "SimulationRequest":
    from flow_manager.command.definitions import describe, read_document
    from shared.control_tasks import control_schemas
    from shared.simulation_requests import read_simulation

    body, document = read_document(file)
    # The file may be the body of a request, too; what is given beside it counts.
    is_wrapped = isinstance(document, dict) and "flow" in document
    wrapped: dict[str, JsonValue]
    wrapped = dict(document) if is_wrapped and isinstance(document, dict) else {"flow": document}
    for name, text in given.items():
        if text is not None:
            wrapped[name] = _read(name, text, settings)
    try:
        return read_simulation(wrapped, settings, control_schemas())
    except InvalidDefinition as error:
        for finding in error.findings:
            option = finding.pointer.split("/")[1:2]
            if option and given.get(option[0]) is not None:
                hint = f" ({finding.suggestion})" if finding.suggestion else ""
                print(f"--{option[0]} {finding.pointer}: error: {finding.message}{hint}")
                continue
            pointer = finding.pointer if is_wrapped else finding.pointer.removeprefix("/flow")
            print(describe(file, body, finding, pointer, "error"))
        raise typer.Exit(ExitStatus.INVALID) from None


def _read(name: str, text: str, settings: "Settings") -> "JsonValue":
    from shared.documents import parse_document

    try:
        body = Path(text[1:]).read_bytes() if text.startswith("@") else text.encode()
        return parse_document(body, max_depth=settings.max_depth, max_bytes=settings.max_body_bytes)
    except OSError as error:
        raise InvalidInput(f"--{name}: {text[1:]} cannot be read: {error.strerror}") from None
    except InvalidDocument as error:
        place = f" (line {error.line}, column {error.column})" if error.line else ""
        raise InvalidInput(f"--{name}: {error.message}{place}") from None


def _draw(run: "SimulatedRun", name: str) -> None:
    """The run as the tree that executed ones are drawn as, and what is to be known of it."""
    from rich.console import Console
    from rich.text import Text

    from flow_manager.command.output import print_json
    from flow_manager.command.tree import draw

    console = Console(highlight=False)
    console.print(draw(_as_executed(run, name), console))
    console.print(Text(f"Path: {' > '.join(run.path)}"))
    if run.assumed:
        console.print(Text(f"Taken for a plain success: {', '.join(run.assumed)} (--outcomes)"))
    awaited = dict.fromkeys(one.waits_for for one in run.task_runs if one.waits_for is not None)
    if awaited:
        console.print(Text(f"Waits for ever for the signal {', '.join(awaited)} (--signals)"))
    if run.output is not None:
        print_json(run.output)


def _as_executed(run: "SimulatedRun", name: str) -> "Run":
    from flow_manager.results import Run, TaskError, TaskRunResult

    return Run(
        flow_run_id="(simulated)",
        flow_id=run.flow_id,
        name=name,
        status=run.status,
        outcome=run.outcome,
        duration_ms=run.seconds * 1_000,
        error=None if run.error is None else TaskError.model_validate(run.error),
        tasks=[
            TaskRunResult(
                task_run_id="",
                name=one.name,
                branch=one.branch,
                iteration=one.iteration,
                index=one.index,
                attempt=one.attempt,
                status=one.status,
                error=None if one.error is None else TaskError.model_validate(one.error),
                reason=one.reason,
                duration_ms=None
                if one.finished_seconds is None
                else (one.finished_seconds - one.started_seconds) * 1_000,
            )
            for one in run.task_runs
        ],
    )
