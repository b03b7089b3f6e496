"""``flow-manager doctor``: what is wrong with this installation, and what to do about it."""

from pathlib import Path

import typer

from flow_manager.command.exits import ExitStatus
from flow_manager.command.options import AS_JSON, settings_of


def doctor(
    context: typer.Context,
    ready: bool = typer.Option(
        False, "--ready", help="Only whether database and Redis answer; for health checks."
    ),
    data: Path | None = typer.Option(
        None,
        "--data",
        help="Look at the `flow-manager dev` of this data folder.",
        show_default=False,
    ),
    as_json: bool = AS_JSON,
) -> None:
    """Check the installation. Exit status 1 where something is wrong."""
    from flow_manager.command.checks import Verdict, check_installation, check_readiness
    from flow_manager.command.output import print_json, print_table

    settings = settings_of(context, **_places(data))
    findings = check_readiness(settings) if ready else check_installation(settings)
    if as_json:
        print_json([{"check": f.check, "verdict": f.verdict, "detail": f.detail} for f in findings])
    else:
        rows = [(f.verdict.value, f.check, f.detail) for f in findings]
        print_table(("", "check", "what was found"), rows, empty="")
    if any(finding.verdict is Verdict.WRONG for finding in findings):
        raise typer.Exit(ExitStatus.FAILED)


def _places(data: Path | None) -> dict[str, str]:
    """Where `dev` keeps its database and its Valkey."""
    if data is None:
        return {}
    from flow_manager.development.places import database_url, redis_url

    return {"database_url": database_url(data.absolute()), "redis_url": redis_url(data.absolute())}
