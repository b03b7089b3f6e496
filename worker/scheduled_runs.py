"""From a schedule that is due to a verdict: is a run to be started, and which one?

When it starts is decided by ``shared.cron``; here is what it takes beside that: the definition
as it is stored now, and whether the input fits it. A start that comes to nothing is dealt with
all the same: its tick does not come again, and the schedule says why.
"""

from collections import OrderedDict
from dataclasses import replace
from datetime import datetime, timedelta

import orjson
from sqlalchemy import Connection

from shared.cron import StartDecision, decide_starts, next_tick, start_key
from shared.definition import FlowDefinition
from shared.errors import Conflict, ExpressionError
from shared.input_schema import check_input
from shared.queries.definitions import get_version
from shared.queries.rows import AnyRow
from shared.queries.schedules import DueSchedule, input_of_schedule, timing_of
from shared.store.new_runs import RunnableDefinition, Start, limit_of, new_run, runnable
from shared.store.runs import NewRun
from shared.store.scheduled_starts import LeftOut, Verdict

WAITING_LOOK = timedelta(seconds=1)
"""How often the end of the run is looked for that a start waits for."""
BROKEN_LOOK = timedelta(minutes=1)
"""When a schedule that cannot be judged is looked at again."""
_MAX_KEPT_BYTES = 20_000_000
"""Definitions that are kept, together: two of the largest, or thousands of usual ones."""
_MAX_ERROR = 1_000
_MAX_TOLD = 3


class StartRefusedError(Conflict):
    """The run cannot be started; the message says why."""


class ScheduledRuns:
    """Judges due schedules. Used by one thread at a time."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, RunnableDefinition] = OrderedDict()
        self._kept_bytes = 0

    def judge(
        self, connection: Connection, due: DueSchedule, now: datetime, ready_at: float
    ) -> Verdict:
        """What is to be done about a schedule at ``now``; ``ready_at`` is lease time."""
        row = due.row
        timing = timing_of(row)
        decision = decide_starts(
            timing,
            last_tick=row.last_tick,
            now=now,
            overlap=row.overlap,
            is_running=due.is_running,
            paused=row.paused,
            catch_up=row.catch_up,
            waiting=row.waiting,
        )
        run, error = None, None
        if decision.start is not None:
            try:
                run = self._run(connection, row, decision.start, now, ready_at)
            except StartRefusedError as refusal:
                error = str(refusal)[:_MAX_ERROR]
        following = next_tick(timing, max(decision.last_tick, now))
        return Verdict(
            schedule_id=row.id,
            revision=row.revision,
            at=now,
            last_tick=decision.last_tick,
            waiting=decision.waiting,
            next_tick=following,
            look_at=_look_at(decision, following, now),
            start=decision.start,
            run=run,
            error=error,
            left_out=_left_out(decision),
        )

    def _run(
        self, connection: Connection, row: AnyRow, tick: datetime, now: datetime, ready_at: float
    ) -> NewRun:
        known = self._find(connection, row.flow_id, row.version)
        input_json = input_of_schedule(connection, row.id)
        given = orjson.loads(input_json)
        wrong = check_input(known.input_schema, given, _MAX_TOLD)
        if wrong:
            told = "; ".join(f"{one.pointer}: {one.message}" for one in wrong)
            raise StartRefusedError(f"the input does not fit the flow: {told}")
        try:
            limit = limit_of(known, given)
        except ExpressionError as error:
            raise StartRefusedError(f"the key of its concurrency: {error.message}") from None
        key = start_key(row.id, tick)
        start = Start(
            input_json=input_json,
            at=now,
            lease_now=ready_at,
            idempotency_key=key,
            request_hash=key,
            schedule_id=row.id,
            limit=limit,
        )
        return new_run(known, start)

    def _find(
        self, connection: Connection, flow_id: str, version: int | None
    ) -> RunnableDefinition:
        stored = get_version(connection, flow_id, version)
        if stored is None:
            told = "" if version is None else f" in version {version}"
            raise StartRefusedError(f"no flow {flow_id!r} is stored{told}")
        known = self._known.get(stored.hash)
        if known is not None:
            self._known.move_to_end(known.hash)
            return known
        try:
            definition = FlowDefinition.model_validate_json(stored.definition)
        except ValueError as error:
            # Stored by a version of the service that knows more fields than this one.
            raise StartRefusedError("this worker cannot read the stored definition") from error
        known = runnable(definition, stored.hash, stored.definition)
        self._keep(known)
        return known

    def _keep(self, known: RunnableDefinition) -> None:
        self._known[known.hash] = known
        self._kept_bytes += len(known.json)
        while self._kept_bytes > _MAX_KEPT_BYTES and len(self._known) > 1:
            _, oldest = self._known.popitem(last=False)
            self._kept_bytes -= len(oldest.json)


def broken(row: AnyRow, now: datetime, error: Exception) -> Verdict:
    """The verdict about a schedule that nobody could make: it is left as it is for a while."""
    return Verdict(
        schedule_id=row.id,
        revision=row.revision,
        at=now,
        last_tick=row.last_tick,
        waiting=row.waiting,
        next_tick=row.next_tick,
        look_at=now + BROKEN_LOOK,
        error=f"it cannot be judged: {type(error).__name__}: {error}"[:_MAX_ERROR],
    )


def without_run(verdict: Verdict, error: Exception) -> Verdict:
    """The verdict about a start that could not be written: its tick does not come again."""
    told = f"it cannot be written: {type(error).__name__}: {error}"[:_MAX_ERROR]
    return replace(verdict, run=None, error=told, look_at=verdict.at + BROKEN_LOOK)


def _look_at(decision: StartDecision, following: datetime | None, now: datetime) -> datetime | None:
    if decision.waiting is None:
        return following
    soon = now + WAITING_LOOK
    return soon if following is None else min(soon, following)


def _left_out(decision: StartDecision) -> LeftOut | None:
    if decision.left_out is None:
        return None
    return LeftOut(decision.last_tick, decision.left_out)
