"""The figures of the whole installation, counted at most every two seconds.

Counting looks at every stored run, which may be millions: many readers share one count.
"""

import asyncio
import time
from datetime import UTC, datetime, timedelta

from api.reading import Reader
from api.representations import statistics
from shared.lease_clock import LeaseClock
from shared.queries import workers

WINDOW_SECONDS = 60.0
"""Throughput and latencies are those of the last minute."""
_MAX_AGE_SECONDS = 2.0


class Statistics:
    """The answer of ``GET /stats``."""

    def __init__(self, reader: Reader, clock: LeaseClock) -> None:
        self._reader = reader
        self._clock = clock
        self._content = b""
        self._counted_at = -_MAX_AGE_SECONDS
        self._counting = asyncio.Lock()

    async def content(self) -> bytes:
        """The figures as JSON.

        Raises:
            DatabaseUnavailable: where nothing can be counted.
        """
        asked_at = time.monotonic()
        async with self._counting:
            if self._counted_at <= asked_at - _MAX_AGE_SECONDS:
                since = datetime.now(UTC) - timedelta(seconds=WINDOW_SECONDS)
                stats = await self._reader.call(workers.stats, since)
                self._content = statistics(stats, WINDOW_SECONDS, self._clock.now())
                self._counted_at = time.monotonic()
        return self._content
