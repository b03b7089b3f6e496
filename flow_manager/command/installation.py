"""Commands about the installation: ``tasks``, ``workers``, ``config`` and ``openapi``."""

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from flow_manager.command.options import API_KEY, AS_JSON, URL, connect, settings_of
from shared.errors import FlowManagerError

if TYPE_CHECKING:
    from pydantic import JsonValue

_OPENAPI_SECONDS = 60.0


def tasks(
    local: bool = typer.Option(
        False, "--local", help="Those that are installed here, without asking a service."
    ),
    url: str = URL,
    api_key: str | None = API_KEY,
    as_json: bool = AS_JSON,
) -> None:
    """List the task types that the workers can run."""
    from flow_manager.command.output import cell, print_json, print_table, rows_in

    if local:
        document = _local_tasks()
    else:
        with connect(url, api_key) as client:
            document = client.get_json("/tasks")
    if as_json:
        print_json(document)
        return
    rows = [
        [cell(row.get(name)).partition("\n")[0] for name in ("name", "description", "source")]
        for row in rows_in(document)
    ]
    print_table(("task", "description", "source"), rows, empty="There are no task types.")
    for problem in rows_in(document.get("problems") if isinstance(document, dict) else None):
        line = f"{cell(problem['source'])} did not load: {cell(problem['message'])}"
        print(line, file=sys.stderr)


def workers(url: str = URL, api_key: str | None = API_KEY, as_json: bool = AS_JSON) -> None:
    """List the live workers."""
    from flow_manager.command.output import cell, print_json, print_table, rows_in

    with connect(url, api_key) as client:
        document = client.get_json("/workers")
    if as_json:
        print_json(document)
        return
    names = ("worker_id", "state", "running", "concurrency", "queues", "host", "pid")
    rows = [[cell(row.get(name)) for name in names] for row in rows_in(document)]
    columns = ("worker", "state", "running", "slots", "queues", "host", "pid")
    print_table(columns, rows, empty="No worker is alive.")


def config(context: typer.Context, as_json: bool = AS_JSON) -> None:
    """List every setting: its variable, its value here, and whether that is the default."""
    from flow_manager.command.output import print_json, print_table

    settings = settings_of(context)
    given = settings.model_fields_set
    # In JSON form secrets stay hidden.
    values = settings.model_dump(mode="json")
    values["database_url"] = _without_password(settings.database_url)
    rows = [
        {"variable": f"FLOW_{name.upper()}", "value": value, "default": name not in given}
        for name, value in values.items()
    ]
    if as_json:
        print_json(rows)
        return
    cells = [
        (row["variable"], _setting(row["value"]), "" if row["default"] else "given") for row in rows
    ]
    print_table(("variable", "value", ""), cells, empty="")


def openapi(
    check: Path | None = typer.Option(
        None, "--check", help="Only say whether this file is up to date.", show_default=False
    ),
    output: Path | None = typer.Option(
        None, "--output", help="Write to this file.", show_default=False
    ),
) -> None:
    """Print the API's description (OpenAPI)."""
    # In a process of its own: the command never imports the API.
    made = subprocess.run(
        [sys.executable, "-P", "-m", "api.openapi"],
        stdout=subprocess.PIPE,
        timeout=_OPENAPI_SECONDS,
        check=False,
    )
    if made.returncode:
        raise FlowManagerError("the API's description could not be made")
    if check is not None:
        if not check.is_file() or check.read_bytes() != made.stdout:
            raise FlowManagerError(
                f"{check} is not up to date: flow-manager openapi --output {check}"
            )
    elif output is not None:
        output.write_bytes(made.stdout)
    else:
        sys.stdout.write(made.stdout.decode())


def _local_tasks() -> "JsonValue":
    from shared.registry import load_registry
    from shared.settings import load_settings

    registry = load_registry(load_settings().task_modules)
    return {
        "tasks": [
            {
                "name": each.name,
                "description": each.description,
                "params_schema": each.params_schema,
                "source": each.source,
            }
            for each in registry.describe()
        ],
        "problems": [
            {"source": each.source, "message": each.message} for each in registry.problems
        ],
    }


def _setting(value: object) -> str:
    if isinstance(value, list):
        return ",".join(str(each) for each in value)
    return str(value)


def _without_password(url: str) -> str:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return "(not a database URL)"
