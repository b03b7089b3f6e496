"""Workers are killed while they undo what a run did: every compensation has its result once."""

import pytest

from tests.faults.checks import expect_visits
from tests.faults.conftest import OpenCluster
from tests.faults.flows import saga
from tests.faults.harness import QUICK

RUNS = 10

# Processes are started, and lost: that takes its time on a busy machine.
pytestmark = pytest.mark.timeout(90)


async def test_what_a_killed_worker_was_undoing_is_undone_elsewhere(
    open_cluster: OpenCluster,
) -> None:
    cluster = await open_cluster(**QUICK)
    await cluster.start_workers(2)
    runs = await cluster.submit_many(saga(0.8), RUNS)
    pids = {run: await cluster.started(run, "refund") for run in runs}
    cluster.look_closely()
    victim = cluster.process(pids[runs[0]])
    victim.kill()

    await cluster.all_ended()

    with cluster.database.read() as connection:
        for run in runs:
            expect_visits(connection, run, ["book", "pay", "refund", "unbook", "tidy"])
    for run, pid in pids.items():
        began = [entry for entry in cluster.journal.entries("start") if entry.run == run]
        # One after another, whoever died.
        order = list(dict.fromkeys(entry.task for entry in began))
        assert order == ["book", "pay", "refund", "unbook", "tidy"]
        if pid == victim.pid:
            assert {1, 2} <= {entry.attempt for entry in began if entry.task == "refund"}
    assert {final.status for final in cluster.seen.values()} == {"failed"}
    assert cluster.query("SELECT count(*) FROM compensation") == [0]


async def test_a_worker_that_dies_in_every_ending_leaves_no_run_behind(
    open_cluster: OpenCluster,
) -> None:
    cluster = await open_cluster(**QUICK)
    await cluster.start_workers(3)
    run = await cluster.submit(saga(0.8))
    for task in ("refund", "unbook"):
        cluster.process(await cluster.started(run, task)).kill()

    await cluster.all_ended()

    with cluster.database.read() as connection:
        expect_visits(connection, run, ["book", "pay", "refund", "unbook", "tidy"])
    for task in ("refund", "unbook"):
        assert {1, 2} <= {entry.attempt for entry in cluster.journal.starts(run, task)}
