"""The upkeep that one worker at a time does for all: rescue, wake, prune.

Each round is one transaction under the leader's lease. Together with the workers' own sweeps
it covers a crash between commit and ring, a flushed Redis, killed workers and lost timers.
"""

import asyncio
import math
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
from shared.store.branches import queues_of
from shared.store.freeing import free_stray, rescue_branches
from shared.store.parents import wake_parents
from shared.store.sub_flows import cancel_abandoned
from shared.store.undoing import Begun
from shared.writer import Writer
from worker.turns import Turns

_log = structlog.get_logger(__name__)

_ROUNDS_A_SWEEP = 2
"""So that a rescue comes a lease and at most half a second after the last heartbeat: with the
defaults under five seconds, even on a busy machine."""
_LEADS_FOR_ROUNDS = 3
"""After so many rounds without a leader another one takes the lead. Sooner than a lease: who died
just before or after its leader would otherwise be missed only when the leader is. Two that
believe to lead do no harm, as every round is one transaction."""
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
    declares: bool = True
    """Whether the silence of a worker says something about that worker."""


@dataclass(slots=True)
class Report:
    """What a round did."""

    is_leading: bool = False
    lost: list[WorkerId] = field(default_factory=list)
    rescued: list[BranchId] = field(default_factory=list)
    woken: list[BranchId] = field(default_factory=list)
    failed: list[FlowRunId] = field(default_factory=list)
    cancelled: list[FlowRunId] = field(default_factory=list)
    """Runs of sub-flows that nobody waits for any more."""
    stopped: list[FlowRunId] = field(default_factory=list)
    """Runs that would have failed, and undo first what they did."""
    begun: list[BranchId] = field(default_factory=list)
    """The branches that do it."""
    pruned: int = 0
    queues: dict[BranchId, str] = field(default_factory=dict)
    """Of the rescued and woken branches those that do not wait in the default queue."""


def look_around(connection: Connection, items: Sequence[Round]) -> list[Report]:
    """Do one round of upkeep for whoever leads."""
    return [_look_around(connection, item) for item in items]


def _look_around(connection: Connection, item: Round) -> Report:
    settings, report = item.settings, Report()
    lease = settings.lease_seconds
    report.is_leading = _try_lead(connection, item)
    if not report.is_leading:
        return report
    if item.declares:
        report.lost = workers.declare_lost(connection, item.lease_now, lease)
    if report.lost:
        rescued = rescue_branches(connection, report.lost, item.lease_now)
        report.rescued = [r.branch_id for r in rescued if r.losses < settings.max_losses]
    stray = free_stray(connection, item.lease_now)
    report.rescued += [r.branch_id for r in stray if r.losses < settings.max_losses]
    begun = Begun(item.lease_now)
    report.failed = upkeep.give_up(connection, settings.max_losses, begun)
    report.failed += upkeep.fail_overdue(connection, begun)
    report.stopped, report.begun = begun.runs, begun.ready
    report.woken = upkeep.wake_due(connection, item.lease_now)
    report.woken += wake_parents(connection, report.failed, item.lease_now)
    abandoned = cancel_abandoned(connection, datetime.now(UTC), item.lease_now)
    report.cancelled = abandoned.cancelled
    report.stopped += abandoned.ending
    report.begun += abandoned.ready
    report.queues = queues_of(connection, report.rescued + report.woken + report.begun)
    if item.prunes:
        now = datetime.now(UTC)
        workers.forget_workers(connection, now - _KEEP_WORKERS)
        if settings.retention_days:
            before = now - timedelta(days=settings.retention_days)
            report.pruned = upkeep.prune_runs(connection, before)
            if not report.pruned:
                upkeep.prune_definitions(connection, before)
    return report


def _try_lead(connection: Connection, item: Round) -> bool:
    settings = item.settings
    rounds = _LEADS_FOR_ROUNDS * settings.sweep_seconds / _ROUNDS_A_SWEEP
    leads_for = min(settings.lease_seconds, rounds)
    return workers.try_lead(connection, item.worker_id, item.lease_now, leads_for)


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
        self._turns = Turns(writer)
        self._is_leading = False
        self._looked_at: float | None = None
        """Lease time of the last round that went well."""
        self._declares_from = -math.inf
        """Lease time from which on silence counts."""
        self._failures = 0
        self.peers = 1

    @property
    def is_leading(self) -> bool:
        """Whether it did the last round of upkeep."""
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
            pause = self._settings.sweep_seconds / _ROUNDS_A_SWEEP
            await (self._turns.call_for(pause) if self._is_leading else asyncio.sleep(pause))

    async def _round(self, *, prunes: bool) -> Report:
        now = self._clock.now()
        self._notice_gap(now)
        declares = now >= self._declares_from
        item = Round(self._worker_id, now, self._settings, prunes, declares)
        try:
            report = await self._writer.call(look_around, item)
        except FlowManagerError as error:
            self._failures += 1
            if self._failures == 1:
                _log.warning("upkeep_failed", error=str(error))
            return Report()
        if self._failures:
            _log.info("upkeep_again", failed=self._failures)
            self._failures = 0
        self._looked_at = now
        if report.is_leading and not self._is_leading:
            _log.info("leading", worker_id=self._worker_id)
        self._is_leading = report.is_leading
        if report.lost:
            _log.warning("workers_lost", workers=report.lost, branches=len(report.rescued))
        ready = report.rescued + report.woken + report.begun
        if ready:
            self._ringer.ring(ready, chunks=self.peers, queues=report.queues)
        ended = report.failed + report.cancelled
        self._publisher.run_ended(ended)
        self._publisher.cancelled(ended + report.stopped)
        return report

    def _notice_gap(self, now: float) -> None:
        """After a time in which we could not look, nobody else could beat either: let everybody
        be heard again before the silent ones count as lost."""
        lease = self._settings.lease_seconds
        if self._looked_at is not None and now - self._looked_at > lease / 2:
            self._declares_from = now + lease
