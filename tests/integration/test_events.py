"""Messages reach who listens, and whoever waits for a run is told without them, too."""

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager

import structlog

from shared.errors import DatabaseUnavailable
from shared.events import Publisher, RunEndings, Subscriber, ended_channel
from shared.queue import Ringer
from tests.servers import Valkey, free_port
from tests.waiting import wait_until

QUEUE = "test-queue"


class Database:
    """Which runs have ended, and what was asked."""

    def __init__(self) -> None:
        self.ended: set[str] = set()
        self.questions: list[list[str]] = []
        self.is_away = False

    async def find_ended(self, run_ids: Sequence[str]) -> Collection[str]:
        self.questions.append(list(run_ids))
        if self.is_away:
            raise DatabaseUnavailable("away")
        return self.ended.intersection(run_ids)


@asynccontextmanager
async def running_endings(
    database: Database, poll_seconds: float = 60
) -> AsyncIterator[RunEndings]:
    endings = RunEndings(database.find_ended, poll_seconds)
    await endings.start()
    try:
        yield endings
    finally:
        await endings.close()


@asynccontextmanager
async def listening(url: str, ended: list[str], cancelled: list[str]) -> AsyncIterator[Subscriber]:
    subscriber = Subscriber(url, QUEUE, on_ended=ended.extend, on_cancelled=cancelled.extend)
    await subscriber.start()
    try:
        yield subscriber
    finally:
        await subscriber.close()


async def test_messages_reach_their_own_handler(valkey: Valkey) -> None:
    ended: list[str] = []
    cancelled: list[str] = []
    ringer = Ringer(valkey.url, QUEUE, 0.3)
    publisher = Publisher(ringer, QUEUE)
    await ringer.start()
    async with listening(valkey.url, ended, cancelled) as subscriber:
        await wait_until(lambda: subscriber.is_listening, description="it listens")
        publisher.run_ended(["a"])
        publisher.cancelled(["c"])
        publisher.run_ended(["b"])
        publisher.run_ended([])
        await wait_until(lambda: len(ended) == 2 and cancelled, description="messages arrived")
    await ringer.close()
    assert (ended, cancelled) == (["a", "b"], ["c"])


async def test_more_ids_than_fit_into_one_message_arrive_in_several(valkey: Valkey) -> None:
    ended: list[str] = []
    ringer = Ringer(valkey.url, QUEUE, 0.3)
    await ringer.start()
    async with listening(valkey.url, ended, []) as subscriber:
        await wait_until(lambda: subscriber.is_listening, description="it listens")
        Publisher(ringer, QUEUE).run_ended([str(number) for number in range(1_200)])
        await wait_until(lambda: len(ended) == 1_200, description="all ids arrived")
    await ringer.close()


async def test_listening_goes_on_after_a_restart_of_redis(valkey: Valkey) -> None:
    ended: list[str] = []
    async with listening(valkey.url, ended, []) as subscriber:
        await wait_until(lambda: subscriber.is_listening, description="it listens")
        valkey.stop()
        await wait_until(lambda: not subscriber.is_listening, description="it noticed")
        valkey.start()
        await wait_until(lambda: subscriber.is_listening, description="it listens again")
        with valkey.client() as client:
            client.publish(ended_channel(QUEUE), b'["a"]')
        await wait_until(lambda: ended == ["a"], description="the message arrived")


async def test_starting_and_closing_need_no_redis() -> None:
    async with listening(f"redis://127.0.0.1:{free_port()}/0", [], []) as subscriber:
        await asyncio.sleep(0.1)
        assert not subscriber.is_listening


async def test_what_is_not_a_list_of_ids_is_refused_and_listening_goes_on(valkey: Valkey) -> None:
    ended: list[str] = []
    with structlog.testing.capture_logs() as logs:
        async with listening(valkey.url, ended, []) as subscriber:
            await wait_until(lambda: subscriber.is_listening, description="it listens")
            with valkey.client() as client:
                for data in (b"\x80\x04.", b'{"a": 1}', b"[1]", b'["good"]'):
                    client.publish(ended_channel(QUEUE), data)
            await wait_until(lambda: ended == ["good"], description="the good one arrived")
    assert [line["event"] for line in logs].count("message_refused") == 3


async def test_waiting_ends_as_soon_as_the_message_comes() -> None:
    database = Database()
    async with running_endings(database) as endings:
        waiting = asyncio.gather(endings.wait("a", 5), endings.wait("a", 5))
        await wait_until(lambda: database.questions, description="the database was asked")
        started = time.perf_counter()
        endings.notify(["a", "unknown"])
        assert list(await waiting) == [True, True]
        assert time.perf_counter() - started < 0.1


async def test_a_run_that_ended_before_is_noticed_at_once() -> None:
    database = Database()
    database.ended.add("late")
    async with running_endings(database) as endings:
        other = asyncio.gather(endings.wait("other", 5))
        await wait_until(lambda: database.questions, description="the first question")
        assert await endings.wait("late", 1)
        # Only the newcomer was asked for; the other has its turn at the next poll.
        assert database.questions == [["other"], ["late"]]
        endings.notify(["other"])
        await other


async def test_waiting_needs_no_message() -> None:
    database = Database()
    async with running_endings(database, poll_seconds=0.05) as endings:
        waiting = asyncio.gather(endings.wait("a", 5))
        await wait_until(lambda: database.questions, description="the database was asked")
        database.ended.add("a")
        assert list(await waiting) == [True]


async def test_waiting_gives_up_in_time_and_leaves_nothing_behind() -> None:
    database = Database()
    async with running_endings(database, poll_seconds=0.02) as endings:
        assert not await endings.wait("a", 0.1)
        asked = len(database.questions)
        await asyncio.sleep(0.1)
        assert len(database.questions) <= asked + 1


async def test_waiting_outlives_a_database_that_is_away_for_a_moment() -> None:
    database = Database()
    database.is_away = True
    async with running_endings(database, poll_seconds=0.02) as endings:
        waiting = asyncio.gather(endings.wait("a", 5))
        await wait_until(lambda: len(database.questions) > 2, description="it was tried")
        database.is_away = False
        database.ended.add("a")
        assert list(await waiting) == [True]


async def test_closing_lets_everybody_go() -> None:
    database = Database()
    async with running_endings(database) as endings:
        waiting = asyncio.gather(endings.wait("a", 30))
        await wait_until(lambda: database.questions, description="it waits")
    assert list(await waiting) == [False]
