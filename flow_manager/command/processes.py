"""Commands that start processes: ``dev``, ``demo``, ``api`` and ``worker``.

``api`` and ``worker`` become the process they name, so that signals and exit statuses are
its own.
"""

import ipaddress
import os
import sys
from pathlib import Path
from typing import NoReturn

import typer

from flow_manager.command.options import environment_with, read_overrides, settings_of
from shared.errors import InvalidSettings

TASKS = typer.Option(
    None,
    "--tasks",
    help="Modules or .py files with your task types, separated by commas.",
    show_default=False,
)


def api(
    context: typer.Context,
    host: str = typer.Option("127.0.0.1", help="Address to listen on."),
    port: int = typer.Option(8000, min=0, max=65_535, help="Port to listen on."),
    no_auth: bool = typer.Option(
        False, "--no-auth", help="Listen beyond this machine, though nobody is asked for a key."
    ),
) -> None:
    """Serve the HTTP API."""
    if not (no_auth or _is_loopback(host)):
        raise InvalidSettings(
            f"{host} can be reached from other machines, and whoever reaches the API may run any "
            "task: put something that authenticates in front of it, and say --no-auth"
        )
    arguments = ["--host", host, "--port", str(port)]
    _become("api.server", arguments, read_overrides(context.args))


def worker(
    context: typer.Context,
    queue: list[str] | None = typer.Option(
        None, "--queue", help="A pool whose branches to take; may be repeated.", show_default=False
    ),
    concurrency: int | None = typer.Option(
        None, "--concurrency", min=1, help="Branches to run at a time.", show_default=False
    ),
    tasks: str | None = TASKS,
) -> None:
    """Run a worker. Start as many as there is work for."""
    overrides = read_overrides(context.args)
    if queue:
        overrides["worker_queues"] = ",".join(queue)
    if concurrency is not None:
        overrides["worker_concurrency"] = str(concurrency)
    if tasks is not None:
        overrides["task_modules"] = tasks
    _become("worker", [], overrides)


def dev(
    context: typer.Context,
    port: int = typer.Option(8000, min=1, max=65_535, help="Port of the API."),
    data: Path = typer.Option(Path(".flow"), help="Folder of everything that is kept."),
    workers: int = typer.Option(2, min=1, max=64, help="Worker processes."),
    tasks: str | None = TASKS,
) -> None:
    """Run the whole service on this machine until Ctrl-C."""
    from flow_manager.development.plan import Plan
    from flow_manager.development.supervisor import run_service

    settings = settings_of(context, task_modules=tasks)
    given = settings.model_fields_set
    plan = Plan(
        settings=settings,
        port=port,
        data=data.absolute(),
        workers=workers,
        say=_say,
        database_url=settings.database_url if "database_url" in given else None,
        redis_url=settings.redis_url.get_secret_value() if "redis_url" in given else None,
        overrides=read_overrides(context.args),
    )

    async def announce() -> None:
        _say(f"Flow Manager is ready: {plan.url}/  (API: {plan.url}/docs)")
        _say(f"Data: {plan.data}  Workers: {workers}  Ctrl-C stops; nothing is lost.")

    raise typer.Exit(run_service(plan, announce))


def demo(
    context: typer.Context,
    port: int = typer.Option(0, min=0, max=65_535, help="Port of the API; 0 for a free one."),
) -> None:
    """Start everything, run the example flow and show its result."""
    from flow_manager.demo import run_demo

    raise typer.Exit(run_demo(settings_of(context), port, stays=sys.stdin.isatty()))


def _say(line: str) -> None:
    print(line, flush=True)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        # A name: only this machine's resolver knows what it means.
        return False


def _become(module: str, arguments: list[str], overrides: dict[str, str]) -> NoReturn:
    """Go on as one of our programs, which a package in the current folder cannot replace."""
    command = [sys.executable, "-P", "-m", module, *arguments]
    try:
        os.execve(sys.executable, command, environment_with(overrides))
    except OSError as error:
        raise InvalidSettings(f"{sys.executable} cannot be started: {error.strerror}") from error
