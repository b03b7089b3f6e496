"""Workers that hold places are killed; no place is lost, and none is had twice."""

import pytest

from shared.task_context import Json
from tests.faults.conftest import OpenCluster
from tests.faults.flows import chain
from tests.faults.harness import QUICK, Cluster
from tests.waiting import wait_until

AT_ONCE = 2
LIMITED = {"key": "licence", "concurrency": AT_ONCE}


def _limited() -> Json:
    """Two tasks in a row, both under one key."""
    flow = chain(2, 0.15)
    return {**flow, "tasks": [{**task, "limit": LIMITED} for task in flow["tasks"]]}


def _exclusive() -> Json:
    """A flow of which only so many runs go on."""
    return {**chain(2, 0.15), "concurrency": {"limit": AT_ONCE}}


async def _kill_a_holder(cluster: Cluster, dead: dict[int, float]) -> None:
    """Kill a worker in the middle of a task, and start another one."""

    def busy() -> set[int]:
        ended = {(*e.visit, e.attempt) for e in cluster.journal.entries("end")}
        starts = cluster.journal.entries("start")
        return {e.pid for e in starts if (*e.visit, e.attempt) not in ended} - dead.keys()

    await wait_until(busy, description="a worker is at a task", timeout=12)
    victim = min(busy())
    dead[victim] = cluster.process(victim).kill()
    cluster.start_worker()


def _most_at_once(cluster: Cluster, dead: dict[int, float], *, whole_runs: bool) -> int:
    """How many tasks, or runs from their first task to their last, went on at one moment."""
    spans: dict[object, list[float]] = {}
    ends = {(*e.visit, e.attempt): e.at for e in cluster.journal.entries("end")}
    for entry in cluster.journal.entries("start"):
        execution = (*entry.visit, entry.attempt)
        end = ends.get(execution) or dead[entry.pid]
        span = spans.setdefault(entry.run if whole_runs else execution, [entry.at, end])
        span[1] = max(span[1], end)
    moves = sorted(move for a, b in spans.values() for move in ((a, 1), (b, -1)))
    now = most = 0
    for _, change in moves:
        now += change
        most = max(most, now)
    return most


@pytest.mark.parametrize("whole_runs", [False, True])
async def test_killed_workers_lose_no_place_and_none_is_had_twice(
    open_cluster: OpenCluster, *, whole_runs: bool
) -> None:
    cluster = await open_cluster(**QUICK)
    await cluster.start_workers(3)
    await cluster.submit_many(_exclusive() if whole_runs else _limited(), 16)
    dead: dict[int, float] = {}
    for _ in range(3):
        await _kill_a_holder(cluster, dead)

    await cluster.all_ended(seconds=25)

    assert len(dead) == 3
    assert _most_at_once(cluster, dead, whole_runs=whole_runs) <= AT_ONCE
    await wait_until(
        lambda: not cluster.query("SELECT holder FROM limit_place"),
        description="every place is given back",
    )


@pytest.mark.parametrize("point", ["before-commit", "in-commit", "before-ring"])
async def test_a_worker_that_dies_around_its_commit_leaves_the_line_as_it_is(
    open_cluster: OpenCluster, point: str
) -> None:
    cluster = await open_cluster(**QUICK)
    doomed = cluster.start_worker(point)
    await cluster.at_work([doomed])
    await cluster.submit_many(_limited(), 6)
    await wait_until(lambda: not doomed.is_alive, description="the worker dies", timeout=15)

    await cluster.start_workers(1)
    await cluster.all_ended()

    assert cluster.query("SELECT status FROM flow_run") == ["completed"] * 6
    await wait_until(
        lambda: not cluster.query("SELECT holder FROM limit_place"),
        description="every place is given back",
    )
