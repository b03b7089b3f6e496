"""The doorbell of each pool: heard by its workers, and by nobody else."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from shared.bells import Pool, others_bell_key, pool_of
from shared.pools import DEFAULT_QUEUE
from shared.queue import RING_LIFE_MILLISECONDS, redis_settings
from tests.integration.doorbell_rig import QUEUE, ringing, words_of
from tests.servers import Valkey
from tests.waiting import wait_until
from worker.bells import Bells
from worker.doorbell import DoorbellWorker
from worker.rings import ring_function

GPU = pool_of(QUEUE, "gpu")


class Listener:
    """A worker of some queues that only notes what it is given."""

    def __init__(self, url: str, *queues: str, room: int = 1_000) -> None:
        self.room = room
        self.handed: list[str] = []
        bells = Bells(QUEUE, queues)
        self.worker = DoorbellWorker(
            [ring_function()],
            bells=bells,
            queue_name=bells.first.key,
            redis_settings=redis_settings(url),
            ctx={"hand_over": self._hand_over, "room": lambda: self.room},
            handle_signals=False,
        )

    async def _hand_over(self, branch_ids: list[str]) -> None:
        self.room -= len(branch_ids)
        self.handed += words_of(branch_ids)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["Listener"]:
        """Listen meanwhile."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.worker.async_run())
            try:
                yield self
            finally:
                await self.worker.stop_listening()
        await self.worker.close()


def _waits(valkey: Valkey, workers: int) -> bool:
    with valkey.client() as client:
        return bool(client.info("clients")["blocked_clients"] == workers)


async def test_a_ring_is_heard_by_the_workers_of_its_pool_alone(valkey: Valkey) -> None:
    plain, gpu = Listener(valkey.url, DEFAULT_QUEUE), Listener(valkey.url, "gpu")
    async with plain.listening(), gpu.listening(), ringing(valkey.url) as ringer:
        await wait_until(lambda: _waits(valkey, 2), description="both listen")
        ringer.ring(["a", "b", "c"], queues={"b": "gpu"})
        await wait_until(lambda: len(plain.handed + gpu.handed) == 3, description="all are heard")
    assert (plain.handed, gpu.handed) == (["a", "c"], ["b"])


async def test_a_ring_for_a_pool_without_workers_waits_for_one(valkey: Valkey) -> None:
    plain, gpu = Listener(valkey.url, DEFAULT_QUEUE), Listener(valkey.url, "gpu")
    async with plain.listening(), ringing(valkey.url) as ringer:
        ringer.ring(["b"], queues={"b": "gpu"})
        ringer.ring(["a"])
        await wait_until(lambda: plain.handed == ["a"], description="the other one is heard")
        async with gpu.listening():
            await wait_until(lambda: gpu.handed == ["b"], description="it is heard")
    assert plain.handed == ["a"]


async def test_a_worker_of_several_queues_hears_each_of_them(valkey: Valkey) -> None:
    both = Listener(valkey.url, "gpu", DEFAULT_QUEUE)
    async with both.listening(), ringing(valkey.url) as ringer:
        for number, queue in enumerate(["gpu", DEFAULT_QUEUE, "gpu", "other"]):
            await wait_until(lambda: _waits(valkey, 1), description="it listens")
            ringer.ring([str(number)], queues={str(number): queue})
            if queue != "other":
                await wait_until(
                    lambda n=number: str(n) in both.handed,  # type: ignore[misc]  # bound here
                    description="it is heard",
                )
    assert both.handed == ["0", "1", "2"]


async def test_a_worker_of_every_queue_hears_of_pools_that_it_never_heard_of(
    valkey: Valkey,
) -> None:
    every = Listener(valkey.url, "*")
    async with ringing(valkey.url) as ringer:
        ringer.ring(["early"], queues={"early": "tape"})
        async with every.listening():
            await wait_until(lambda: every.handed == ["early"], description="the early one")
            await wait_until(lambda: _waits(valkey, 1), description="it listens")
            ringer.ring(["b"], queues={"b": "gpu"})
            await wait_until(lambda: "b" in every.handed, description="the first ring of a pool")
            ringer.ring(["a"])
            await wait_until(lambda: "a" in every.handed, description="the default one")
    with valkey.client() as client:
        assert client.exists(GPU.key, GPU.bell, others_bell_key(QUEUE)) == 0


async def test_a_full_worker_looks_at_all_its_pools_when_it_has_room(valkey: Valkey) -> None:
    both = Listener(valkey.url, DEFAULT_QUEUE, "gpu", room=1)
    async with both.listening(), ringing(valkey.url) as ringer:
        ringer.ring(["a"])
        await wait_until(lambda: both.handed == ["a"], description="it is full")
        ringer.ring(["b"], queues={"b": "gpu"})
        both.room = 5
        both.worker.room_freed()
        await wait_until(lambda: both.handed == ["a", "b"], description="it looked")


async def test_what_a_worker_has_no_room_for_goes_back_to_its_pool(valkey: Valkey) -> None:
    small, large = Listener(valkey.url, "gpu", room=1), Listener(valkey.url, "gpu")
    async with ringing(valkey.url) as ringer, small.listening():
        ringer.ring(["a", "b", "c"], queues=dict.fromkeys("abc", "gpu"))
        await wait_until(lambda: small.handed == ["a"], description="the small one is full")
        async with large.listening():
            await wait_until(lambda: large.handed == ["b", "c"], description="the rest")


async def test_a_bell_that_rings_all_the_time_does_not_drown_the_others(valkey: Valkey) -> None:
    bells = Bells(QUEUE, (DEFAULT_QUEUE, "gpu"))
    first = bells.waited_on[0]
    (pool,) = bells.heard(first, b"default")
    assert pool.queue == DEFAULT_QUEUE
    assert bells.waited_on == [GPU.bell, first]


@pytest.mark.parametrize("token", [b"\xff", b"a:b", b"", b"x" * 1_000, b"*"])
def test_a_token_that_names_no_pool_is_passed_over(token: bytes) -> None:
    bells = Bells(QUEUE, ("*",))
    assert bells.heard(others_bell_key(QUEUE), token) == []
    assert [pool.queue for pool in bells.pools] == [DEFAULT_QUEUE]


def test_no_more_pools_are_remembered_than_can_be_looked_at() -> None:
    bells = Bells(QUEUE, ("*",))
    for number in range(1_000):
        bells.heard(others_bell_key(QUEUE), f"pool{number}".encode())
    assert len(bells.pools) <= 101
    assert bells.pools[-1].queue == "pool999"


async def test_rings_that_nobody_hears_leave_nothing_for_ever(valkey: Valkey) -> None:
    async with ringing(valkey.url) as ringer:
        ringer.ring(["b"], queues={"b": "nobody"})
    pool = pool_of(QUEUE, "nobody")
    with valkey.client() as client:
        assert client.zcard(pool.key) == 1
        for key in (pool.key, pool.bell, others_bell_key(QUEUE)):
            assert 0 < client.pttl(key) <= RING_LIFE_MILLISECONDS


def test_pools_of_any_name_have_keys_of_their_own() -> None:
    names = [DEFAULT_QUEUE, "bell", "pool", "pools", "health-check", "a.b", "a"]
    keys = [key for pool in map(_pool, names) for key in (pool.key, pool.bell)]
    keys += [others_bell_key(QUEUE), f"{QUEUE}:health-check"]
    assert len(set(keys)) == len(keys)


def _pool(name: str) -> Pool:
    return pool_of(QUEUE, name)
