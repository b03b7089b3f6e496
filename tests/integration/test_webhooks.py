"""Webhooks: told once an end of a run, signed, tried again, and never to the wrong address."""

import base64
import hashlib
import hmac
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
import structlog
from sqlalchemy import select

from shared.errors import InvalidSettings
from shared.models_webhooks import DeliveryState, WebhookDelivery
from shared.settings import load_settings
from tests.integration.engine_rig import MODULE, Rig, open_rig
from tests.integration.http_server import HttpServer, Received, answering, never, serving
from tests.waiting import wait_until
from worker import webhooks
from worker.webhooks import endpoints_of

KEY = b"a-key-of-more-than-16-bytes"
TOKEN = "t0k3n-of-the-receiver"
LOOPBACK = ("127.0.0.0/8",)

Open = Callable[..., AbstractAsyncContextManager[Rig]]


@pytest.fixture
async def server() -> AsyncIterator[HttpServer]:
    server = HttpServer()
    async with serving(server):
        yield server


@pytest.fixture
def opened(database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Opens an engine that tells some servers; what fails is tried again at once."""
    monkeypatch.setattr(webhooks, "_FIRST_DELAY_SECONDS", 0.0)

    @asynccontextmanager
    async def open_(*servers: HttpServer, **others: Any) -> AsyncIterator[Rig]:
        values: dict[str, Any] = {
            "webhook_urls": tuple(f"{one.url}/hook?token={TOKEN}" for one in servers),
            "webhook_secret": KEY.decode(),
            "http_allowed_networks": LOOPBACK,
        }
        async with open_rig(database_url, redis_url, (MODULE,), **(values | others)) as rig:
            yield rig

    return open_


def _single(**task: Any) -> dict[str, Any]:
    return {"id": "one", "start_task": "a", "tasks": [{"name": "a", **task}]}


PLAIN = _single(type="plain")


def _rows(rig: Rig) -> list[Any]:
    table = WebhookDelivery.__table__
    with rig.engine.database.read() as connection:
        return list(connection.execute(select(table).order_by(table.c.id)))


async def _over(rig: Rig, count: int = 1) -> list[Any]:
    """The deliveries, when so many are over."""
    await wait_until(
        lambda: sum(row.state != DeliveryState.PENDING for row in _rows(rig)) >= count,
        description=f"{count} deliveries are over",
    )
    return _rows(rig)


def _verified(request: Received) -> dict[str, Any]:
    """The event, as a receiver would check it that knows only the standard."""
    content = b"%s.%s.%s" % (
        request.headers["webhook-id"].encode(),
        request.headers["webhook-timestamp"].encode(),
        request.body,
    )
    digest = base64.b64encode(hmac.new(KEY, content, hashlib.sha256).digest()).decode()
    assert request.headers["webhook-signature"] == f"v1,{digest}"
    event: dict[str, Any] = orjson.loads(request.body)
    assert event["id"] == request.headers["webhook-id"]
    return event


async def test_each_way_to_end_is_told_once_and_signed(opened: Open, server: HttpServer) -> None:
    async with opened(server, public_url="https://flows.example/") as rig:
        completed = await rig.submit(PLAIN)
        failed = await rig.submit(_single(type="raises"))
        cancelled = await rig.submit(_single(type="hangs"))
        await wait_until(lambda: rig.tasks(cancelled), description="it runs")
        await rig.cancel(cancelled)
        rows = await _over(rig, 3)
    assert {row.state for row in rows} == {"delivered"}
    assert len(server.received) == len(rows) == 3
    events = {event["subject"]: event for event in map(_verified, server.received)}
    statuses = {completed: "completed", failed: "failed", cancelled: "cancelled"}
    for run_id, status in statuses.items():
        event = events[run_id]
        assert event["type"] == f"flow_manager.run.{status}"
        assert event["data"]["status"] == status
        assert event["data"]["links"]["self"] == f"https://flows.example/flows/{run_id}"
    assert events[failed]["data"]["error"] == {
        "task": "a",
        "type": "RuntimeError",
        "message": "boom",
    }
    (request,) = {(r.method, r.target, r.headers["content-type"]) for r in server.received}
    assert request == ("POST", f"/hook?token={TOKEN}", "application/cloudevents+json")


@pytest.mark.parametrize("status", [500, 503, 429, 408, 301])
async def test_what_may_pass_is_tried_again_with_the_same_event(
    opened: Open, server: HttpServer, status: int
) -> None:
    server.answer = answering(status=status)
    async with opened(server) as rig:
        await rig.ended(await rig.submit(PLAIN))
        await wait_until(lambda: len(server.received) >= 2, description="it is tried again")
        server.answer = answering()
        (row,) = await _over(rig)
    assert (row.state, row.status_code, row.error) == ("delivered", 200, None)
    assert row.attempts == len(server.received)
    assert len({(r.headers["webhook-id"], r.body) for r in server.received}) == 1
    for request in server.received:
        _verified(request)


@pytest.mark.parametrize("status", [400, 401, 404, 410])
async def test_who_refuses_an_event_is_not_asked_again(
    opened: Open, server: HttpServer, status: int
) -> None:
    server.answer = answering(status=status)
    async with opened(server) as rig:
        await rig.ended(await rig.submit(PLAIN))
        (row,) = await _over(rig)
    assert (row.state, row.status_code, row.attempts) == ("dead", status, 1)
    assert str(status) in row.error
    assert len(server.received) == 1


async def test_attempts_are_used_up(opened: Open, server: HttpServer) -> None:
    server.answer = answering(status=500)
    async with opened(server, webhook_max_attempts=3) as rig:
        await rig.ended(await rig.submit(PLAIN))
        (row,) = await _over(rig)
    assert (row.state, row.attempts, len(server.received)) == ("dead", 3, 3)


async def test_a_receiver_that_asks_for_time_gets_it(opened: Open, server: HttpServer) -> None:
    server.answer = answering(status=503, retry_after="600")
    async with opened(server) as rig:
        await rig.ended(await rig.submit(PLAIN))
        await wait_until(lambda: _rows(rig) and _rows(rig)[0].error, description="it was recorded")
        (row,) = _rows(rig)
    assert row.state == "pending"
    assert 590 < (row.next_at - row.created_at).total_seconds() < 700


async def test_a_receiver_that_hangs_holds_up_no_other(opened: Open, server: HttpServer) -> None:
    hanging = HttpServer(answer=never)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(serving(hanging))
        rig = await stack.enter_async_context(opened(hanging, server, webhook_timeout_seconds=20))
        runs = [await rig.submit(PLAIN) for _ in range(20)]
        rows = await _over(rig, len(runs))
    told = [row for row in rows if row.state == "delivered"]
    assert len(server.received) == len(told) == len(runs)
    assert {event["subject"] for event in map(_verified, server.received)} == set(runs)
    assert len(hanging.received) == 8
    ids = [{r.headers["webhook-id"] for r in one.received} for one in (hanging, server)]
    assert ids[0] <= ids[1]


async def test_a_receiver_that_takes_too_long_is_tried_again(
    opened: Open, server: HttpServer
) -> None:
    server.answer = never
    async with opened(server, webhook_timeout_seconds=0.1) as rig:
        await rig.ended(await rig.submit(PLAIN))
        await wait_until(lambda: len(server.received) >= 2, description="it is tried again")
        server.answer = answering()
        (row,) = await _over(rig)
    assert row.state == "delivered"


async def test_an_address_that_is_not_allowed_is_not_called(
    opened: Open, server: HttpServer
) -> None:
    async with opened(server, http_allowed_networks=(), webhook_max_attempts=2) as rig:
        await rig.ended(await rig.submit(PLAIN))
        (row,) = await _over(rig)
    assert (row.state, server.connections) == ("dead", 0)
    assert "http_allowed_networks" in row.error


async def test_without_a_receiver_nothing_is_kept(opened: Open) -> None:
    async with opened() as rig:
        run = await rig.ended(await rig.submit(PLAIN))
        assert run.to_announce == 0
        names = [task.get_name() for task in rig.engine._last_loops]
        assert (_rows(rig), names) == ([], ["journal"])


async def test_neither_url_nor_secret_is_stored_or_logged(
    opened: Open, server: HttpServer, database_url: str
) -> None:
    server.answer = answering(status=400)
    with structlog.testing.capture_logs() as logs:
        async with opened(server) as rig:
            await rig.ended(await rig.submit(PLAIN))
            rows = await _over(rig)
            shown = orjson.dumps(rig.engine.settings.model_dump(mode="json"))
    kept = repr(rows).encode() + repr(logs).encode() + shown
    if database_url.startswith("sqlite"):
        folder = Path(database_url.removeprefix("sqlite:///")).parent
        kept += b"".join(path.read_bytes() for path in folder.glob("flow.db*"))
    assert b"127.0.0.1" in kept
    for hidden in (TOKEN.encode(), KEY):
        assert hidden not in kept


@pytest.mark.parametrize(
    "values",
    [
        {"webhook_urls": "https://a.example/"},
        {"webhook_urls": "https://a.example/", "webhook_secret": "short"},
        {"webhook_urls": "ftp://a.example/", "webhook_secret": KEY.decode()},
        {"webhook_urls": "https://user:secret@a.example/", "webhook_secret": KEY.decode()},
        {"webhook_urls": ",".join(f"https://a{n}.example" for n in range(11))},
    ],
)
def test_settings_that_cannot_be_used_are_refused(values: dict[str, str]) -> None:
    with pytest.raises(InvalidSettings, match=r"webhook|WEBHOOK"):
        load_settings(**values)


def test_a_url_that_no_guard_would_let_pass_is_refused_at_the_start() -> None:
    settings = load_settings(webhook_urls="https://a%2eexample/", webhook_secret=KEY.decode())
    with pytest.raises(InvalidSettings, match=r"the 1\. one"):
        endpoints_of(settings)
