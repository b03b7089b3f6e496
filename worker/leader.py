"""The upkeep that one worker at a time does for all: rescue, wake, prune.

Each round is one transaction under the leader's lease. Together with the workers' own sweeps
it covers a crash between commit and ring, a flushed Redis, killed workers and lost timers.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy import Connection

from shared.errors import FlowManagerError
from shared.events import Publisher
from shared.ids import BranchId, FlowRunId, WorkerId
from shared.lease_clock import LeaseClock
from shared.queue import Ringer
from shared.settings import Settings
from shared.store import upkeep, workers
from shared.store.freeing import rescue_branches
from shared.writer import Writer

_log = structlog.get_logger(__name__)

_ROUNDS_A_SWEEP = 2
"""So that a rescue comes a lease and at most half a second after the last heartbeat: with the
defaults under five seconds, even on a busy machine."""
_PRUNE_EVERY_ROUNDS = 120
_KEEP_WORKERS = timedelta(days=1)
"""How long a worker that ended stays in the list."""


@dataclass(frozen=True, slots=True)
class Round:
    """One look around."""

    worker_id: WorkerId
    lease_now: float
    settings: Settings
    prunes: bool


@dataclass(slots=True)
class Report:
    """What a round did."""

    is_leading: bool = False
    lost: list[WorkerId] = field(default_factory=list)
    rescued: list[BranchId] = field(default_factory=list)
    woken: list[BranchId] = field(default_factory=list)
    failed: list[FlowRunId] = field(default_factory=list)
    pruned: int = 0


def look_around(connection: Connection, items: Sequence[Round]) -> list[Report]:
    """Do one round of upkeep for whoever leads."""
    return [_look_around(connection, item) for item in items]


def _look_around(connection: Connection, item: Round) -> Report:
    settings, report = item.settings, Report()
    lease = settings.lease_seconds
    report.is_leading = workers.try_lead(connection, item.worker_id, item.lease_now, lease)
    if not report.is_leading:
        return report
    report.lost = workers.declare_lost(connection, item.lease_now, lease)
    if report.lost:
        rescued = rescue_branches(connection, report.lost, item.lease_now)
        report.rescued = [r.branch_id for r in rescued if r.losses < settings.max_losses]
    report.failed = upkeep.give_up(connection, settings.max_losses)
    report.failed += upkeep.fail_overdue(connection)
    report.woken = upkeep.wake_due(connection, item.lease_now)
    if item.prunes:
        now = datetime.now(UTC)
        workers.forget_workers(connection, now - _KEEP_WORKERS)
        if settings.retention_days:
            before = now - timedelta(days=settings.retention_days)
            report.pruned = upkeep.prune_runs(connection, before)
            if not report.pruned:
                upkeep.prune_definitions(connection, before)
    return report


class Leader:
    """Tries to lead, and does the upkeep while it does."""

    def __init__(
        self,
        worker_id: WorkerId,
        writer: Writer,
        clock: LeaseClock,
        settings: Settings,
        ringer: Ringer,
        publisher: Publisher,
    ) -> None:
        self._worker_id = worker_id
        self._writer = writer
        self._clock = clock
        self._settings = settings
        self._ringer = ringer
        self._publisher = publisher
        self._is_leading = False
        self.peers = 1

    @property
    def is_leading(self) -> bool:
        """Whether it led at its last look around."""
        return self._is_leading

    async def lead_for_ever(self) -> None:
        """Look around twice a sweep."""
        rounds, behind = 0, False
        while True:
            # While there is more to prune than one round does, every round prunes.
            prunes = behind or rounds % _PRUNE_EVERY_ROUNDS == 0
            report = await self._round(prunes=prunes)
            behind = report.pruned > 0
            rounds += 1
            await asyncio.sleep(self._settings.sweep_seconds / _ROUNDS_A_SWEEP)

    async def _round(self, *, prunes: bool) -> Report:
        item = Round(self._worker_id, self._clock.now(), self._settings, prunes)
        try:
            report = await self._writer.call(look_around, item)
        except FlowManagerError as error:
            _log.warning("upkeep_failed", error=str(error))
            return Report()
        if report.is_leading and not self._is_leading:
            _log.info("leading", worker_id=self._worker_id)
        self._is_leading = report.is_leading
        if report.lost:
            _log.warning("workers_lost", workers=report.lost, branches=len(report.rescued))
        ready = report.rescued + report.woken
        if ready:
            self._ringer.ring(ready, chunks=self.peers)
        self._publisher.run_ended(report.failed)
        self._publisher.cancelled(report.failed)
        return report
