"""The API is killed, loses Redis, or is asked the same thing twice at once."""

import asyncio
import time

import httpx2

from shared.ids import FlowRunId
from tests.faults.flows import chain
from tests.faults.harness import RECOVERY_SECONDS, Cluster
from tests.servers import Valkey
from tests.waiting import wait_until


def _client() -> httpx2.AsyncClient:
    return httpx2.AsyncClient(trust_env=False, timeout=10)


async def test_every_run_that_a_killed_api_had_accepted_ends(cluster: Cluster) -> None:
    worker, api = cluster.start_worker(), cluster.launch_api()
    await cluster.at_work([worker])
    await cluster.answers(api)

    async def post(client: httpx2.AsyncClient) -> None:
        answer = await client.post(f"{api.url}/run-flow", json=chain(2))
        assert answer.status_code == 202
        cluster.acknowledged.append(FlowRunId(answer.json()["flow_run_id"]))

    async with _client() as client:
        posts = [asyncio.create_task(post(client)) for _ in range(100)]
        await wait_until(lambda: len(cluster.acknowledged) >= 20, description="some are accepted")
        killed_at = api.kill()
        results = await asyncio.gather(*posts, return_exceptions=True)
    refused = [one for one in results if one is not None]
    assert all(isinstance(one, httpx2.TransportError) for one in refused)

    await cluster.all_ended()

    await wait_until(
        lambda: cluster.query("SELECT count(*) FROM flow_run WHERE status = 'running'") == [0],
        description="what was committed and not answered ends as well",
    )
    assert time.time() - killed_at < RECOVERY_SECONDS


async def test_a_submit_is_accepted_with_redis_away(cluster: Cluster, valkey: Valkey) -> None:
    worker, api = cluster.start_worker(), cluster.launch_api()
    await cluster.at_work([worker])
    await cluster.answers(api)
    async with _client() as client:
        await client.get(f"{api.url}/health/live")
        valkey.pause()
        for away in ("hung", "gone"):
            if away == "gone":
                valkey.stop()
            began = time.monotonic()
            answer = await client.post(f"{api.url}/run-flow", json=chain(2))
            assert answer.status_code == 202, answer.text
            assert time.monotonic() - began < 1.0
            cluster.acknowledged.append(FlowRunId(answer.json()["flow_run_id"]))
    began_at = time.time()

    await cluster.all_ended()

    assert time.time() - began_at < RECOVERY_SECONDS


async def test_two_clients_with_one_idempotency_key_get_one_run(cluster: Cluster) -> None:
    apis = [cluster.launch_api(), cluster.launch_api()]
    worker = cluster.start_worker()
    await cluster.at_work([worker])
    for api in apis:
        await cluster.answers(api)

    async def post(client: httpx2.AsyncClient, url: str, key: str) -> httpx2.Response:
        return await client.post(f"{url}/run-flow", json=chain(1), headers={"Idempotency-Key": key})

    async with _client() as client:
        for number in range(40):
            pair = await asyncio.gather(*(post(client, a.url, f"key-{number}") for a in apis))
            assert sorted(answer.status_code for answer in pair) == [200, 202]
            assert len({answer.json()["flow_run_id"] for answer in pair}) == 1
            cluster.acknowledged.append(FlowRunId(pair[0].json()["flow_run_id"]))

    await cluster.all_ended()

    assert cluster.query("SELECT count(*) FROM flow_run") == [40]
    assert len(cluster.journal.entries("start")) == 40
