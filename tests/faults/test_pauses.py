"""Workers that were taken for dead come back, and what they write then is refused."""

from pathlib import Path

import pytest

from shared.ids import FlowRunId
from tests.faults.checks import check, expect_visits
from tests.faults.conftest import OpenCluster
from tests.faults.flows import diamond
from tests.faults.harness import Cluster, Process
from tests.servers import Valkey
from tests.waiting import wait_until

QUICK = {"lease_seconds": 1.0, "heartbeat_seconds": 0.3, "sweep_seconds": 0.3}
HEADS = [f"head{number}" for number in range(20)]


async def test_a_paused_workers_late_results_are_refused(open_cluster: OpenCluster) -> None:
    cluster = await open_cluster(**QUICK)
    run, paused = await _pause_in_a_task(cluster)

    await cluster.all_ended()
    cluster.look_closely()
    paused.resume()
    await _is_back(cluster, paused)

    assert "step_refused" in paused.log.read_text() or _was_dropped(paused)
    again = await cluster.submit(diamond(20))
    await cluster.all_ended()
    with cluster.database.read() as connection:
        for one in (run, again):
            expect_visits(connection, one, ["begin", *HEADS, "join", "last"])


async def test_without_the_fence_the_checks_find_the_late_results(
    tmp_path: Path, sqlite_url: str, valkey: Valkey
) -> None:
    cluster = Cluster(tmp_path, sqlite_url, valkey.url, **QUICK)
    await cluster.open()
    try:
        _, paused = await _pause_in_a_task(cluster, "no-fence")
        await cluster.start_workers(1)
        await cluster.all_ended()
        cluster.look_closely()
        paused.resume()
        await _is_back(cluster, paused)

        def found() -> dict[int, list[str]]:
            with cluster.database.read() as connection:
                return check(
                    connection,
                    cluster.journal,
                    acknowledged=cluster.acknowledged,
                    seen=cluster.seen,
                    earlier=cluster.earlier,
                )

        await wait_until(found, description="the checks find what the fence keeps out")
    finally:
        await cluster.close()


async def _pause_in_a_task(cluster: Cluster, point: str = "") -> tuple[FlowRunId, Process]:
    """Stop a worker in the task that a fork follows, and let another one do its work."""
    first = cluster.start_worker(point)
    await cluster.at_work([first])
    flow = diamond(20)
    flow["tasks"][0]["params"] = {"seconds": 0.5}
    run = await cluster.submit(flow)
    await cluster.started(run, "begin")
    first.pause()
    await cluster.start_workers(1)
    return run, first


async def _is_back(cluster: Cluster, worker: Process) -> None:
    """Wait until a worker that was lost is live again and has had time for its late writes."""
    await wait_until(
        lambda: worker.pid in cluster.registered(), description="the worker is back", timeout=10
    )
    entries = cluster.journal
    await wait_until(
        lambda: _was_dropped(worker) or any(e.pid == worker.pid for e in entries.entries("end")),
        description="the worker's task has ended or was dropped",
    )


def _was_dropped(worker: Process) -> bool:
    return "declared_lost" in worker.log.read_text()


pytestmark = pytest.mark.faults
