"""The worker that leads is killed around the ticks of a schedule: each start comes, and once."""

import hashlib
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import orjson
import pytest

from shared.cron import Interval
from shared.ids import FlowRunId
from shared.store.definitions import NewVersion, put_version
from shared.store.schedules import (
    NewSchedule,
    Pause,
    create_schedules,
    pause_schedules,
)
from tests.faults.checks import expect_visits
from tests.faults.conftest import OpenCluster
from tests.faults.flows import chain
from tests.faults.harness import QUICK, Cluster, Process
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(120)

KILLS = 3
SECONDS = 40.0
"""What anything may take on a machine that has other things to do."""


def _schedule(cluster: Cluster, every: float, age: timedelta) -> None:
    content = orjson.dumps(chain(1))
    now = datetime.now(UTC)
    version = NewVersion("chain", hashlib.sha256(content).hexdigest(), content, now)
    schedule = NewSchedule(
        id="s",
        flow_id="chain",
        version=None,
        input=b"{}",
        timing=Interval(every),
        overlap="allow",
        catch_up=True,
        paused=None,
        at=now - age,
    )
    with cluster.database.write() as connection:
        put_version(connection, version)
        create_schedules(connection, [schedule])


def _runs(cluster: Cluster) -> list[FlowRunId]:
    ids = cluster.query("SELECT id FROM flow_run WHERE schedule_id = 's' ORDER BY id")
    return [FlowRunId(str(one)) for one in ids]


def _ticks(cluster: Cluster) -> list[datetime]:
    keys = cluster.query("SELECT idempotency_key FROM flow_run WHERE schedule_id = 's'")
    return sorted(datetime.fromisoformat(key.removeprefix("schedule:s:")) for key in keys)


async def _all_ended(cluster: Cluster) -> None:
    cluster.acknowledged.extend(_runs(cluster))
    await cluster.all_ended(SECONDS)


@pytest.mark.parametrize("point", ["before-start", "in-start", "before-ring"])
async def test_a_leader_that_dies_around_a_start_neither_loses_nor_doubles_it(
    open_cluster: OpenCluster, point: str
) -> None:
    cluster = await open_cluster(**QUICK)
    _schedule(cluster, 50 * 60, timedelta(hours=1))
    doomed = cluster.start_worker(point)
    await wait_until(lambda: not doomed.is_alive, description="the leader dies", timeout=SECONDS)
    # The start is there where it was committed, whole or not at all.
    assert len(_runs(cluster)) == (1 if point == "before-ring" else 0)

    cluster.start_worker()
    await wait_until(lambda: _runs(cluster), description="the start is there", timeout=SECONDS)
    await _all_ended(cluster)

    (run,) = _runs(cluster)
    (tick,) = _ticks(cluster)
    with cluster.database.read() as connection:
        expect_visits(connection, run, ["t0"])
    assert [str(one) for one in cluster.query("SELECT run_id FROM schedule")] == [run]
    (dealt_with,) = cluster.query("SELECT last_tick FROM schedule")
    assert _time(dealt_with) == tick


async def test_ticks_go_on_while_one_leader_after_the_other_is_killed(
    open_cluster: OpenCluster,
) -> None:
    cluster = await open_cluster(**QUICK)
    _schedule(cluster, 1.0, timedelta())
    cluster.start_worker()
    cluster.start_worker()
    for _ in range(KILLS):
        await _a_tick_after(cluster, _ticks(cluster))
        leader = _leader(cluster)
        leader.kill()
        before = _ticks(cluster)
        cluster.start_worker()
        await _a_tick_after(cluster, before)
    with cluster.database.write() as connection:
        pause_schedules(connection, [Pause("s", True, datetime.now(UTC))])
    await _all_ended(cluster)

    ticks = _ticks(cluster)
    assert len(ticks) == len(set(ticks)) == len({e.run for e in cluster.journal.entries("end")})
    assert all(later - earlier >= timedelta(seconds=1) for earlier, later in pairwise(ticks))


async def _a_tick_after(cluster: Cluster, ticks: list[datetime]) -> None:
    await wait_until(
        lambda: len(_ticks(cluster)) > len(ticks), description="the next tick", timeout=SECONDS
    )


def _leader(cluster: Cluster) -> Process:
    (pid,) = cluster.query(
        "SELECT pid FROM worker JOIN lease ON lease.holder = worker.id WHERE name = 'leader'"
    )
    return cluster.process(pid)


def _time(value: object) -> datetime:
    return value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
