"""Workers that were taken for dead come back, and what they write then is refused."""

import asyncio
from pathlib import Path

import httpx2

from shared.ids import FlowRunId
from tests.faults.checks import expect_visits
from tests.faults.conftest import OpenCluster
from tests.faults.flows import chain
from tests.faults.harness import QUICK, Cluster, Process
from tests.servers import Valkey
from tests.waiting import wait_until


async def test_a_paused_worker_drops_what_was_taken_away(open_cluster: OpenCluster) -> None:
    cluster = await open_cluster(**QUICK)
    paused = await _come_back_while_another_runs_the_task(cluster)
    await wait_until(lambda: _says(paused, "declared_lost"), description="it knows", timeout=10)
    await cluster.all_ended()
    await _both_work_on(cluster)


async def test_a_late_result_is_refused(open_cluster: OpenCluster) -> None:
    cluster = await open_cluster(**QUICK)
    late = await _come_back_while_another_runs_the_task(cluster, "no-drop")
    await wait_until(lambda: _says(late, "step_refused"), description="it tried", timeout=10)
    assert cluster.query("SELECT status FROM flow_run") == ["running"]
    await cluster.all_ended()
    await _both_work_on(cluster)


async def test_without_the_fence_the_checks_find_the_late_result(
    tmp_path: Path, sqlite_url: str, valkey: Valkey
) -> None:
    cluster = Cluster(tmp_path, sqlite_url, valkey.url, **QUICK)
    await cluster.open()
    try:
        await _come_back_while_another_runs_the_task(cluster, "no-fence")
        await cluster.all_ended()
        ends = cluster.journal
        await wait_until(
            lambda: len(ends.entries("end")) == 2, description="both have ended", timeout=10
        )
        await wait_until(cluster.violations, description="the checks find the late result")
    finally:
        await cluster.close()


async def test_a_worker_that_stands_in_a_commit_holds_nobody_for_ever(
    open_cluster: OpenCluster,
) -> None:
    cluster = await open_cluster(**QUICK, database_timeout_seconds=1.0)
    standing = cluster.start_worker("stand")
    await cluster.at_work([standing])
    api = await cluster.start_api()
    await cluster.submit(chain(1))
    await wait_until(lambda: _stands(standing), description="it stands in its commit", timeout=10)
    async with httpx2.AsyncClient(trust_env=False, timeout=10) as client:
        answer = await client.post(f"{api.url}/run-flow", json=chain(1))
    if cluster.database.is_sqlite:
        assert answer.status_code == 503, answer.text
        assert answer.json()["type"].endswith("unavailable"), answer.text
    else:
        assert answer.status_code == 202, answer.text
        cluster.acknowledged.append(FlowRunId(answer.json()["flow_run_id"]))
    other = cluster.start_worker()
    standing.resume()
    await cluster.at_work([other])
    await cluster.all_ended()


async def _come_back_while_another_runs_the_task(cluster: Cluster, point: str = "") -> Process:
    """Stop a worker in a task until another one runs it; then both end it, one after the other."""
    first = cluster.start_worker(point)
    await cluster.at_work([first])
    run = await cluster.submit(chain(1, 2.5))
    await cluster.started(run, "t0")
    # Its wait has to have begun, or it would begin only when the worker is back.
    await asyncio.sleep(0.2)
    await cluster.pause(first)
    cluster.start_worker()
    await cluster.started(run, "t0", attempt=2)
    cluster.look_closely()
    first.resume()
    return first


async def _both_work_on(cluster: Cluster) -> None:
    await wait_until(
        lambda: len(cluster.registered()) == 2, description="both are live", timeout=10
    )
    cluster.look_closely()
    runs = await cluster.submit_many(chain(2), 20)
    await cluster.all_ended()
    with cluster.database.read() as connection:
        expect_visits(connection, cluster.acknowledged[0], ["t0"])
        for run in runs:
            expect_visits(connection, run, ["t0", "t1"])


def _stands(worker: Process) -> bool:
    """Whether it is stopped, as Linux says: the state follows the name, which is in brackets."""
    stat = Path(f"/proc/{worker.pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] == "T"


def _says(worker: Process, event: str) -> bool:
    return event in worker.log.read_text()
