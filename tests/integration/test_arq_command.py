"""Plain ``arq worker.main.WorkerSettings``: slower than our own command, and as reliable."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shared.ids import FlowRunId
from shared.lease_clock import LeaseClock
from shared.models import TaskRun
from shared.models_workers import WorkerRow
from shared.queue import Ringer
from shared.status import Outcome, RunStatus
from tests.integration.store_rig import SINGLE, TYPE, Store, flow_of, opened
from tests.servers import Valkey
from tests.waiting import block_until, wait_until

ROOT = Path(__file__).parents[2]
COMMAND = Path(sys.executable).with_name("arq")
GRACE_SECONDS = 2.0
QUEUE = "arq-command"
FLOW = flow_of(("split", ["a", "b"], "end"), ("a", "meet", "end"), ("b", "meet", "end"))


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    with opened(database_url) as store:
        yield store


@contextmanager
def _worker(
    store: Store, valkey: Valkey, log: Path, queues: str = "default"
) -> Iterator["subprocess.Popen[bytes]"]:
    """An arq of its own, until the end of the block at the latest."""
    # A worker of another machine, for all it knows: nothing but its settings are ours.
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("FLOW_")},
        "FLOW_DATABASE_URL": store.database.url.render_as_string(hide_password=False),
        "FLOW_REDIS_URL": valkey.url,
        "FLOW_QUEUE_NAME": QUEUE,
        "FLOW_WORKER_QUEUES": queues,
        "FLOW_GRACE_SECONDS": str(GRACE_SECONDS),
        # What is tested is this folder, wherever the service is installed from.
        "PYTHONPATH": str(ROOT),
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [COMMAND, "worker.main.WorkerSettings"],
            cwd=log.parent,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)


def _workers(store: Store, state: str) -> int:
    return len([row for row in store.rows(WorkerRow, state=state) if row.id != store.worker])


def _submit(store: Store) -> tuple[FlowRunId, str]:
    """A run that is ready now, with the branch to ring for."""
    clock = LeaseClock(store.database)
    ready_at = store.do(clock.synchronise)
    created = store.create(FLOW, ready_at=ready_at)
    assert created.branch_id is not None
    return created.flow_run_id, created.branch_id


def _is_over(store: Store, run: FlowRunId) -> bool:
    return bool(store.run(run).status != RunStatus.RUNNING)


async def test_a_run_that_is_rung_for_is_completed_and_sigterm_ends_the_worker_cleanly(
    store: Store, valkey: Valkey, tmp_path: Path
) -> None:
    log = tmp_path / "arq.log"
    with _worker(store, valkey, log) as process:
        await wait_until(
            lambda: process.poll() is not None or _workers(store, "live"),
            description="the worker is registered",
            timeout=15,
        )
        run, branch = _submit(store)
        ringer = Ringer(valkey.url, QUEUE, 1.0)
        await ringer.start()
        ringer.ring([branch])
        await wait_until(lambda: _is_over(store, run), description="the run is over", timeout=10)
        await ringer.close()
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        await wait_until(
            lambda: process.poll() is not None, description="the worker has ended", timeout=10
        )
        took = time.monotonic() - began
    row = store.run(run)
    assert (row.status, row.outcome) == (RunStatus.COMPLETED, Outcome.SUCCESS), log.read_text()
    assert sorted(task.task for task in store.rows(TaskRun)) == ["a", "b", "meet", "split"]
    assert {task.task_type for task in store.rows(TaskRun)} == {TYPE}
    assert took <= GRACE_SECONDS + 1
    assert (_workers(store, "live"), _workers(store, "stopped")) == (0, 1)
    told = log.read_text()
    assert "Traceback" not in told
    assert "run_branches" in told, "the run was found by the sweep, not by the ring"


async def test_it_hears_the_rings_of_its_own_pool(
    sqlite_url: str, valkey: Valkey, tmp_path: Path
) -> None:
    log = tmp_path / "arq.log"
    with opened(sqlite_url) as store, _worker(store, valkey, log, "gpu"):
        await wait_until(
            lambda: _workers(store, "live"), description="the worker is registered", timeout=15
        )
        ready_at = store.do(LeaseClock(store.database).synchronise)
        created = store.create(SINGLE, ready_at=ready_at, start_queue="gpu")
        assert created.branch_id is not None
        ringer = Ringer(valkey.url, QUEUE, 1.0)
        await ringer.start()
        ringer.ring([created.branch_id], queues={created.branch_id: "gpu"})
        run = created.flow_run_id
        await wait_until(lambda: _is_over(store, run), description="the run is over", timeout=10)
        await ringer.close()
        assert "run_branches" in log.read_text(), "it was found by the sweep, not by the ring"


def test_a_run_whose_ring_was_lost_is_completed_all_the_same(
    sqlite_url: str, valkey: Valkey, tmp_path: Path
) -> None:
    with opened(sqlite_url) as store:
        run, _ = _submit(store)
        with _worker(store, valkey, tmp_path / "arq.log"):
            block_until(lambda: _is_over(store, run), description="the run is over", timeout=15)
        assert store.run(run).outcome == Outcome.SUCCESS
