"""The worker's doorbell: quick, idle when idle, and no more than there is room for."""

import asyncio
import signal
import time

from tests.integration.doorbell_rig import Runner, doorbell, queue_length, ringing, running
from tests.servers import Valkey
from tests.waiting import wait_until


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
