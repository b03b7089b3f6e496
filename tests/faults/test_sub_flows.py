"""Workers are killed around the start and the end of sub-flows: none is lost, none comes twice."""

import pytest

from shared.task_context import Json
from tests.faults.conftest import OpenCluster
from tests.faults.flows import chain
from tests.faults.harness import QUICK, Cluster
from tests.waiting import wait_until

PARENT: Json = {
    "id": "parent",
    "start_task": "call",
    "tasks": [
        {"name": "call", "type": "flow", "params": {"flow_id": "chain"}},
        {"name": "last", "type": "mark"},
    ],
    "conditions": [{"source_task": "call", "target_task_success": "last"}],
}


def _runs(cluster: Cluster) -> tuple[int, int]:
    """How many parents and how many sub-flows there are."""
    parents = cluster.query("SELECT count(*) FROM flow_run WHERE flow_id = 'parent'")
    children = cluster.query("SELECT count(*) FROM flow_run WHERE flow_id = 'chain'")
    return parents[0], children[0]


@pytest.mark.parametrize("point", ["before-commit", "in-commit", "before-ring"])
async def test_a_worker_dies_as_a_sub_flow_begins(open_cluster: OpenCluster, point: str) -> None:
    cluster = await open_cluster(**QUICK)
    await cluster.store(chain(2))
    doomed = cluster.start_worker(point)
    await cluster.at_work([doomed])
    (run,) = await cluster.submit_many(PARENT, 1)
    await wait_until(lambda: not doomed.is_alive, description="the worker dies", timeout=15)

    await cluster.start_workers(1)
    await cluster.all_ended()

    assert _runs(cluster) == (1, 1)
    assert len(cluster.journal.starts(run, "last")) == 1


async def test_workers_that_die_while_sub_flows_end_leave_nobody_waiting(
    open_cluster: OpenCluster,
) -> None:
    cluster = await open_cluster(**QUICK)
    await cluster.store(chain(2, 0.3))
    await cluster.start_workers(3)
    runs = []
    for _ in range(2):
        # Some of them end, some go on, some are about to begin.
        ended = len(cluster.journal.entries("end"))
        runs += await cluster.submit_many(PARENT, 30)
        await wait_until(
            lambda ended=ended: len(cluster.journal.entries("end")) > ended + 20,  # type: ignore[misc]  # bound for the loop
            description="some have ended",
            timeout=15,
        )
        victim = cluster.journal.entries("start")[-1].pid
        cluster.process(victim).kill()
        await cluster.start_workers(1)

    await cluster.all_ended()

    assert _runs(cluster) == (60, 60)
    completed = cluster.query("SELECT count(*) FROM flow_run WHERE status = 'completed'")
    assert completed == [120]
    # Written down once for each that was recorded; at most killed ones ran it again.
    assert all(cluster.journal.starts(run, "last") for run in runs)
