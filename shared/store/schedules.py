"""Schedules: make, change, pause and delete them.

What the leader writes of them is in ``shared.store.scheduled_starts``. Every change counts the
revision up, so that a decision that was made before it is not carried out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from shared.cron import EPOCH, Cron, OverlapPolicy, Schedule, next_tick
from shared.models_schedules import ScheduleRow, timing
from shared.statements import Row

schedules = ScheduleRow.__table__


@dataclass(frozen=True, slots=True)
class NewSchedule:
    """A schedule as somebody wants it, found to be good."""

    id: str
    flow_id: str
    version: int | None
    input: bytes
    """JSON."""
    timing: Schedule
    overlap: OverlapPolicy
    catch_up: bool
    paused: bool | None
    """None: as it is, and not for a new one."""
    at: datetime


@dataclass(frozen=True, slots=True)
class Pause:
    """A schedule that is to be paused, or to go on."""

    id: str
    paused: bool
    at: datetime


def create_schedules(connection: Connection, items: Sequence[NewSchedule]) -> list[bool]:
    """Make schedules; False for an id that is taken."""
    return [_create(connection, item) for item in items]


def put_schedules(connection: Connection, items: Sequence[NewSchedule]) -> list[bool]:
    """Make schedules, or change those that are there; whether each is a new one.

    Where its ticks stay the same, a changed schedule goes on from the last one; where they do
    not, it begins anew, as a new one does: with the first tick from now on.
    """
    return [_put(connection, item) for item in items]


def pause_schedules(connection: Connection, items: Sequence[Pause]) -> list[bool]:
    """Pause schedules, or let them go on; False for an unknown one."""
    return [_pause(connection, item) for item in items]


def delete_schedules(connection: Connection, ids: Sequence[str]) -> list[bool]:
    """Delete schedules, whose runs go on; False for an unknown one."""
    return [
        connection.execute(delete(schedules).where(schedules.c.id == one)).rowcount > 0
        for one in ids
    ]


def _create(connection: Connection, item: NewSchedule) -> bool:
    paused = item.paused or False
    tick = next_tick(item.timing, item.at)
    row = _wanted(item) | {
        "id": item.id,
        "created_at": item.at,
        "last_tick": item.at,
        "next_tick": tick,
        "paused": paused,
        "look_at": None if paused else tick,
        "revision": 1,
    }
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(schedules).on_conflict_do_nothing(index_elements=[schedules.c.id])
    return connection.execute(statement.returning(schedules.c.id), row).first() is not None


def _put(connection: Connection, item: NewSchedule) -> bool:
    while True:
        row = _lock(connection, item.id)
        if row is not None:
            break
        if _create(connection, item):
            return True
        # Somebody made it first, and has committed: the next look finds it.
    paused = row.paused if item.paused is None else item.paused
    values = _wanted(item)
    if item.timing != _timing_of(row):
        values |= _from(item.timing, row, item.at) | {"waiting": None}
        waiting = None
    elif row.paused and not paused:
        values |= _from(item.timing, row, item.at)
        waiting = row.waiting
    else:
        values |= {"next_tick": row.next_tick}
        waiting = row.waiting
    _change(connection, item.id, values, waiting, paused, item.at)
    return False


def _pause(connection: Connection, item: Pause) -> bool:
    row = _lock(connection, item.id)
    if row is None:
        return False
    if row.paused != item.paused:
        values = {"next_tick": row.next_tick, "updated_at": item.at}
        if not item.paused:
            values |= _from(_timing_of(row), row, item.at)
        _change(connection, item.id, values, row.waiting, item.paused, item.at)
    return True


def _change(
    connection: Connection,
    schedule_id: str,
    values: dict[str, object],
    waiting: datetime | None,
    paused: bool,
    at: datetime,
) -> None:
    """Write ``values``, and with them when the leader is to look: at once where a start waits."""
    look_at = None if paused else at if waiting else values["next_tick"]
    connection.execute(
        update(schedules)
        .where(schedules.c.id == schedule_id)
        .values(**values, paused=paused, look_at=look_at, revision=schedules.c.revision + 1)
    )


def _from(timing: Schedule, row: Row, at: datetime) -> dict[str, object]:
    """Going on with the ticks after ``at``, and in no case with one that was dealt with."""
    last_tick = max(row.last_tick, at)
    return {"last_tick": last_tick, "next_tick": next_tick(timing, last_tick)}


def _wanted(item: NewSchedule) -> dict[str, object]:
    cron = item.timing if isinstance(item.timing, Cron) else None
    interval = None if isinstance(item.timing, Cron) else item.timing
    started = None if interval is None or interval.start == EPOCH else interval.start
    return {
        "flow_id": item.flow_id,
        "version": item.version,
        "input": item.input,
        "cron": cron.expression if cron else None,
        "time_zone": cron.time_zone if cron else None,
        "every_seconds": interval.every_seconds if interval else None,
        "start": started,
        "overlap": item.overlap,
        "catch_up": item.catch_up,
        "updated_at": item.at,
    }


def _timing_of(row: Row) -> Schedule:
    return timing(row.cron, row.time_zone, row.every_seconds, row.start)


def _lock(connection: Connection, schedule_id: str) -> Row | None:
    return connection.execute(_LOCK, {"id": schedule_id}).one_or_none()


_LOCK = select(schedules).where(schedules.c.id == bindparam("id")).with_for_update()
