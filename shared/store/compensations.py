"""The plan of an ending: what is still to be undone, as rows that go when their turn has come."""

from typing import NamedTuple

from sqlalchemy import Connection, bindparam, delete, func, select

from shared.ids import FlowRunId, TaskRunId
from shared.models import NO_INDEX, Compensation, TaskRun
from shared.paths import FINALLY_PATH, undoing_path
from shared.statements import Statement
from shared.status import TaskRunStatus
from shared.undoing import Succeeded, Undoing, plan

compensations = Compensation.__table__
task_runs = TaskRun.__table__


def write_plan(connection: Connection, flow_run_id: FlowRunId, undoing: Undoing) -> int:
    """Work out what is to be undone of a locked run, and write it down; how much it is."""
    if not undoing.compensations:
        return 0
    rows = _SUCCEEDED.all(connection, {"run": flow_run_id})
    succeeded = [
        Succeeded(
            row.id,
            row.task,
            row.iteration,
            None if row.item_index == NO_INDEX else row.item_index,
            row.position or 0,
            row.finished_at,
        )
        for row in rows
    ]
    planned: list[dict[str, object]] = [
        {
            "flow_run_id": flow_run_id,
            "position": position,
            "task": task,
            "undoes": done.task_run_id,
            "path": undoing_path(done.task, done.iteration, done.item_index),
        }
        for position, (task, done) in enumerate(plan(undoing, succeeded))
    ]
    if planned:
        _INSERT.write(connection, planned)
    return len(planned)


class Following(NamedTuple):
    """What an ending does next."""

    task: str
    iteration: int
    path: str
    undoes: TaskRunId | None
    """None for the last task."""


def take_next(
    connection: Connection, flow_run_id: FlowRunId, undoing: Undoing, after: str | None
) -> Following | None:
    """What the ending of a locked run does after the visit with the path ``after``; None where
    it is over. What is given is taken out of the plan."""
    if after == FINALLY_PATH:
        return None
    found = _FIRST.all(connection, {"run": flow_run_id})
    if found:
        first = found[0]
        _TAKE.run(connection, {"c_run": flow_run_id, "c_position": first.position})
        iteration = _next_iteration(connection, flow_run_id, first.task)
        return Following(first.task, iteration, first.path, TaskRunId(first.undoes))
    if undoing.last is None:
        return None
    iteration = _next_iteration(connection, flow_run_id, undoing.last)
    return Following(undoing.last, iteration, FINALLY_PATH, None)


def _next_iteration(connection: Connection, flow_run_id: FlowRunId, task: str) -> int:
    (row,) = _LAST_VISIT.all(connection, {"run": flow_run_id, "task": task})
    return int(row[0] or 0) + 1


_SUCCEEDED = Statement(
    select(
        task_runs.c.id,
        task_runs.c.task,
        task_runs.c.iteration,
        task_runs.c.item_index,
        task_runs.c.position,
        task_runs.c.finished_at,
    ).where(
        task_runs.c.flow_run_id == bindparam("run"),
        task_runs.c.status == TaskRunStatus.SUCCESS,
    )
)

_INSERT = Statement(
    compensations.insert(), columns=("flow_run_id", "position", "task", "undoes", "path")
)

_FIRST = Statement(
    select(
        compensations.c.position,
        compensations.c.task,
        compensations.c.undoes,
        compensations.c.path,
    )
    .where(compensations.c.flow_run_id == bindparam("run"))
    .order_by(compensations.c.position)
    .limit(1)
)

_TAKE = Statement(
    delete(compensations).where(
        compensations.c.flow_run_id == bindparam("c_run"),
        compensations.c.position == bindparam("c_position"),
    )
)

_LAST_VISIT = Statement(
    select(func.max(task_runs.c.iteration)).where(
        task_runs.c.flow_run_id == bindparam("run"), task_runs.c.task == bindparam("task")
    )
)
