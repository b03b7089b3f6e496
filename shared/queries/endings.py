"""What the endings of runs are about: for the tasks that run in them, and for who looks on."""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import JsonValue
from sqlalchemy import Connection, bindparam, func, select

from shared.ids import FlowRunId, TaskRunId
from shared.models import NO_INDEX, Branch, Compensation, FlowRun, TaskRun
from shared.statements import Statement
from shared.undoing import parse_ending

branches = Branch.__table__
compensations = Compensation.__table__
runs = FlowRun.__table__
task_runs = TaskRun.__table__


@dataclass(frozen=True, slots=True)
class UndoneVisit:
    """What a visit in a run's ending is about."""

    run: Mapping[str, JsonValue]
    """How the run will have ended: ``status``, ``outcome`` and ``error``."""
    data: bytes | None = None
    """What the visit gave that is undone; None for the last task, as all that follows."""
    item: bytes | None = None
    index: int | None = None


def undone_visit(
    connection: Connection, flow_run_id: FlowRunId, undoes: TaskRunId | None
) -> UndoneVisit:
    """How a run in its ending will have ended, and the task run that is undone."""
    (told,) = _ENDING.all(connection, {"run": flow_run_id})
    if told.ending is None:
        # It is over: who asks has lost its claim, and records nothing of what it does.
        return UndoneVisit({})
    ending = parse_ending(told.ending)
    outcome = None if ending.outcome is None else ending.outcome.value
    run = {"status": ending.status.value, "outcome": outcome, "error": ending.error}
    found = [] if undoes is None else _UNDONE.all(connection, {"id": undoes})
    if not found:
        return UndoneVisit(run)
    (row,) = found
    index = None if row.item_index == NO_INDEX else row.item_index
    return UndoneVisit(run, row.data, row.item, index)


def left_to_undo(connection: Connection, flow_run_id: FlowRunId) -> int:
    """How many compensations of a run have not begun."""
    return int(_LEFT.all(connection, {"run": flow_run_id})[0][0])


_ENDING = Statement(select(runs.c.ending).where(runs.c.id == bindparam("run")))

_UNDONE = Statement(
    select(task_runs.c.data, task_runs.c.item_index, branches.c.item)
    .join_from(task_runs, branches, branches.c.id == task_runs.c.branch_id, isouter=True)
    .where(task_runs.c.id == bindparam("id"))
)

_LEFT = Statement(
    select(func.count())
    .select_from(compensations)
    .where(compensations.c.flow_run_id == bindparam("run"))
)
