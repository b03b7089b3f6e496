"""Stores what attempts log while they run, and what nobody records.

The lines of a short attempt go into the transaction that records its step and cost nothing.
Here go those that are older than that, and those of attempts that were stopped or lost their
claim. All attempts of the worker share one write. A line stays in memory until the database
has it, within the bounds of its attempt and of this module; it has its id from the start, so
that a write whose answer got lost can be sent again.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress

import structlog

from shared.errors import FlowManagerError
from shared.settings import Settings
from shared.store.logs import LoggedLine, add_lines
from shared.writer import Writer
from worker.capture import CaptureHandler

_log = structlog.get_logger(__name__)

_MAX_BATCH = 2_000
"""Lines of one write: some 50 ms on SQLite, for which steps wait."""
_MAX_KEPT = 20_000
"""Lines of attempts that are over, for which the database has been away. Later ones are
dropped: a worker must not fill its memory with what is only shown."""
_LAST_SECONDS = 1.0
"""What the last flush may take: a worker that stops is waited for."""


class Journal:
    """The lines of one worker that are not recorded with a step."""

    def __init__(self, captured: CaptureHandler, writer: Writer, settings: Settings) -> None:
        self._captured = captured
        self._writer = writer
        self._pause_seconds = settings.log_flush_seconds / 2
        self._kept: list[LoggedLine] = []
        """Lines that nobody else has, until they are stored."""
        self._failures = 0

    def keep(self, lines: Sequence[LoggedLine]) -> None:
        """Take lines over from an attempt that will not be recorded."""
        room = max(0, _MAX_KEPT - len(self._kept))
        self._kept.extend(lines[:room])
        if len(lines) > room:
            _log.warning("log_lines_dropped", lines=len(lines) - room, limit=_MAX_KEPT)

    async def flush_for_ever(self) -> None:
        """Store lines before they are older than the setting says.

        Twice in that time, each time what has waited for half of it: so an attempt that is
        over sooner never has a line stored apart.
        """
        while True:
            await asyncio.sleep(self._pause_seconds)
            await self.flush(waited_seconds=self._pause_seconds)

    async def flush(self, waited_seconds: float) -> None:
        """Store what was kept, and the lines of attempts that run, where the oldest one has
        waited for so long. What the database does not take waits for the next time."""
        before = time.monotonic() - waited_seconds
        while True:
            # What runs keeps its lines to itself while older ones wait: there they are bounded.
            room = _MAX_BATCH - len(self._kept)
            if room > 0:
                self._kept += self._captured.take(before, room)
            batch = self._kept[:_MAX_BATCH]
            if not batch or not await self._store(batch):
                return
            del self._kept[: len(batch)]

    async def close(self) -> None:
        """Store all that is left, if the database takes it now."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_SECONDS):
                await self.flush(waited_seconds=0)
        if self._kept:
            _log.warning("log_lines_lost", lines=len(self._kept))

    async def _store(self, batch: list[LoggedLine]) -> bool:
        """Whether ``batch`` is done with."""
        try:
            await self._writer.call(add_lines, batch)
        except FlowManagerError as error:
            self._failures += 1
            if self._failures == 1:
                _log.warning("log_lines_delayed", error=str(error))
            return False
        except Exception:  # noqa: BLE001  # the border of one loop of upkeep
            # What is only shown must not end a worker.
            _log.exception("log_lines_refused", lines=len(batch))
            return True
        self._failures = 0
        return True
