"""The last branches of a fork end at the same moment on two workers."""

import time
from collections import defaultdict

from tests.faults.conftest import OpenCluster
from tests.faults.flows import diamond

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
