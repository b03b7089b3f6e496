"""The worker's doorbell: quick, idle when idle, beside plain arq, and not to be killed by Redis."""

import asyncio
import hashlib
import inspect
import pickle
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
import structlog
from arq.constants import in_progress_key_prefix, job_key_prefix
from arq.cron import cron
from arq.worker import Function, Worker, async_check_health, func
from redis.exceptions import RedisError

from shared.bells import bell_key
from shared.queue import Ringer, dump_job, load_job, open_pool, redis_settings
from tests.servers import Valkey, free_port
from tests.waiting import wait_until
from worker.doorbell import IDLE_SECONDS, DoorbellWorker
from worker.rings import ring_function

QUEUE = "test-queue"

closes_the_way_arq_does = pytest.mark.filterwarnings("ignore:Call to deprecated close")


@dataclass
class Runner:
    """Stands in for the worker's runner: notes what it is given, has as much room as told."""

    room: int | None = None
    handed: list[str] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)

    async def hand_over(self, branch_ids: list[str]) -> None:
        if self.room is not None:
            self.room -= len(branch_ids)
        self.calls.append(len(branch_ids))
        self.handed += branch_ids

    def context(self, **more: object) -> dict[str, object]:
        context: dict[str, object] = {"hand_over": self.hand_over, **more}
        if self.room is not None:
            context["room"] = lambda: self.room
        return context


@asynccontextmanager
async def running(worker: Worker) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(worker.async_run())
        try:
            yield
        finally:
            if isinstance(worker, DoorbellWorker):
                await worker.stop_listening()
            else:
                worker.handle_sig(signal.SIGUSR1)
            await asyncio.gather(task, return_exceptions=True)
            await worker.close()


def doorbell(url: str, runner: Runner, *functions: Function, **options: Any) -> DoorbellWorker:
    context = runner.context(**options.pop("context", {}))
    return DoorbellWorker(
        [ring_function(), *functions],
        queue_name=QUEUE,
        redis_settings=redis_settings(url),
        ctx=context,
        handle_signals=False,
        **options,
    )


@asynccontextmanager
async def ringing(url: str) -> AsyncIterator[Ringer]:
    ringer = Ringer(url, QUEUE, 0.3)
    await ringer.start()
    try:
        yield ringer
    finally:
        await ringer.close()


def queue_length(valkey: Valkey) -> int:
    with valkey.client() as client:
        return int(client.zcard(QUEUE))


async def test_a_ring_is_answered_within_milliseconds(valkey: Valkey) -> None:
    runner = Runner()
    latencies = []
    async with running(doorbell(valkey.url, runner)), ringing(valkey.url) as ringer:
        for number in range(30):
            started = time.perf_counter()
            ringer.ring([str(number)])
            while len(runner.handed) <= number:  # noqa: ASYNC110  # the latency is measured
                await asyncio.sleep(0)
            latencies.append(time.perf_counter() - started)
    assert runner.handed == [str(number) for number in range(30)]
    assert sorted(latencies)[15] < 0.02


async def test_rings_of_before_the_start_are_answered(valkey: Valkey) -> None:
    runner = Runner()
    async with ringing(valkey.url) as ringer:
        ringer.ring([str(number) for number in range(250)])
    async with running(doorbell(valkey.url, runner)):
        await wait_until(lambda: len(runner.handed) == 250, description="all were handed over")
    assert queue_length(valkey) == 0


async def test_no_more_is_taken_than_there_is_room_for(valkey: Valkey) -> None:
    runner = Runner(room=30)
    worker = doorbell(valkey.url, runner)
    async with ringing(valkey.url) as ringer, running(worker):
        ringer.ring([str(number) for number in range(100)])
        await wait_until(lambda: len(runner.handed) == 30, description="the room was filled")
        await asyncio.sleep(0.15)
        assert len(runner.handed) == 30
        runner.room = 1_000
        worker.room_freed()
        await wait_until(lambda: len(runner.handed) == 100, description="the rest followed")
    assert sorted(runner.handed, key=int) == [str(number) for number in range(100)]


async def test_what_one_worker_has_no_room_for_another_takes_at_once(valkey: Valkey) -> None:
    small, large = Runner(room=1), Runner()
    async with ringing(valkey.url) as ringer, running(doorbell(valkey.url, small)):
        ringer.ring(["a", "b", "c"])
        await wait_until(lambda: small.handed == ["a"], description="the small one is full")
        async with running(doorbell(valkey.url, large)):
            await wait_until(lambda: large.handed == ["b", "c"], description="the rest")


async def test_workers_share_and_each_branch_is_handed_over_once(valkey: Valkey) -> None:
    first, second = Runner(), Runner()
    peers = {"peers": lambda: 2}
    ids = [str(number) for number in range(3_000)]
    async with (
        ringing(valkey.url) as ringer,
        running(doorbell(valkey.url, first, context=peers)),
        running(doorbell(valkey.url, second, context=peers)),
    ):
        for start in range(0, len(ids), 100):
            ringer.ring(ids[start : start + 100], chunks=10)
        await wait_until(
            lambda: len(first.handed) + len(second.handed) >= len(ids),
            description="all were handed over",
        )
    assert sorted(first.handed + second.handed, key=int) == ids
    assert first.handed
    assert second.handed


async def test_an_idle_worker_leaves_redis_in_peace(valkey: Valkey) -> None:
    async with running(doorbell(valkey.url, Runner())):
        with valkey.client() as client:
            await wait_until(
                lambda: client.info("clients")["blocked_clients"] == 1, description="it waits"
            )
            before = client.info("stats")["total_commands_processed"]
            await asyncio.sleep(1)
            # One of them is this question.
            assert client.info("stats")["total_commands_processed"] - before <= 2


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


class Planted:
    """What a pickle would run when it is loaded."""

    executed: list[str] = []  # noqa: RUF012  # shared on purpose: unpickling has no instance

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return (Planted.executed.append, ("executed",))


@pytest.mark.parametrize("job_id", ["branches:1:planted", "planted"])
async def test_a_planted_pickle_is_refused_removed_and_never_loaded(
    valkey: Valkey, job_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    payload = pickle.dumps({"t": 1, "f": "run_branches", "a": (Planted(),), "k": {}, "et": 1})
    runner = Runner()

    async def other(ctx: dict[Any, Any]) -> None:
        raise AssertionError("nobody asked for this")

    with valkey.client() as client, structlog.testing.capture_logs() as logs:
        client.set(job_key_prefix + job_id, payload, ex=60)
        client.zadd(QUEUE, {job_id: 1})
        worker = doorbell(valkey.url, runner, func(other, name="other"), poll_delay=0.05)
        async with running(worker):
            await wait_until(lambda: client.zcard(QUEUE) == 0, description="it was removed")
            await asyncio.sleep(0.2)
        assert client.get(job_key_prefix + job_id) is None
    refusals = [line for line in logs if line["event"] == "ring_refused"]
    refusals += [line for line in caplog.messages if "deserializing job" in line]  # type: ignore[misc]  # arq's own lines are text
    assert len(refusals) == 1
    assert runner.handed == []
    assert Planted.executed == []


@pytest.mark.parametrize(
    "value",
    [
        {"t": None, "f": "other", "a": [["a"]], "k": {}, "et": 1},
        {"t": None, "f": "run_branches", "a": [], "k": {}, "et": 1},
        {"t": None, "f": "run_branches", "a": [[1]], "k": {}, "et": 1},
        {"f": "run_branches"},
        [],
    ],
)
async def test_what_is_not_a_ring_is_refused_and_the_next_answered(
    valkey: Valkey, value: object
) -> None:
    runner = Runner()
    with valkey.client() as client:
        client.set(f"{job_key_prefix}branches:1:x", orjson.dumps(value), ex=60)
        client.zadd(QUEUE, {"branches:1:x": 1})
    async with running(doorbell(valkey.url, runner)), ringing(valkey.url) as ringer:
        ringer.ring(["good"])
        await wait_until(lambda: runner.handed == ["good"], description="the good one came")
    assert queue_length(valkey) == 0


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


@closes_the_way_arq_does
async def test_the_health_key_is_there_for_arq_check(valkey: Valkey) -> None:
    settings = redis_settings(valkey.url)
    assert await async_check_health(settings, None, QUEUE) == 1
    async with running(doorbell(valkey.url, Runner(), health_check_interval=0.5)):
        await asyncio.sleep(2)
        assert await async_check_health(settings, None, QUEUE) == 0
    assert await async_check_health(settings, None, QUEUE) == 1


async def test_nothing_is_handed_over_once_listening_was_stopped(valkey: Valkey) -> None:
    runner = Runner()
    worker = doorbell(valkey.url, runner)
    async with running(worker), ringing(valkey.url) as ringer:
        ringer.ring(["before"])
        await wait_until(lambda: runner.handed == ["before"], description="the first ring")
        await worker.stop_listening()
        ringer.ring(["after"])
        await asyncio.sleep(0.1)
    assert runner.handed == ["before"]
    assert queue_length(valkey) == 1


async def test_a_signal_ends_the_loop_in_order_and_is_reported(valkey: Valkey) -> None:
    stopped: list[signal.Signals] = []
    worker = doorbell(valkey.url, Runner())
    worker.on_stop = stopped.append
    async with running(worker):
        await wait_until(lambda: worker._is_listening, description="it listens")
        worker.handle_sig(signal.SIGTERM)
        assert worker.main_task is not None
        await asyncio.wait_for(asyncio.shield(worker.main_task), 1)
        assert not worker.main_task.cancelled()
    assert stopped == [signal.SIGTERM]


async def test_burst_ends_when_the_queue_is_empty(valkey: Valkey) -> None:
    runner = Runner()
    async with ringing(valkey.url) as ringer:
        ringer.ring(["a", "b"], chunks=2)
    worker = doorbell(valkey.url, runner, burst=True)
    assert await worker.run_check() == 2
    await worker.close()
    assert runner.handed == ["a", "b"]


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
