"""Log lines: stored with the step of their attempt or apart from it, each once.

What an attempt logged goes into the transaction that records it (``shared.store.books``).
:func:`add_lines` is for the lines that cannot wait for that, or would wait in vain: those of
attempts that run for long, were stopped, or lost their claim. They change nothing but what is
shown, so they need no claim; they name the task run that they belong to, and may come twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, bindparam, select
from sqlalchemy.dialects import postgresql, sqlite

from shared.models import FlowRun, LogLine
from shared.statements import Statement

runs = FlowRun.__table__
log_lines = LogLine.__table__


@dataclass(frozen=True, slots=True)
class LoggedLine:
    """One line that was logged while an attempt ran."""

    id: str
    """Made when the line was, so that ids sort as the lines do, and a line that is sent twice
    is stored once."""
    flow_run_id: str
    task_run_id: str
    task: str
    at: datetime
    level: str
    """In lower case: ``debug``, ``info``, ``warning``, ``error``, ``critical``."""
    message: str


def add_lines(connection: Connection, items: Sequence[Sequence[LoggedLine]]) -> list[None]:
    """Store lines, except those that are stored already and those of runs that are deleted.

    The runs are not locked: lines must never make a step wait. Where a run is deleted in this
    very moment, its lines may stay behind, where nobody sees them.
    """
    lines = [line for item in items for line in item]
    if lines:
        wanted = sorted({line.flow_run_id for line in lines})
        known = {row.id for row in _KNOWN_RUNS.all(connection, {"ids": wanted})}
        insert_lines(connection, [line for line in lines if line.flow_run_id in known])
    return [None] * len(items)


def insert_lines(connection: Connection, lines: Sequence[LoggedLine]) -> None:
    """Store lines of runs that are there; what is stored already stays as it is."""
    if lines:
        _INSERT[connection.dialect.name].write(connection, [_row(line) for line in lines])


def _row(line: LoggedLine) -> dict[str, object]:
    return {
        "id": line.id,
        "flow_run_id": line.flow_run_id,
        "task_run_id": line.task_run_id,
        "task": line.task,
        "at": line.at,
        "level": line.level,
        "message": line.message,
    }


_KNOWN_RUNS = Statement(select(runs.c.id).where(runs.c.id.in_(bindparam("ids", expanding=True))))

_COLUMNS = ("id", "flow_run_id", "task_run_id", "task", "at", "level", "message")

_INSERT = {
    "postgresql": Statement(
        postgresql.insert(log_lines).on_conflict_do_nothing(index_elements=[log_lines.c.id]),
        columns=_COLUMNS,
    ),
    "sqlite": Statement(
        sqlite.insert(log_lines).on_conflict_do_nothing(index_elements=[log_lines.c.id]),
        columns=_COLUMNS,
    ),
}
"""By dialect: the two databases have the same words for it, and SQLAlchemy has two classes."""
