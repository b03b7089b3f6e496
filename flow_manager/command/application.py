"""All commands, under their names and in the order in which ``--help`` shows them."""

import typer

from flow_manager.command import database, definitions, diagnosis, installation, processes, runs

application = typer.Typer(
    name="flow-manager",
    help="Runs flows of tasks with conditions, parallel branches and joins.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

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


for name, function in (
    ("dev", processes.dev),
    ("demo", processes.demo),
    ("api", processes.api),
    ("worker", processes.worker),
):
    application.command(name, context_settings=_SETTINGS, epilog=_EPILOG)(function)

application.command("run")(runs.run)
application.command("validate")(definitions.validate)
application.command("runs")(runs.list_runs)
application.command("show")(runs.show)
application.command("watch")(runs.watch)
application.command("cancel")(runs.cancel)
application.command("tasks")(installation.tasks)
application.command("workers")(installation.workers)
application.command("doctor", context_settings=_SETTINGS, epilog=_EPILOG)(diagnosis.doctor)
application.command("config", context_settings=_SETTINGS, epilog=_EPILOG)(installation.config)
application.command("openapi")(installation.openapi)

_database = typer.Typer(
    help="The database's schema and copies.", no_args_is_help=True, rich_markup_mode=None
)
for name, function in (("upgrade", database.upgrade), ("backup", database.backup)):
    _database.command(name, context_settings=_SETTINGS, epilog=_EPILOG)(function)
application.add_typer(_database, name="db")
