"""The last branches of a fork end at the same moment on two workers."""

import time
from collections import defaultdict
from pathlib import Path

import pytest

from tests.faults.conftest import OpenCluster
from tests.faults.flows import diamond
from tests.faults.harness import Cluster
from tests.servers import Valkey

FORKS = 500


async def test_a_join_of_two_workers_fires_once_500_times(open_cluster: OpenCluster) -> None:
    cluster = await open_cluster(worker_concurrency=700)
    left, right = cluster.start_worker(side="left"), cluster.start_worker(side="right")
    await cluster.at_work([left, right])
    flow = diamond(2, types=("meet_left", "meet_right"), frame="noop")
    begins = time.time() + 2.0
    for number in range(FORKS // 20):
        # Twenty runs meet in each instant: their ends share commits, too.
        await cluster.submit_many(flow, 20, {"at": begins + number * 0.1})

    await cluster.all_ended()

    by_run: dict[str, set[int]] = defaultdict(set)
    for entry in cluster.journal.entries("start"):
        if entry.task.startswith("head"):
            by_run[entry.run].add(entry.pid)
    assert [pids for pids in by_run.values() if pids != {left.pid, right.pid}] == []
    results = cluster.query("SELECT count(*) FROM task_run WHERE task = 'join'")
    assert results == [FORKS]
    assert cluster.query("SELECT count(*) FROM task_run") == [FORKS * 5]
    assert cluster.query("SELECT count(*) FROM flow_run WHERE outcome = 'success'") == [FORKS]


async def test_without_the_lock_of_the_run_joins_are_lost(
    tmp_path: Path, postgresql_url: str, valkey: Valkey
) -> None:
    """Negative control, on PostgreSQL: SQLite writes in turn, which hides the mistake."""
    cluster = Cluster(tmp_path, postgresql_url, valkey.url, worker_concurrency=700)
    await cluster.open()
    try:
        sides = [cluster.start_worker("no-run-lock", side=side) for side in ("left", "right")]
        await cluster.at_work(sides)
        flow = diamond(2, types=("meet_left", "meet_right"), frame="noop")
        begins = time.time() + 1.5
        for number in range(5):
            await cluster.submit_many(flow, 20, {"at": begins + number * 0.1})
        with pytest.raises(AssertionError):
            await cluster.all_ended(6)
    finally:
        await cluster.close()
