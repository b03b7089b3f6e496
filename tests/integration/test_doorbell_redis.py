"""Redis away, restarted, flushed or hung: the doorbell is not to be killed by it."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

import pytest
import structlog
from arq.worker import func
from redis.exceptions import RedisError

from shared.queue import open_pool, redis_settings
from tests.integration.doorbell_rig import QUEUE, Runner, doorbell, ringing, running
from tests.servers import Valkey, free_port
from tests.waiting import wait_until
from worker.doorbell import IDLE_SECONDS


async def test_redis_may_be_away_at_the_start(valkey: Valkey) -> None:
    runner = Runner()
    valkey.stop()
    with structlog.testing.capture_logs() as logs:
        async with running(doorbell(valkey.url, runner)):
            await asyncio.sleep(0.5)
            valkey.start()
            async with ringing(valkey.url) as ringer:
                ringer.ring(["a"])
                await wait_until(lambda: runner.handed == ["a"], description="it was answered")
    words = [line["event"] for line in logs if line.get("part") == "doorbell"]
    assert words == ["redis_unavailable", "redis_available"]


async def test_stopping_needs_no_redis() -> None:
    ended = []

    async def note(_: object) -> None:
        ended.append(True)

    worker = doorbell(f"redis://127.0.0.1:{free_port()}/0", Runner(), on_shutdown=note)
    async with running(worker):
        await asyncio.sleep(0.2)
        started = time.perf_counter()
    assert time.perf_counter() - started < 0.5
    assert ended == [True]


async def test_a_restart_of_redis_is_survived(valkey: Valkey) -> None:
    runner = Runner()
    async with running(doorbell(valkey.url, runner)), ringing(valkey.url) as ringer:
        ringer.ring(["before"])
        await wait_until(lambda: runner.handed == ["before"], description="the first ring")
        valkey.restart()
        ringer.ring(["after"])
        await wait_until(lambda: "after" in runner.handed, description="the second ring")


async def test_a_flush_of_redis_is_survived(valkey: Valkey) -> None:
    runner = Runner()
    async with running(doorbell(valkey.url, runner)), ringing(valkey.url) as ringer:
        for word in ("one", "two", "three"):
            ringer.ring([word])
            # A flush may take the bell's token with it: then the worker looks by itself.
            await wait_until(
                lambda w=word: w in runner.handed,  # type: ignore[misc]  # mypy cannot infer a lambda with a default
                description=f"{word} came",
                timeout=2 * IDLE_SECONDS,
            )
            valkey.flush()


async def test_a_hung_redis_is_noticed_and_survived(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.doorbell.IDLE_SECONDS", 0.3)
    monkeypatch.setattr("worker.doorbell.COMMAND_SECONDS", 0.3)
    runner = Runner()
    worker = doorbell(valkey.url, runner)
    async with running(worker), ringing(valkey.url) as ringer:
        ringer.ring(["before"])
        await wait_until(lambda: runner.handed == ["before"], description="the first ring")
        valkey.pause()
        await wait_until(lambda: not worker.is_connected, description="it noticed")
        valkey.resume()
        await wait_until(lambda: worker.is_connected, description="it is back")
        ringer.ring(["after"])
        await wait_until(lambda: "after" in runner.handed, description="the second ring")


async def test_a_redis_failure_while_starting_a_job_loses_no_slot(valkey: Valkey) -> None:
    async def other(ctx: dict[Any, Any]) -> None:
        return None

    worker = doorbell(valkey.url, Runner(), func(other, name="other"), max_jobs=2)
    async with running(worker):
        await wait_until(lambda: worker.is_connected, description="it runs")
        broken = open_pool(
            redis_settings(f"redis://127.0.0.1:{free_port()}/0"),
            queue_name=QUEUE,
            timeout_seconds=1,
        )
        working, worker._pool = worker.pool, broken
        for _ in range(5):
            with pytest.raises(OSError, match="connect"):
                await _as_os_error(worker.start_jobs([b"x"]))
        worker._pool = working
        await broken.aclose(close_connection_pool=True)
    assert worker.job_counter == 0
    assert worker.sem._value == 3


async def _as_os_error(call: Coroutine[object, object, None]) -> None:
    """redis-py has a ConnectionError of its own, which is none of Python's."""
    try:
        await call
    except RedisError as error:
        raise OSError(str(error).lower()) from error
