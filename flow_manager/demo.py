"""``flow-manager demo``: the whole service for a moment, and the media example in it.

Everything lives in a temporary folder and is gone afterwards.
"""

import asyncio
import socket
import tempfile
from pathlib import Path

import orjson
from pydantic import JsonValue
from rich.console import Console

from flow_manager.async_client import AsyncFlowClient
from flow_manager.command.tree import drawing
from flow_manager.development.plan import HOST, Plan
from flow_manager.development.supervisor import StartFailed, run_service
from flow_manager.results import Run
from shared.errors import FlowManagerError, InvalidSettings
from shared.settings import Settings
from shared.status import TaskRunStatus

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
WORKERS = 2
RUN_SECONDS = 60.0
"""What the example may take; it needs less than a second."""
SIGNAL = "approve"
"""What the example waits for, and the task that does."""
LOG_LINES = 20
"""Of the processes' output, shown where they did not start."""


def run_demo(settings: Settings, port: int, *, stays: bool) -> int:
    """Run the demo; the exit status for the shell. ``stays`` keeps the service up after it.

    Raises:
        InvalidSettings: where the examples are not there.
    """
    tasks, flow = EXAMPLES / "media.py", EXAMPLES / "media.json"
    if not (tasks.is_file() and flow.is_file()):
        raise InvalidSettings(
            "the examples are part of the source, not of the package: run the demo from a "
            "checkout with `make demo`, or try `flow-manager dev`"
        )
    console = Console(highlight=False)
    # It brings a database and a Valkey of its own, whatever this shell is configured for.
    own = settings.model_copy(update={"task_modules": (str(tasks),)})
    with tempfile.TemporaryDirectory(prefix="flow-manager-", ignore_cleanup_errors=True) as folder:
        log = Path(folder) / "service.log"
        plan = Plan(
            settings=own,
            port=port or _free_port(),
            data=Path(folder) / "data",
            workers=WORKERS,
            say=console.print,
            log=log,
        )

        async def show() -> int | None:
            status = await _show_example(console, plan, orjson.loads(flow.read_bytes()))
            if status or not stays:
                return status
            console.print("\nThe service goes on; Ctrl-C stops it.")
            return None

        console.print("Starting Valkey, the API and two workers ...")
        try:
            return run_service(plan, show)
        except StartFailed as error:
            tail = log.read_text("utf-8", errors="replace").splitlines()[-LOG_LINES:]
            raise FlowManagerError("\n".join([str(error), *tail])) from error


async def _show_example(console: Console, plan: Plan, flow: JsonValue) -> int:
    """Run the example, live, and sum up what came out; 0 where that was as it should be."""
    async with AsyncFlowClient(plan.url) as client, asyncio.timeout(RUN_SECONDS):
        submitted = await client.run(flow)
        run = await _follow(console, client, submitted.flow_run_id)
    summary: dict[str, JsonValue] = {
        "flow_run_id": run.flow_run_id,
        "status": run.status.value,
        "outcome": run.outcome.value if run.outcome else None,
        "duration_ms": run.duration_ms,
        "path": list(run.path),
        "output": run.output,
    }
    console.print_json(orjson.dumps(summary).decode())
    console.print(f"\nThis run: {plan.url}/flows/{run.flow_run_id}")
    console.print(f"The API:  {plan.url}/docs")
    return 0 if run.is_success else 1


async def _follow(console: Console, client: AsyncFlowClient, flow_run_id: str) -> Run:
    """Show the run while it goes on, and give the approval that it waits for."""
    last: Run | None = None
    is_approved = False
    with drawing(console) as show:
        async for last in client.watch(flow_run_id):
            show(last)
            if not is_approved and _waits_for_approval(last):
                is_approved = True
                await client.signal(flow_run_id, SIGNAL, {"approved": True, "by": "the demo"})
    assert last is not None
    return last


def _waits_for_approval(run: Run) -> bool:
    return any(task.name == SIGNAL and task.status is TaskRunStatus.WAITING for task in run.tasks)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        port = listener.getsockname()[1]
    assert isinstance(port, int)
    return port
