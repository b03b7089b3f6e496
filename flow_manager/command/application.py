"""All commands, under their names and in the order in which ``--help`` shows them."""

from collections.abc import Callable
from typing import Any, TypeVar

import typer

from flow_manager.command import (
    database,
    definitions,
    diagnosis,
    explain,
    installation,
    processes,
    runs,
    schedules,
    simulate,
    stored,
    webhooks,
)

application = typer.Typer(
    name="flow-manager",
    help="Runs flows of tasks with conditions, parallel branches and joins.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

# Any: a command may take whatever options it declares.
_Command = TypeVar("_Command", bound=Callable[..., Any])

_SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True}
_EPILOG = "Every name that `flow-manager config` lists is an option here, too: --lease-seconds 6"


@application.callback(invoke_without_command=True)
def _version(
    version: bool = typer.Option(False, "--version", help="Show the version.", is_eager=True),
) -> None:
    if version:
        from importlib.metadata import version as version_of

        print(f"flow-manager {version_of('flow-manager')}")
        raise typer.Exit


def _with_settings(name: str, group: typer.Typer) -> Callable[[_Command], _Command]:
    """A command whose further options are settings."""
    return group.command(name, context_settings=_SETTINGS, epilog=_EPILOG)


_with_settings("dev", application)(processes.dev)
_with_settings("demo", application)(processes.demo)
_with_settings("api", application)(processes.api)
_with_settings("worker", application)(processes.worker)
application.command("run")(runs.run)
application.command("validate")(definitions.validate)
application.command("simulate")(simulate.simulate)
application.command("runs")(runs.list_runs)
application.command("show")(runs.show)
application.command("explain")(explain.explain)
application.command("watch")(runs.watch)
application.command("cancel")(runs.cancel)
application.command("rerun")(runs.rerun)
application.command("signal")(runs.signal)
_definitions = typer.Typer(
    help="Definitions that are stored at the service.", no_args_is_help=True, rich_markup_mode=None
)
_definitions.command("put")(stored.put)
_definitions.command("list")(stored.list_definitions)
_definitions.command("show")(stored.show)
_definitions.command("versions")(stored.versions)
_definitions.command("delete")(stored.delete)
application.add_typer(_definitions, name="definitions")
application.command("tasks")(installation.tasks)
application.command("workers")(installation.workers)
application.command("webhooks")(webhooks.webhooks)
_with_settings("doctor", application)(diagnosis.doctor)
_with_settings("config", application)(installation.config)
application.command("openapi")(installation.openapi)

_schedules = typer.Typer(
    help="Starts of stored definitions by the clock.", no_args_is_help=True, rich_markup_mode=None
)
_schedules.command("list")(schedules.list_schedules)
_schedules.command("create")(schedules.create)
_schedules.command("show")(schedules.show)
_schedules.command("pause")(schedules.pause)
_schedules.command("resume")(schedules.resume)
_schedules.command("trigger")(schedules.trigger)
_schedules.command("delete")(schedules.delete)
application.add_typer(_schedules, name="schedules")

_database = typer.Typer(
    help="The database's schema and copies.", no_args_is_help=True, rich_markup_mode=None
)
_with_settings("upgrade", _database)(database.upgrade)
_with_settings("backup", _database)(database.backup)
application.add_typer(_database, name="db")
