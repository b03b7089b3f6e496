"""The doorbell beside plain arq: its jobs, its crons, its health key, its workers."""

import asyncio
import hashlib
import inspect
import time
from typing import Any

from arq.constants import in_progress_key_prefix
from arq.cron import cron
from arq.worker import Worker, async_check_health, func

from shared.bells import bell_key
from shared.queue import dump_job, load_job, open_pool, redis_settings
from tests.integration.doorbell_rig import (
    QUEUE,
    Runner,
    closes_the_way_arq_does,
    doorbell,
    queue_length,
    ringing,
    running,
)
from tests.servers import Valkey
from tests.waiting import wait_until
from worker.doorbell import DoorbellWorker
from worker.rings import ring_function


async def test_other_arq_jobs_run_and_do_not_hide_rings(valkey: Valkey) -> None:
    release = asyncio.Event()
    done: list[str] = []

    async def slow(ctx: dict[Any, Any], word: str) -> str:
        await release.wait()
        done.append(word)
        return word

    runner = Runner()
    pool = open_pool(redis_settings(valkey.url), queue_name=QUEUE, timeout_seconds=2)
    worker = doorbell(valkey.url, runner, func(slow, name="slow"), poll_delay=0.05)
    async with running(worker), ringing(valkey.url) as ringer:
        job = await pool.enqueue_job("slow", "word")
        assert job is not None
        await wait_until(lambda: worker.tasks, description="the other job runs")
        ringer.ring(["a"])
        await wait_until(lambda: runner.handed == ["a"], description="the ring was answered")
        release.set()
        assert await job.result(timeout=5, poll_delay=0.02) == "word"
    await pool.aclose(close_connection_pool=True)
    assert done == ["word"]
    assert worker.job_counter == 0


async def test_a_deferred_job_waits_for_its_time_and_costs_no_spin(valkey: Valkey) -> None:
    ran: list[float] = []

    async def later(ctx: dict[Any, Any]) -> None:
        ran.append(time.time())

    pool = open_pool(redis_settings(valkey.url), queue_name=QUEUE, timeout_seconds=2)
    worker = doorbell(valkey.url, Runner(), func(later, name="later"), poll_delay=0.1)
    async with running(worker):
        due = time.time() + 0.5
        await pool.enqueue_job("later", _defer_by=0.5)
        with valkey.client() as client:
            before = client.info("stats")["total_commands_processed"]
            await wait_until(lambda: ran, description="it ran")
            assert client.info("stats")["total_commands_processed"] - before < 150
    await pool.aclose(close_connection_pool=True)
    assert ran[0] >= due - 0.01


async def test_cron_jobs_run(valkey: Valkey) -> None:
    ran: list[bool] = []

    async def tick(ctx: dict[Any, Any]) -> None:
        ran.append(True)

    every = cron(tick, second=set(range(60)))
    worker = doorbell(valkey.url, Runner(), cron_jobs=[every], poll_delay=0.1)
    async with running(worker):
        await wait_until(lambda: ran, description="the cron job ran")


@closes_the_way_arq_does
async def test_the_health_key_is_there_for_arq_check(valkey: Valkey) -> None:
    settings = redis_settings(valkey.url)
    assert await async_check_health(settings, None, QUEUE) == 1
    async with running(doorbell(valkey.url, Runner(), health_check_interval=0.5)):
        await asyncio.sleep(2)
        assert await async_check_health(settings, None, QUEUE) == 0
    assert await async_check_health(settings, None, QUEUE) == 1


@closes_the_way_arq_does
async def test_a_plain_arq_worker_answers_rings(valkey: Valkey) -> None:
    runner = Runner()
    async with ringing(valkey.url) as ringer:
        ringer.ring(["a", "b"])
        ringer.ring(["c"])
    worker = Worker(
        [ring_function()],
        queue_name=QUEUE,
        redis_settings=redis_settings(valkey.url),
        ctx=runner.context(),
        handle_signals=False,
        job_serializer=dump_job,
        job_deserializer=load_job,
        poll_delay=0.02,
    )
    async with running(worker):
        await wait_until(lambda: len(runner.handed) == 3, description="all were handed over")
        await wait_until(lambda: queue_length(valkey) == 0, description="nothing is left")
    with valkey.client() as client:
        assert client.keys("arq:*") == []


async def test_what_a_plain_worker_has_in_progress_is_left_to_it(valkey: Valkey) -> None:
    runner = Runner()
    async with ringing(valkey.url) as ringer:
        ringer.ring(["theirs"])
    with valkey.client() as client:
        (job_id,) = client.zrange(QUEUE, 0, -1)
        client.set(in_progress_key_prefix.encode() + job_id, b"1", ex=60)
        async with running(doorbell(valkey.url, runner)), ringing(valkey.url) as ringer:
            ringer.ring(["ours"])
            await wait_until(lambda: runner.handed == ["ours"], description="ours came")
        assert client.zrange(QUEUE, 0, -1) == [job_id]
        assert client.llen(bell_key(QUEUE)) == 0


def test_what_is_overridden_of_arq_is_what_we_know() -> None:
    """A new arq that changes these must be read before the bounds in pyproject.toml move."""
    known = {
        "main": "45ca1591c971",
        "start_jobs": "b45797cfa40b",
        "handle_sig": "985ff7ba01aa",
        "close": "5bcc9cb35668",
        "_poll_iteration": "f8d39d823a0a",
        "heart_beat": "2e9959bea66d",
        "_release_sem_dec_counter_on_complete": "0ed101482e94",
    }
    found = {
        name: hashlib.sha256(inspect.getsource(getattr(Worker, name)).encode()).hexdigest()[:12]
        for name in known
    }
    assert found == known
    assert {name for name in vars(DoorbellWorker) if name in vars(Worker)} - {
        "__init__", "__module__", "__doc__", "__firstlineno__", "__static_attributes__",
    } == {"main", "start_jobs", "handle_sig", "close"}  # fmt: skip
