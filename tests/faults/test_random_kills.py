"""kill -9 at random moments changes nothing of what random flows come to.

The short version of ``tests/integration/test_killed_engines.py``, with real processes.
"""

import asyncio
import random
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import text

from shared.ids import FlowRunId
from shared.models import NO_INDEX
from shared.status import RunStatus
from tests.faults.harness import QUICK, Cluster, open_checked
from tests.random_work import random_work
from tests.servers import Valkey

SEED = 5
WORKS = 12
KILLS = 3

_VISITS = """
SELECT task, iteration FROM task_run
WHERE flow_run_id = :run AND item_index = :none AND status IN ('success', 'failed')
"""


@pytest.mark.timeout(60)
async def test_kills_of_processes_change_nothing_but_attempts(
    tmp_path: Path, sqlite_url: str, valkey: Valkey
) -> None:
    # The invariants that are checked at the end know one result a visit, and one branch a path.
    works = [random_work(100 * SEED + number, plain=True) for number in range(WORKS)]
    draw = random.Random(SEED)
    async with open_checked(tmp_path, sqlite_url, valkey.url, **QUICK, max_losses=1_000) as cluster:
        await cluster.start_workers(2)
        runs = [await cluster.submit(work.definition, work.input) for work in works]
        for run, work in zip(runs, works, strict=True):
            for name in work.signals:
                await cluster.signal(run, name)
        for _ in range(KILLS):
            await asyncio.sleep(draw.uniform(0, 0.3))
            await _kill_one(cluster, draw)
        await cluster.all_ended()
        for run, work in zip(runs, works, strict=True):
            expected, found = work.expected(), cluster.seen[run]
            assert found.status == expected.status
            if expected.status is RunStatus.COMPLETED:
                assert found.outcome == expected.outcome
                assert _visits(cluster, run) == expected.visits


async def _kill_one(cluster: Cluster, draw: random.Random) -> None:
    alive = [process for process in cluster.processes if process.is_alive]
    draw.choice(alive).kill()
    await cluster.at_work([cluster.start_worker()])


def _visits(cluster: Cluster, run: FlowRunId) -> Counter[tuple[str, int]]:
    with cluster.database.read() as connection:
        rows = connection.execute(text(_VISITS), {"run": run, "none": NO_INDEX})
        return Counter((row.task, row.iteration) for row in rows)
