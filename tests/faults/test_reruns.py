"""Workers are killed while they keep the results of another run: nothing of it runs again."""

import pytest

from tests.faults.checks import expect_visits
from tests.faults.conftest import OpenCluster
from tests.faults.flows import chain, diamond
from tests.faults.harness import QUICK, Cluster
from tests.waiting import wait_until

KEPT = "SELECT id FROM task_run WHERE flow_run_id = :run AND reason LIKE 'kept:%'"


def _starts(cluster: Cluster, run: str) -> list[str]:
    return sorted({entry.task for entry in cluster.journal.entries("start") if entry.run == run})


async def test_a_worker_is_killed_half_way_through_what_is_kept(open_cluster: OpenCluster) -> None:
    cluster = await open_cluster(**QUICK)
    (victim,) = await cluster.start_workers(1)
    definition = chain(300)
    source = await cluster.submit(definition)
    await cluster.all_ended()

    again = await cluster.rerun(source, definition, "t299")
    await wait_until(
        lambda: len(cluster.query(KEPT, run=again)) > 20, description="some results are kept"
    )
    victim.kill()
    assert len(cluster.query(KEPT, run=again)) < 299, "it was killed too late"
    cluster.look_closely()
    await cluster.start_workers(1)
    await cluster.all_ended()

    assert _starts(cluster, again) == ["t299"]
    assert len(cluster.query(KEPT, run=again)) == 299


@pytest.mark.parametrize("point", ["before-commit", "in-commit", "before-ring"])
async def test_a_worker_dies_around_the_commit_of_what_is_kept(
    open_cluster: OpenCluster, point: str
) -> None:
    cluster = await open_cluster(**QUICK)
    (worker,) = await cluster.start_workers(1)
    definition = diamond(300)
    source = await cluster.submit(definition)
    await cluster.all_ended()
    worker.kill()
    doomed = cluster.start_worker(point)
    await cluster.at_work([doomed])
    again = await cluster.rerun(source, definition, "join")
    await wait_until(lambda: not doomed.is_alive, description="the worker dies", timeout=15)
    cluster.look_closely()

    await cluster.start_workers(1)
    await cluster.all_ended()

    assert _starts(cluster, again) == ["join", "last"]
    heads = [f"head{number}" for number in range(300)]
    with cluster.database.read() as connection:
        expect_visits(connection, again, ["begin", *heads, "join", "last"])
