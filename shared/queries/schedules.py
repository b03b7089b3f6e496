"""Schedules as they are shown, and as the leader looks at them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, bindparam, select

from shared.cron import Schedule
from shared.models import FlowRun
from shared.models_schedules import ScheduleRow, timing
from shared.queries.rows import AnyRow
from shared.queries.runs import Page

schedules = ScheduleRow.__table__
runs = FlowRun.__table__

_SHOWN = (
    select(schedules, runs.c.status.label("run_status"))
    .join_from(schedules, runs, runs.c.id == schedules.c.run_id, isouter=True)
    .order_by(schedules.c.id)
)
"""With where its last run stands; that run may be deleted by now."""


@dataclass(frozen=True, slots=True)
class DueSchedule:
    """A schedule that the leader is to look at."""

    row: AnyRow
    is_running: bool
    """Whether a run of it goes on."""


def timing_of(row: AnyRow) -> Schedule:
    """When the schedule of a row fires."""
    return timing(row.cron, row.time_zone, row.every_seconds, row.start)


def get_schedule(connection: Connection, schedule_id: str) -> AnyRow | None:
    """A schedule, with where its last run stands; None for an unknown one."""
    return connection.execute(_SHOWN.where(schedules.c.id == schedule_id)).one_or_none()


def list_schedules(
    connection: Connection, flow_id: str | None, cursor: str | None, limit: int
) -> Page:
    """Schedules by their ids, of one flow or of all, from behind ``cursor``, an id, on."""
    statement = _SHOWN.limit(limit + 1)
    if flow_id is not None:
        statement = statement.where(schedules.c.flow_id == flow_id)
    if cursor is not None:
        statement = statement.where(schedules.c.id > cursor)
    rows = connection.execute(statement).all()
    if len(rows) <= limit:
        return Page(rows, None)
    return Page(rows[:limit], str(rows[limit - 1].id))


def due_schedules(connection: Connection, now: datetime, limit: int) -> list[DueSchedule]:
    """The schedules to be looked at, those first that have waited longest."""
    rows = connection.execute(_DUE, {"now": now, "most": limit}).all()
    going_on = running_schedules(connection, [row.id for row in rows])
    return [DueSchedule(row, row.id in going_on) for row in rows]


def input_of_schedule(connection: Connection, schedule_id: str) -> bytes:
    """What the runs of a schedule are started with, as JSON; null where it is gone by now, when
    nothing will be started of it."""
    found = connection.execute(_INPUT, {"id": schedule_id}).scalar_one_or_none()
    return b"null" if found is None else found


def running_schedules(connection: Connection, schedule_ids: Sequence[str]) -> set[str]:
    """Which of these have a run that goes on."""
    if not schedule_ids:
        return set()
    statement = select(runs.c.schedule_id).where(runs.c.schedule_id.in_(schedule_ids), *_GOES_ON)
    return {str(found) for found in connection.execute(statement.distinct()).scalars()}


_INPUT = select(schedules.c.input).where(schedules.c.id == bindparam("id"))

# Without the input: it may be large, and most looks start nothing.
_DUE = (
    select(*(column for column in schedules.c if column.name != "input"))
    .where(schedules.c.look_at <= bindparam("now"), schedules.c.look_at.is_not(None))
    .order_by(schedules.c.look_at)
    .limit(bindparam("most"))
)

# As the partial index has it.
_GOES_ON: tuple[ColumnElement[bool], ...] = (
    runs.c.schedule_id.is_not(None),
    runs.c.finished_at.is_(None),
)
