"""The ringer: rings reach the queue in arq's format, and no state of Redis holds it up."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
import pytest
import structlog
from arq.connections import RedisSettings
from arq.constants import job_key_prefix

from shared import queue
from shared.bells import bell_key
from shared.queue import Ringer, make_jobs, redis_settings
from tests.servers import Valkey, free_port
from tests.waiting import wait_until

QUEUE = "test-queue"
TIMEOUT_SECONDS = 0.3


@asynccontextmanager
async def running_ringer(url: str) -> AsyncIterator[Ringer]:
    ringer = Ringer(url, QUEUE, TIMEOUT_SECONDS)
    await ringer.start()
    try:
        yield ringer
    finally:
        await ringer.close()


def queued_branches(valkey: Valkey) -> list[str]:
    """The branches of all rings that wait, in the order of the queue."""
    found: list[str] = []
    with valkey.client() as client:
        for job_id in client.zrange(QUEUE, 0, -1):
            payload = client.get(job_key_prefix.encode() + job_id)
            if payload is not None:
                found += orjson.loads(payload)["a"][0]
    return found


def test_jobs_of_one_ring_carry_each_branch_once_in_about_equal_parts() -> None:
    ids = [f"b{number}" for number in range(10)]
    jobs = make_jobs(ids, 4, 123)
    assert [job.branches for job in jobs] == [2, 3, 2, 3]
    assert [one for job in jobs for one in orjson.loads(job.payload)["a"][0]] == ids
    assert len({job.job_id for job in jobs}) == 4


def test_a_job_never_carries_more_branches_than_its_limit() -> None:
    jobs = make_jobs([str(number) for number in range(1_001)], 1, 0)
    assert max(job.branches for job in jobs) <= queue.MAX_JOB_BRANCHES
    assert sum(job.branches for job in jobs) == 1_001


def test_no_branches_make_no_jobs_and_few_make_no_empty_ones() -> None:
    assert make_jobs([], 4, 0) == []
    assert [job.branches for job in make_jobs(["a", "b"], 8, 0)] == [1, 1]


async def test_ring_is_a_json_job_in_the_wire_format_of_arq(valkey: Valkey) -> None:
    async with running_ringer(valkey.url) as ringer:
        ringer.ring(["a", "b", "c"])
        await wait_until(lambda: queued_branches(valkey), description="the ring arrived")
        pool = queue.open_pool(redis_settings(valkey.url), queue_name=QUEUE, timeout_seconds=1)
        jobs = await pool.queued_jobs()
        await pool.aclose(close_connection_pool=True)
    assert [(job.function, list(job.args), job.kwargs) for job in jobs] == [
        ("run_branches", [["a", "b", "c"]], {})
    ]


async def test_rings_of_one_moment_share_one_round_trip(valkey: Valkey) -> None:
    async with running_ringer(valkey.url) as ringer:
        ringer.ring(["warm-up"])
        await wait_until(lambda: queued_branches(valkey), description="the first ring arrived")
        with valkey.client() as client:
            before = client.info("commandstats")["cmdstat_zadd"]["calls"]
            for number in range(500):
                ringer.ring([str(number)])
            await wait_until(
                lambda: len(queued_branches(valkey)) == 501, description="all rings arrived"
            )
            assert client.info("commandstats")["cmdstat_zadd"]["calls"] == before + 1


async def test_close_sends_what_was_rung_before(valkey: Valkey) -> None:
    async with running_ringer(valkey.url) as ringer:
        ringer.ring(["last"])
    assert queued_branches(valkey) == ["last"]


async def test_nothing_but_the_queue_itself_is_kept_for_longer_than_a_minute(
    valkey: Valkey,
) -> None:
    async with running_ringer(valkey.url) as ringer:
        ringer.ring([str(number) for number in range(300)], chunks=5)
        await wait_until(lambda: queued_branches(valkey), description="the ring arrived")
    with valkey.client() as client:
        for key in client.scan_iter():
            if key != QUEUE.encode():
                assert 0 < client.pttl(key) <= queue.RING_LIFE_MILLISECONDS, key


async def test_the_bell_holds_few_tokens_however_much_is_rung(valkey: Valkey) -> None:
    async with running_ringer(valkey.url) as ringer:
        for _ in range(5):
            ringer.ring([str(number) for number in range(100)], chunks=100)
    with valkey.client() as client:
        assert client.llen(bell_key(QUEUE)) == queue.MAX_TOKENS


async def test_the_queue_does_not_grow_when_nobody_listens(valkey: Valkey) -> None:
    old = int(time.time() * 1000) - 2 * queue.RING_LIFE_MILLISECONDS
    with valkey.client() as client:
        # Rings of two minutes ago, whose payloads have expired, beside an old job of another
        # kind that has not.
        client.zadd(QUEUE, {f"branches:1:{number}": old + number for number in range(90)})
        client.zadd(QUEUE, {"foreign": old})
        client.set(f"{job_key_prefix}foreign", b"{}", ex=100)
        async with running_ringer(valkey.url) as ringer:
            ringer.ring(["new"])
        members = client.zrange(QUEUE, 0, -1)
    assert len(members) == 2
    assert members[0] == b"foreign"


async def test_ring_returns_at_once_and_drops_when_redis_is_away() -> None:
    async with running_ringer(f"redis://127.0.0.1:{free_port()}/0") as ringer:
        started = time.perf_counter()
        ringer.ring(["a", "b"])
        assert time.perf_counter() - started < 0.01
        await wait_until(lambda: ringer.dropped == 2, description="the ring was dropped")
        assert not ringer.is_connected
        assert not await ringer.ping()


async def test_a_hung_redis_costs_a_ring_its_timeout_and_the_caller_nothing(
    valkey: Valkey,
) -> None:
    async with running_ringer(valkey.url) as ringer:
        ringer.ring(["before"])
        await wait_until(lambda: queued_branches(valkey), description="the ring arrived")
        valkey.pause()
        started = time.perf_counter()
        ringer.ring(["during"])
        assert time.perf_counter() - started < 0.01
        await wait_until(lambda: ringer.dropped, description="the ring was given up")
        assert time.perf_counter() - started < TIMEOUT_SECONDS + 0.3
        valkey.resume()
        ringer.ring(["after"])
        await wait_until(
            lambda: "after" in queued_branches(valkey), description="rings arrive again"
        )
        assert ringer.is_connected


async def test_closing_on_a_hung_redis_takes_no_longer_than_the_timeouts(valkey: Valkey) -> None:
    async with running_ringer(valkey.url) as ringer:
        ringer.ring(["a"])
        valkey.pause()
        started = time.perf_counter()
    assert time.perf_counter() - started < 2 * TIMEOUT_SECONDS + 0.3


async def test_rings_arrive_again_after_a_restart_of_redis(valkey: Valkey) -> None:
    with structlog.testing.capture_logs() as logs:
        async with running_ringer(valkey.url) as ringer:
            ringer.ring(["before"])
            await wait_until(lambda: queued_branches(valkey), description="the ring arrived")
            valkey.stop()
            for number in range(3):
                ringer.ring([str(number)])
                await asyncio.sleep(0.05)
            valkey.start()
            ringer.ring(["after"])
            await wait_until(
                lambda: "after" in queued_branches(valkey), description="rings arrive again"
            )
    words = [line["event"] for line in logs]
    assert words == ["redis_unavailable", "redis_available"]


async def test_pending_rings_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "MAX_PENDING_JOBS", 3)
    ringer = Ringer("redis://127.0.0.1:1/0", QUEUE, TIMEOUT_SECONDS)
    for number in range(5):
        ringer.ring([str(number)])
    assert ringer.dropped == 2


def test_settings_of_a_url_keep_what_arq_itself_would_lose() -> None:
    assert redis_settings("redis://user:p%40ss@127.0.0.1:7/3") == RedisSettings(
        host="127.0.0.1", port=7, username="user", password="p@ss", database=3
    )
    assert redis_settings("unix:///run/valkey.sock?db=2") == RedisSettings(
        unix_socket_path="/run/valkey.sock", database=2
    )
    assert redis_settings("rediss://h/0?ssl_cert_reqs=none").ssl_cert_reqs == "none"
    assert redis_settings("rediss://h/0").ssl


def test_a_pickle_is_not_loaded() -> None:
    with pytest.raises(ValueError, match="not valid"):
        queue.load_job(b"\x80\x04\x95\x1a\x00\x00\x00\x00\x00\x00\x00.")
    with pytest.raises(ValueError, match="object"):
        queue.load_job(b"[]")
