"""SIGTERM in the middle of tasks: what can end ends, the rest is given back."""

import time

from tests.faults.checks import expect_visits
from tests.faults.flows import chain
from tests.faults.harness import RECOVERY_SECONDS, Cluster
from tests.waiting import wait_until


async def test_a_stopped_worker_ends_its_tasks_and_leaves(cluster: Cluster) -> None:
    workers = await cluster.start_workers(2)
    runs = await cluster.submit_many(chain(3, 0.7), 20)
    for run in runs:
        await cluster.started(run, "t0")
    # One that is sure to be in the middle of a task: the other may have taken them all.
    busy = cluster.journal.starts(runs[-1], "t0")[0].pid
    first, second = sorted(workers, key=lambda worker: worker.pid != busy)
    first.terminate()
    await wait_until(lambda: not first.is_alive, description="it has left", timeout=5)

    await cluster.all_ended()

    assert first.popen.returncode == 0
    assert {entry.attempt for entry in cluster.journal.entries("start")} == {1}
    last = {e.pid for e in cluster.journal.entries("start") if e.task == "t2"}
    assert last == {second.pid}
    assert cluster.query("SELECT state FROM worker ORDER BY state") == ["live", "stopped"]


async def test_what_outlasts_the_grace_is_given_back_at_once(cluster: Cluster) -> None:
    first = cluster.start_worker(grace_seconds=0.3)
    await cluster.at_work([first])
    run = await cluster.submit(chain(2, 1.5, slow=0))
    await cluster.started(run, "t0")
    second = cluster.start_worker()
    first.terminate()
    await cluster.at_work([second])
    ready_at = time.time()

    await cluster.all_ended()

    again = cluster.journal.starts(run, "t0")[1]
    assert again.attempt == 2
    assert again.at - ready_at < RECOVERY_SECONDS
    with cluster.database.read() as connection:
        expect_visits(connection, run, ["t0", "t1"])
    # A stop is nobody's fault: it is not counted against the task.
    assert cluster.query("SELECT reason FROM task_run WHERE status = 'cancelled'") == [
        "worker_stopped"
    ]
