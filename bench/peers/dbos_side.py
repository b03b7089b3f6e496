"""DBOS's side: durable workflows on SQLite, the database DBOS uses when none is given.

DBOS is a library: a workflow runs in the process that starts it, and each step's result is
one transaction in the system database. So a sequential run is a workflow of steps called in
the submitter's process, and a parallel one an async workflow that gathers async steps, which
was the fastest of four ways tried (100 parallel: gathered steps 0.5 s, a child workflow a step
1.5 s, children through a queue polled each 10 ms 2.4 s). For throughput two processes run half
of the runs each, one after another; that, too, was the fastest found, since SQLite takes one
writer at a time (started all at once they reach two thirds of it, through a queue a third).

The SQLite file is opened as DBOS does it: with a rollback journal and full synchronisation,
so that a step that was answered for survives a power cut.
"""

import asyncio
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dbos import DBOS, DBOSConfig

from bench.measuring import Plan, measure, write_measurement, write_versions
from bench.processes import end_on_sigterm, stop

WORKERS = 2


@DBOS.step()
def step() -> dict[str, Any]:
    """The step that does nothing."""
    return {"success": True, "data": {}}


@DBOS.step()
async def parallel_step() -> dict[str, Any]:
    """The same where several run at the same time."""
    return {"success": True, "data": {}}


@DBOS.workflow()
def sequential(steps: int) -> dict[str, Any]:
    """So many steps one after another."""
    result: dict[str, Any] = {}
    for _ in range(steps):
        result = step()
    return result


@DBOS.workflow()
async def parallel(width: int) -> dict[str, Any]:
    """So many steps at the same time, and a join."""
    await asyncio.gather(*(parallel_step() for _ in range(width)))
    result: dict[str, Any] = await parallel_step()
    return result


async def _run_parallel(width: int, timeout_seconds: float) -> None:
    async with asyncio.timeout(timeout_seconds):
        await parallel(width)


class DbosSide:
    """The submitter, which is a DBOS application itself."""

    def __init__(self, runner: asyncio.Runner, workers: list[subprocess.Popen[str]]) -> None:
        self._runner = runner
        self._workers = workers

    def run_sequential(self, steps: int, timeout_seconds: float) -> None:
        """Call the workflow. DBOS has no way to stop waiting for it: no timeout."""
        sequential(steps)

    def run_parallel(self, width: int, timeout_seconds: float) -> None:
        """Call the async workflow."""
        self._runner.run(_run_parallel(width, timeout_seconds))

    def run_many(self, flows: int, steps: int, timeout_seconds: float) -> None:
        """Let each worker process run its share."""
        deadline = time.monotonic() + timeout_seconds
        for worker in self._workers:
            assert worker.stdin is not None
            worker.stdin.write(f"{flows // len(self._workers)} {steps}\n")
            worker.stdin.flush()
        for worker in self._workers:
            _read_line(worker, deadline - time.monotonic())


def _launch(database: Path, executor: str) -> None:
    config = DBOSConfig(
        name="bench",
        system_database_url=f"sqlite:///{database}",
        log_level="ERROR",
        executor_id=executor,
    )
    DBOS(config=config)
    DBOS.launch()


def _read_line(worker: subprocess.Popen[str], timeout_seconds: float) -> None:
    assert worker.stdout is not None
    ready, _, _ = select.select([worker.stdout], [], [], max(timeout_seconds, 0))
    if not ready:
        raise TimeoutError
    if not worker.stdout.readline():
        raise RuntimeError("a DBOS worker process has ended")


@contextmanager
def _worker(database: Path, executor: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", __spec__.name, "worker", str(database), executor]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            _read_line(process, 30)
            yield process
        finally:
            stop(process)


def work_on(database: Path, executor: str) -> None:
    """A worker process: run what each line of the input says, and tell when it is done."""
    _launch(database, executor)
    print("ready", flush=True)
    for line in sys.stdin:
        flows, steps = (int(word) for word in line.split())
        for _ in range(flows):
            sequential(steps)
        print("done", flush=True)


def main() -> None:
    """Start the application and measure."""
    end_on_sigterm()
    plan = Plan.from_arguments()
    write_versions({name: version(name) for name in ("dbos", "sqlalchemy")})
    database = plan.path / "dbos.sqlite"
    _launch(database, "submitter")
    with ExitStack() as stack:
        workers = [
            stack.enter_context(_worker(database, f"worker-{number}")) for number in range(WORKERS)
        ]
        runner = stack.enter_context(asyncio.Runner())
        for measurement in measure(DbosSide(runner, workers), plan.wanted()):
            write_measurement(measurement)
    DBOS.destroy()


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        work_on(Path(sys.argv[2]), sys.argv[3])
    else:
        main()
