"""Sees to it that whoever waits under a rate starts when it may, and not a round later.

Part of what the leader does: between two rounds of its upkeep it wakes for the starts that only
time holds back. It also looks for places that nobody gives back, a page of them a round.
"""

import asyncio

import structlog

from shared.errors import FlowManagerError
from shared.store.limit_upkeep import LimitReport, LimitRound, tend_limits
from shared.writer import Writer

_log = structlog.get_logger(__name__)

_LEAST_PAUSE_SECONDS = 0.01
"""Between two looks: what falls due together is called together."""


class Turns:
    """Calls who is next, for all keys."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._after: str | None = None

    async def call_for(self, seconds: float) -> None:
        """Call whoever falls due within the next seconds."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        report = await self._look(looks_at_places=True)
        while (left := until - loop.time()) > 0:
            due = report.next_in_seconds
            if due is None or due >= left:
                await asyncio.sleep(left)
                return
            await asyncio.sleep(max(due, _LEAST_PAUSE_SECONDS))
            report = await self._look(looks_at_places=False)

    async def _look(self, *, looks_at_places: bool) -> LimitReport:
        item = LimitRound(looks_at_places, self._after)
        try:
            report = await self._writer.call(tend_limits, item)
        except FlowManagerError as error:
            _log.warning("limits_not_tended", error=str(error))
            return LimitReport(None, self._after)
        if looks_at_places:
            self._after = report.after
        if report.given_back:
            _log.warning("places_given_back", places=report.given_back)
        return report
