"""Readings that branches share: none is made twice, and they stay within their bounds."""

import asyncio
from dataclasses import dataclass

from worker.snapshots import Snapshots


@dataclass
class Read:
    weight: int


async def _add(snapshots: Snapshots[Read], key: str, weight: int) -> None:
    reading: asyncio.Future[Read] = asyncio.get_running_loop().create_future()
    snapshots.add(key, reading)
    reading.set_result(Read(weight))
    await asyncio.sleep(0)


async def test_what_is_under_way_is_shared_however_much_there_is() -> None:
    snapshots: Snapshots[Read] = Snapshots(1, 1)
    readings: list[asyncio.Future[Read]] = [asyncio.Future() for _ in range(3)]
    for number, reading in enumerate(readings):
        snapshots.add(number, reading)
    assert [snapshots.get(number) for number in range(3)] == readings


async def test_the_oldest_go_when_there_are_too_many() -> None:
    snapshots: Snapshots[Read] = Snapshots(2, 1_000)
    for key in "abc":
        await _add(snapshots, key, 1)
    assert snapshots.get("a") is None
    assert snapshots.get("b")
    assert snapshots.get("c")


async def test_the_oldest_go_when_they_hold_too_much() -> None:
    snapshots: Snapshots[Read] = Snapshots(100, 1_000)
    for key, weight in (("a", 400), ("b", 500), ("c", 300)):
        await _add(snapshots, key, weight)
    assert [snapshots.get(key) is not None for key in "abc"] == [False, True, True]
    await _add(snapshots, "too much", 1_001)
    assert snapshots.get("too much") is None
    await _add(snapshots, "d", 1_000)
    assert snapshots.get("d")


async def test_a_reading_that_failed_is_made_again() -> None:
    snapshots: Snapshots[Read] = Snapshots(2, 1_000)
    failed: asyncio.Future[Read] = asyncio.get_running_loop().create_future()
    cancelled: asyncio.Future[Read] = asyncio.get_running_loop().create_future()
    snapshots.add("failed", failed)
    snapshots.add("cancelled", cancelled)
    failed.set_exception(OSError("away"))
    cancelled.cancel()
    await asyncio.sleep(0)
    assert snapshots.get("failed") is None
    assert snapshots.get("cancelled") is None
