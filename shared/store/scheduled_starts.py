"""The starts of schedules: each exactly once, with its run in one transaction.

Three things stand in the way of a second start. A verdict is carried out only where the
schedule still is at the revision that it was made by; the tick is dealt with in the transaction
that creates its run; and the run's idempotency key is the tick.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, update

from shared.models_schedules import ScheduleRow
from shared.store.runs import CreatedRun, NewRun, create_runs
from shared.writer import apart

schedules = ScheduleRow.__table__


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A tick that gets no start."""

    tick: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the leader has decided about a schedule."""

    schedule_id: str
    revision: int
    """Of the schedule when it was decided."""
    at: datetime
    last_tick: datetime
    waiting: datetime | None
    next_tick: datetime | None
    look_at: datetime | None
    start: datetime | None = None
    """The tick that is started now."""
    run: NewRun | None = None
    """None where there is no start, or where it came to nothing."""
    error: str | None = None
    """Why it came to nothing."""
    left_out: LeftOut | None = None


@dataclass(frozen=True, slots=True)
class Trigger:
    """A start by hand."""

    schedule_id: str
    run: NewRun


@apart
def carry_out(connection: Connection, items: Sequence[Verdict]) -> list[CreatedRun | None]:
    """Write verdicts and create their runs; None where there is none, or the schedule has changed.

    In the order of their ids, so that two leaders cannot wait for each other in turn.
    """
    in_order = sorted(range(len(items)), key=lambda place: items[place].schedule_id)
    written = {place for place in in_order if _write(connection, items[place])}
    runs = {place: items[place].run for place in sorted(written)}
    starts = {place: run for place, run in runs.items() if run is not None}
    created = dict(zip(starts, create_runs(connection, list(starts.values())), strict=True))
    for place, one in created.items():
        item = items[place]
        _note_start(connection, item.schedule_id, item.start, item.at, one)
    return [created.get(place) for place in range(len(items))]


@apart
def trigger_schedules(connection: Connection, items: Sequence[Trigger]) -> list[CreatedRun | None]:
    """Start runs of schedules now, whatever their ticks are; None for an unknown schedule."""
    return [_trigger(connection, item) for item in items]


def _trigger(connection: Connection, item: Trigger) -> CreatedRun | None:
    known = connection.execute(
        update(schedules)
        .where(schedules.c.id == item.schedule_id)
        .values(revision=schedules.c.revision + 1)
    )
    if known.rowcount == 0:
        return None
    (created,) = create_runs(connection, [item.run])
    if not created.replayed:
        _note_start(connection, item.schedule_id, None, item.run.created_at, created)
    return created


def _write(connection: Connection, item: Verdict) -> bool:
    values: dict[str, object] = {
        "revision": item.revision + 1,
        "last_tick": item.last_tick,
        "waiting": item.waiting,
        "next_tick": item.next_tick,
        "look_at": item.look_at,
    }
    if item.error is not None:
        values |= {"error": item.error, "error_at": item.at}
    if item.left_out is not None:
        values |= {"left_out_tick": item.left_out.tick, "left_out_reason": item.left_out.reason}
    written = connection.execute(
        update(schedules)
        .where(schedules.c.id == item.schedule_id, schedules.c.revision == item.revision)
        .values(**values)
    )
    return written.rowcount == 1


def _note_start(
    connection: Connection,
    schedule_id: str,
    tick: datetime | None,
    at: datetime,
    created: CreatedRun,
) -> None:
    """Write down what a start came to: its run, also one that its key had made before, or that
    the flow's ``concurrency`` refused it."""
    if created.refused_for is not None:
        error = f"the flow refuses another run while {created.refused_for} goes on"
        values: dict[str, object] = {"error": error, "error_at": at}
    else:
        values = {
            "started_tick": tick,
            "started_at": at,
            "run_id": created.flow_run_id,
            "error": None,
            "error_at": None,
        }
    connection.execute(update(schedules).where(schedules.c.id == schedule_id).values(**values))
