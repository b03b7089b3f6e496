"""Names are looked up on threads that nobody else waits for."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.waiting import wait_until
from worker.outbound.errors import ConnectionFailed
from worker.outbound.resolving import ThreadedResolver, resolve


class SlowSystem:
    """A ``getaddrinfo`` that answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.go_on = threading.Event()

    def getaddrinfo(self, host: str, port: int, **options: Any) -> list[Any]:
        self.asked.append(host)
        assert self.go_on.wait(20)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowSystem]:
    system = SlowSystem()
    monkeypatch.setattr(socket, "getaddrinfo", system.getaddrinfo)
    yield system
    system.go_on.set()


async def test_the_own_machine_is_found() -> None:
    addresses = await resolve(ThreadedResolver(), "localhost", 80)
    assert addresses
    assert all(address.is_loopback for address in addresses)


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (UnicodeError("label too long"), "the name cannot be encoded"),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
    ],
)
async def test_what_the_system_cannot_find_is_a_failed_connection(
    monkeypatch: pytest.MonkeyPatch, raised: Exception, told: str
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise raised

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(ConnectionFailed, match=f"^a.example cannot be resolved: {told}$"):
        await resolve(ThreadedResolver(), "a.example", 80)


async def test_a_lookup_that_was_given_up_keeps_its_place_until_it_ends(slow: SlowSystem) -> None:
    resolver = ThreadedResolver(max_lookups=1)
    first = asyncio.ensure_future(resolver("one.example", 80))
    await wait_until(lambda: slow.asked == ["one.example"], description="the first is asked for")
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    second = asyncio.ensure_future(resolver("two.example", 80))
    await asyncio.sleep(0)
    assert slow.asked == ["one.example"]
    slow.go_on.set()
    assert await second == ["127.0.0.1"]
    assert slow.asked == ["one.example", "two.example"]


async def test_lookups_do_not_wait_for_each_other(slow: SlowSystem) -> None:
    resolver = ThreadedResolver()
    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(resolver(f"{number}.example", 80))
        await wait_until(lambda: len(slow.asked) == 20, description="all are asked for at once")
        slow.go_on.set()


async def test_a_thread_that_cannot_be_started_gives_its_place_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    resolver = ThreadedResolver(max_lookups=1)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        with pytest.raises(ConnectionFailed, match="can't start new thread"):
            await resolve(resolver, "localhost", 80)
    assert await resolve(resolver, "localhost", 80)
