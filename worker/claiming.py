"""Gets branches for the runner: those it was rung for, and those whose ring was lost.

Rung branches that find room are claimed at once, many at a time. Those that do not wait in a
short backlog, and from then on the order of the rings counts no more: with every slot that is
freed the worker claims what goes first of all that is ready, by priority and then by age,
wherever it was rung for. So what is urgent overtakes all that was rung before it, also what
still waits in Redis.

Once a sweep the worker also claims by itself what has been ready for a while, in the same
order: so nothing depends on Redis but latency.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress

import structlog

from shared.errors import FlowManagerError
from shared.ids import BranchId
from shared.lease_clock import LeaseClock
from shared.settings import Settings
from shared.store.branches import Claim, claim_branches
from shared.writer import Writer
from worker.runner import Runner

_log = structlog.get_logger(__name__)

_BACKLOG_FACTOR = 10
"""Rung branches kept for later, in multiples of the concurrency. Others find them by their
sweeps, so a worker that is busy for long keeps nothing from them."""
_LATE_SECONDS = 1.0
"""A branch that has been ready for so long was not rung for, or nobody had room."""


class Claimer:
    """Claims for one runner."""

    def __init__(
        self, runner: Runner, writer: Writer, clock: LeaseClock, settings: Settings
    ) -> None:
        self._runner = runner
        self._writer = writer
        self._clock = clock
        self._settings = settings
        self._backlog: OrderedDict[BranchId, int] = OrderedDict()
        """Branches that were rung for, with the round in which they were."""
        self._round = 0
        self._is_backed_up = False
        """Whether branches had to wait for room, and perhaps still do."""
        self._suspects_rung = asyncio.Event()
        """Set when there was a ring for what may be a suspect."""
        self._is_stopping = False
        self._failures = 0

    @property
    def room(self) -> int:
        """How many more branch ids may be handed over."""
        if self._is_stopping:
            return 0
        most = self._settings.worker_concurrency * _BACKLOG_FACTOR
        return self._runner.room + max(0, most - len(self._backlog))

    def stop(self) -> None:
        """Claim nothing more."""
        self._is_stopping = True
        self._backlog.clear()

    async def hand_over(self, branch_ids: Sequence[str]) -> None:
        """Take note of branches that somebody rang for."""
        if not self._is_stopping:
            self._backlog.update((BranchId(branch_id), self._round) for branch_id in branch_ids)
            self._is_backed_up |= len(self._backlog) > self._runner.room
            self._runner.slot_freed.set()

    async def claim_for_ever(self) -> None:
        """Claim from the backlog whenever there is room."""
        while True:
            await self._runner.slot_freed.wait()
            self._runner.slot_freed.clear()
            while self._backlog and self._runner.room and not self._is_stopping:
                if self._is_backed_up or len(self._backlog) > self._runner.room:
                    await self._claim_best()
                else:
                    ids = tuple(self._backlog)
                    self._backlog.clear()
                    claimed = await self._claim(self._wish(len(ids), ids))
                    if claimed is not None and len(claimed) < len(ids):
                        # Others have the rest, or it is what nobody runs beside anything else.
                        self._suspects_rung.set()

    async def _claim_best(self) -> None:
        """Claim what goes first of all that is ready, as the backlog says that there is more."""
        self._round += 1
        wanted = min(self._runner.room, len(self._backlog))
        claimed = await self._claim(self._wish(wanted, None, self._soon()))
        if claimed is not None:
            for branch_id in claimed:
                self._backlog.pop(branch_id, None)
            if len(claimed) < wanted:
                # All that was rung for before is taken, by us or by others.
                later = {i: rung for i, rung in self._backlog.items() if rung == self._round}
                self._backlog = OrderedDict(later)
        self._is_backed_up = bool(self._backlog)

    async def sweep_for_ever(self) -> None:
        """Claim what is late, once a sweep."""
        while True:
            await asyncio.sleep(self._settings.sweep_seconds)
            now = self._clock.now()
            if self._runner.room:
                await self._claim(self._wish(self._runner.room, None, now))

    async def try_suspects_for_ever(self) -> None:
        """Claim what has cost other workers their lives, one after another.

        The next one follows at once: where workers die for reasons of their own, there are many.
        """
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.sweep_seconds):
                    await self._suspects_rung.wait()
            self._suspects_rung.clear()
            while self._runner.room:
                self._runner.suspect_over.clear()
                # However short: no ring gets them, so there is nothing to wait for.
                wish = self._wish(1, None, self._soon(), suspects=True)
                if not await self._claim(wish):
                    break
                await self._runner.suspect_over.wait()

    def _soon(self) -> float:
        """For a wish that takes what is ready, however short it has been."""
        return self._clock.now() + 2 * _LATE_SECONDS

    def _wish(
        self,
        limit: int,
        branch_ids: tuple[BranchId, ...] | None,
        now: float | None = None,
        *,
        suspects: bool = False,
    ) -> Claim:
        return Claim(
            worker_id=self._runner.worker_id,
            queues=self._settings.worker_queues,
            task_types=self._runner.task_types,
            limit=limit,
            max_losses=self._settings.max_losses,
            branch_ids=branch_ids,
            ready_before=None if now is None else now - _LATE_SECONDS,
            ready_after=None if now is None else now + _LATE_SECONDS,
            suspects=suspects,
        )

    async def _claim(self, claim: Claim) -> list[BranchId] | None:
        """Claim and run; the branches that it were, or None where the claim failed."""
        if not claim.task_types:
            return []
        try:
            claimed = await self._writer.call(claim_branches, claim)
        except FlowManagerError as error:
            self._failures += 1
            if self._failures == 1:
                _log.warning("claim_failed", error=str(error))
            await asyncio.sleep(0.1)
            return None
        if self._failures:
            _log.info("claims_again", failed=self._failures)
            self._failures = 0
        self._runner.start(claimed, suspects=claim.suspects)
        return [one.visit.branch_id for one in claimed]
