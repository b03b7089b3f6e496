"""What was read of runs last, for the branches of the same fork: bounded in number and bytes."""

import asyncio
from collections import OrderedDict
from functools import partial
from typing import Generic, Protocol, TypeVar


class _Weighed(Protocol):
    @property
    def weight(self) -> int:
        """Bytes, roughly."""
        ...


T = TypeVar("T", bound=_Weighed)


class Snapshots(Generic[T]):
    """Readings by key. One that is under way is kept, one that failed is not; of the others the
    oldest go as soon as there are too many, or too much in them."""

    def __init__(self, max_count: int, max_bytes: int) -> None:
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._readings: dict[object, asyncio.Future[T]] = {}
        self._weights: OrderedDict[object, int] = OrderedDict()
        self._bytes = 0

    def get(self, key: object) -> asyncio.Future[T] | None:
        """The reading of that key."""
        return self._readings.get(key)

    def add(self, key: object, reading: asyncio.Future[T]) -> None:
        """Keep a reading that has just begun."""
        self._readings[key] = reading
        reading.add_done_callback(partial(self._weigh, key))

    def _weigh(self, key: object, reading: asyncio.Future[T]) -> None:
        if reading.cancelled() or reading.exception() is not None:
            del self._readings[key]
            return
        self._weights[key] = reading.result().weight
        self._bytes += self._weights[key]
        while len(self._weights) > self._max_count or self._bytes > self._max_bytes:
            oldest, weight = self._weights.popitem(last=False)
            self._bytes -= weight
            del self._readings[oldest]
