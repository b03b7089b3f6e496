"""Workers are killed at the worst moments, and the runs go on by themselves."""

import pytest

from tests.faults.checks import expect_visits
from tests.faults.conftest import OpenCluster
from tests.faults.flows import chain, diamond, poison
from tests.faults.harness import QUICK, RECOVERY_SECONDS, Cluster
from tests.waiting import wait_until


async def test_a_killed_workers_tasks_run_elsewhere_within_five_seconds(cluster: Cluster) -> None:
    await cluster.start_workers(2)
    runs = await cluster.submit_many(chain(3, 1.0, slow=1), 20)
    for run in runs:
        await cluster.started(run, "t1")
    cluster.look_closely()
    victim = cluster.process(await cluster.started(runs[0], "t1"))
    killed_at = victim.kill()

    await cluster.all_ended()

    again = [e for e in cluster.journal.entries("start") if e.attempt == 2]
    assert again, "the victim held nothing"
    assert max(entry.at for entry in again) - killed_at < RECOVERY_SECONDS
    with cluster.database.read() as connection:
        for run in runs:
            expect_visits(connection, run, ["t0", "t1", "t2"])


@pytest.mark.parametrize("point", ["before-commit", "in-commit", "before-ring"])
async def test_a_worker_dies_around_its_commit(open_cluster: OpenCluster, point: str) -> None:
    cluster = await open_cluster(**QUICK)
    doomed = cluster.start_worker(point)
    await cluster.at_work([doomed])
    runs = await cluster.submit_many(diamond(300), 1)
    await wait_until(lambda: not doomed.is_alive, description="the worker dies", timeout=15)
    cluster.look_closely()

    await cluster.start_workers(1)
    await cluster.all_ended()

    heads = [f"head{number}" for number in range(300)]
    with cluster.database.read() as connection:
        expect_visits(connection, runs[0], ["begin", *heads, "join", "last"])
    attempts = {e.attempt for e in cluster.journal.starts(runs[0], "begin")}
    # What was committed is never run again, not even when nobody heard of it.
    assert attempts == ({1} if point == "before-ring" else {1, 2})


async def test_a_task_that_kills_every_worker_is_given_up(open_cluster: OpenCluster) -> None:
    cluster = await open_cluster(**QUICK)
    workers = await cluster.start_workers(4)
    run = await cluster.submit(poison())
    neighbours = await cluster.submit_many(chain(3), 20)

    await cluster.all_ended()

    assert len(cluster.journal.starts(run, "kill")) == 3
    assert sum(worker.is_alive for worker in workers) == 1
    error = cluster.query("SELECT error FROM flow_run WHERE status = 'failed'")
    assert len(error) == 1
    assert '"WorkerLost"' in error[0]
    assert len(neighbours) + 1 == len(cluster.seen)


async def test_a_task_that_blocks_every_worker_is_given_up(open_cluster: OpenCluster) -> None:
    cluster = await open_cluster(**QUICK, max_blocked_seconds=0.5)
    workers = await cluster.start_workers(4)
    run = await cluster.submit(poison("block_loop"))
    neighbours = await cluster.submit_many(chain(3), 20)

    await cluster.all_ended()

    assert len(cluster.journal.starts(run, "kill")) == 3
    assert sum(worker.is_alive for worker in workers) == 1
    (error,) = cluster.query("SELECT error FROM flow_run WHERE status = 'failed'")
    assert '"WorkerLost"' in error
    assert len(neighbours) + 1 == len(cluster.seen)
    blocked = [worker for worker in workers if not worker.is_alive]
    assert all("event_loop_blocked" in worker.log.read_text() for worker in blocked)
