"""``flow-manager validate``: a definition checked offline, with places in the file.

The same functions serve ``POST /run-flow``, so what is valid here is accepted there, if the
service knows the same task types.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from flow_manager.command.exits import ExitStatus
from shared.errors import InvalidDefinition, InvalidDocument, InvalidInput

if TYPE_CHECKING:
    from pydantic import JsonValue

    from shared.errors import Finding
    from shared.params_schema import TaskTypes
    from shared.validation import Validated


def validate(
    file: Path = typer.Argument(help="A definition as JSON; - for standard input."),
    tasks: str | None = typer.Option(
        None,
        "--tasks",
        help="Modules or .py files with task types beside the installed ones.",
        show_default=False,
    ),
    any_type: bool = typer.Option(
        False, "--any-type", help="Accept task types that are not installed here."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead."),
) -> None:
    """Check a definition without running it. Exit status 2 where it is invalid."""
    body, document = read_document(file)
    validated = _validated(document, None if any_type else _task_types(tasks))
    findings = [
        *((finding, "error") for finding in validated.errors),
        *((finding, "warning") for finding in validated.warnings),
    ]
    if as_json:
        _print_as_json(body, validated.flow is not None, findings)
    else:
        for finding, severity in findings:
            print(describe(file, body, finding, finding.pointer, severity))
        hidden = validated.error_count - len(validated.errors)
        if hidden > 0:
            print(f"{file}: and {hidden} further errors")
        if any(finding.code == "unknown_task_type" for finding in validated.errors):
            print("Task types of your own are found with --tasks; --any-type accepts all of them.")
        if validated.flow is not None:
            print(f"{file}: valid")
    if validated.flow is None:
        raise typer.Exit(ExitStatus.INVALID)


def read_document(file: Path) -> "tuple[bytes, JsonValue]":
    """A file's bytes and what they say.

    Raises:
        InvalidInput: the file cannot be read, or is no JSON; the message gives the place.
    """
    from shared.documents import parse_document
    from shared.settings import load_settings

    limits = load_settings()
    try:
        body = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{file}: {error.strerror}") from None
    try:
        document = parse_document(body, max_depth=limits.max_depth, max_bytes=limits.max_body_bytes)
    except InvalidDocument as error:
        place = f":{error.line}:{error.column}" if error.line is not None else ""
        raise InvalidInput(f"{file}{place}: {error.message}") from None
    return body, document


def describe(file: Path, body: bytes, finding: "Finding", pointer: str, severity: str) -> str:
    """A finding in one line that editors can jump to."""
    from shared.documents import locate

    place = locate(body, pointer, finding.offset)
    where = f"{file}:{place[0]}:{place[1]}" if place else f"{file} {pointer}".rstrip()
    hint = f" ({finding.suggestion})" if finding.suggestion else ""
    return f"{where}: {severity}: {finding.message}{hint} [{finding.code}]"


def _validated(document: "JsonValue", types: "TaskTypes | None") -> "Validated":
    from shared.settings import load_settings
    from shared.submissions import split_submission
    from shared.validation import Limits, Validated, validate_definition

    settings = load_settings()
    limits = Limits(max_tasks=settings.max_tasks, max_edges=settings.max_edges)
    try:
        submission = split_submission(document)
    except InvalidDefinition as error:
        return Validated(
            errors=error.findings,
            warnings=(),
            flow=None,
            definition_json=b"",
            error_count=len(error.findings),
        )
    return validate_definition(
        submission.definition,
        prefix=submission.prefix,
        limits=limits,
        task_types=None if types is None else types.names,
        params_schemas=None if types is None else types.params_schemas,
    )


def _task_types(tasks: str | None) -> "TaskTypes":
    from shared.registry import load_registry
    from shared.settings import load_settings

    registry = load_registry(load_settings(task_modules=tasks).task_modules)
    for problem in registry.problems:
        print(f"warning: {problem.source} did not load: {problem.message}", file=sys.stderr)
    return registry.types()


def _print_as_json(body: bytes, is_valid: bool, findings: "list[tuple[Finding, str]]") -> None:
    from flow_manager.command.output import print_json
    from shared.documents import locate

    rows = []
    for finding, severity in findings:
        line, column = locate(body, finding.pointer, finding.offset) or (None, None)
        rows.append(
            {
                "severity": severity,
                "pointer": finding.pointer,
                "offset": finding.offset,
                "line": line,
                "column": column,
                "code": finding.code,
                "message": finding.message,
                "suggestion": finding.suggestion,
            }
        )
    print_json({"valid": is_valid, "findings": rows})
