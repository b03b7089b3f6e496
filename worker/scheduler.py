"""The scheduler: starts the runs of schedules, on the worker that leads.

It reads and judges on a thread of its own and writes through the worker's writer: a long look
holds up neither the upkeep nor a task. Who is deposed meanwhile writes nothing, because its
successor has counted up the revisions of what it looked at.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from shared.database import Database
from shared.errors import DatabaseUnavailable, FlowManagerError
from shared.events import Publisher
from shared.lease_clock import LeaseClock
from shared.queries.schedules import DueSchedule, due_schedules
from shared.queue import Ringer
from shared.store.runs import CreatedRun
from shared.store.scheduled_starts import Verdict, carry_out
from shared.writer import Writer
from worker.scheduled_runs import ScheduledRuns, broken, without_run

_log = structlog.get_logger(__name__)

BATCH = 100
"""Schedules of one look; where there are more, the next look comes at once."""


class Scheduler:
    """Looks for schedules that are due while ``leads`` says so."""

    def __init__(
        self,
        database: Database,
        writer: Writer,
        clock: LeaseClock,
        ringer: Ringer,
        publisher: Publisher,
        leads: Callable[[], bool],
    ) -> None:
        self._database = database
        self._writer = writer
        self._clock = clock
        self._ringer = ringer
        self._publisher = publisher
        self._leads = leads
        self._runs = ScheduledRuns()

    async def schedule_for_ever(self, pause_seconds: float) -> None:
        """Look around every so many seconds."""
        while True:
            looked_at = await self.look_around() if self._leads() else 0
            if looked_at < BATCH:
                await asyncio.sleep(pause_seconds)

    async def look_around(self) -> int:
        """Deal with the schedules that are due; how many there were, at most :data:`BATCH`."""
        try:
            verdicts = await asyncio.to_thread(self._judge_due)
        except (FlowManagerError, SQLAlchemyError) as error:
            _log.warning("schedules_unread", error=str(error))
            return 0
        created = await asyncio.gather(*(self._carry_out(verdict) for verdict in verdicts))
        queues = {
            one.branch_id: verdict.run.start_queue
            for verdict, one in zip(verdicts, created, strict=True)
            if verdict.run is not None and one is not None and one.branch_id is not None
        }
        if queues:
            self._ringer.ring(list(queues), queues=queues)
        return len(verdicts)

    def _judge_due(self) -> list[Verdict]:
        now = datetime.now(UTC)
        with self._database.read() as connection:
            due = due_schedules(connection, now, BATCH)
            return [self._judge(connection, one, now) for one in due]

    def _judge(self, connection: Connection, due: DueSchedule, now: datetime) -> Verdict:
        try:
            return self._runs.judge(connection, due, now, self._clock.now())
        except (DatabaseUnavailable, SQLAlchemyError):
            # The look itself came to nothing.
            raise
        except Exception as error:  # noqa: BLE001  # one schedule must not stop the others
            _log.error("schedule_broken", schedule_id=due.row.id, exc_info=error)
            return broken(due.row, now, error)

    async def _carry_out(self, verdict: Verdict) -> CreatedRun | None:
        try:
            return await self._write(verdict)
        except Exception as error:  # noqa: BLE001  # one schedule must not stop the others
            _log.error("schedule_broken", schedule_id=verdict.schedule_id, exc_info=error)
            failed = without_run(verdict, error)
        try:
            return await self._write(failed)
        except Exception as error:  # noqa: BLE001  # the same; it is looked at again
            _log.error("schedule_broken", schedule_id=verdict.schedule_id, exc_info=error)
            return None

    async def _write(self, verdict: Verdict) -> CreatedRun | None:
        try:
            created = await self._writer.call(carry_out, verdict)
        except FlowManagerError as error:
            # Nothing was written: the next look finds it as it was.
            _log.warning("schedule_not_written", schedule_id=verdict.schedule_id, error=str(error))
            return None
        if verdict.error is not None:
            _log.warning(
                "schedule_start_failed", schedule_id=verdict.schedule_id, error=verdict.error
            )
        elif created is not None:
            self._tell(verdict.schedule_id, created)
        return created

    def _tell(self, schedule_id: str, created: CreatedRun) -> None:
        if created.refused_for is not None:
            _log.warning(
                "schedule_start_refused",
                schedule_id=schedule_id,
                flow_run_id=created.refused_for,
            )
            return
        _log.info("schedule_started", schedule_id=schedule_id, flow_run_id=created.flow_run_id)
        if created.cancelled:
            self._publisher.cancelled(created.cancelled)
            self._publisher.run_ended(created.cancelled)
