"""Redis forgets everything, restarts, or is not there: nothing is lost but a moment."""

import asyncio
import time

import pytest

from tests.faults.flows import chain, diamond
from tests.faults.harness import RECOVERY_SECONDS, Cluster
from tests.servers import Valkey


@pytest.mark.parametrize("fault", ["flush", "restart"])
async def test_redis_forgets_everything_while_200_runs_are_under_way(
    cluster: Cluster, valkey: Valkey, fault: str
) -> None:
    await cluster.start_workers(2)
    await cluster.submit_many(diamond(3, 0.5), 100)
    await cluster.submit_many(chain(4, 0.3), 100)
    await asyncio.sleep(0.2)
    for _ in range(3):
        valkey.flush() if fault == "flush" else valkey.restart()
        await asyncio.sleep(0.1)

    await cluster.all_ended()

    assert cluster.query("SELECT count(*) FROM task_run WHERE attempt > 1") == [0]
    assert cluster.query("SELECT count(*) FROM flow_run WHERE outcome = 'success'") == [200]


async def test_runs_start_by_themselves_with_redis_away(cluster: Cluster, valkey: Valkey) -> None:
    await cluster.start_workers(2)
    valkey.stop()
    began = time.time()
    await cluster.submit_many(diamond(3), 20)

    await cluster.all_ended()

    starts = [e.at for e in cluster.journal.entries("start") if e.task == "begin"]
    assert max(starts) - began < RECOVERY_SECONDS
    valkey.start()
    run = await cluster.submit(chain(1))
    await cluster.started(run, "t0")
    await cluster.all_ended()


async def test_a_worker_starts_with_redis_away(cluster: Cluster, valkey: Valkey) -> None:
    valkey.stop()
    await cluster.start_workers(1)
    await cluster.submit(diamond(3))
    await cluster.all_ended()
