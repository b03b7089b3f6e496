"""The sender of webhooks is killed in the middle of a delivery."""

from collections.abc import AsyncIterator

import pytest

from tests.faults.conftest import OpenCluster
from tests.faults.flows import chain
from tests.integration.http_server import HttpServer, answering, never, serving
from tests.waiting import wait_until

SENDING = {
    "webhook_secret": "k" * 16,
    "webhook_timeout_seconds": 1,
    "http_allowed_networks": "127.0.0.0/8",
    "lease_seconds": 1,
    "heartbeat_seconds": 0.2,
}


@pytest.fixture
async def server() -> AsyncIterator[HttpServer]:
    server = HttpServer(answer=never)
    async with serving(server):
        yield server


@pytest.mark.timeout(90)
async def test_what_a_killed_worker_was_delivering_is_delivered_by_another(
    open_cluster: OpenCluster, server: HttpServer
) -> None:
    cluster = await open_cluster(webhook_urls=server.url, **SENDING)
    (first,) = await cluster.start_workers(1)
    runs = await cluster.submit_many(chain(1), 5)
    await wait_until(lambda: len(server.received) == 5, description="all are being delivered")
    first.kill()
    server.answer = answering()
    begun = {request.headers["webhook-id"] for request in server.received}
    await cluster.start_workers(1)
    await cluster.all_ended()

    def delivered() -> bool:
        found = cluster.query("SELECT count(*) FROM webhook_delivery WHERE state = 'delivered'")
        return found == [len(runs)]

    await wait_until(delivered, description="all are delivered", timeout=30)
    assert {request.headers["webhook-id"] for request in server.received} == begun
    assert cluster.query("SELECT count(*) FROM webhook_delivery") == [len(runs)]
    assert min(cluster.query("SELECT attempts FROM webhook_delivery")) >= 2
