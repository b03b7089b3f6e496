"""Tells a visit that waits for a sub-flow's run that the run is over.

Called in the transaction that gives a run its final status, so that no end goes unheard. The
visit is then ready for any worker that reads what the run came to.
"""

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, select, update

from shared.ids import BranchId, FlowRunId, TaskRunId
from shared.models import Branch, FlowRun, TaskRun
from shared.statements import Statement
from shared.status import BranchState

branches = Branch.__table__
runs = FlowRun.__table__
task_runs = TaskRun.__table__

AT_ONCE = 0.0
"""A lease time that is past for everybody: the branch has waited long enough to be swept up."""


def wake_parents(
    connection: Connection, flow_run_ids: Sequence[FlowRunId], ready_at: float = AT_ONCE
) -> list[BranchId]:
    """Let those go on who wait for any of these runs, which are over; their branches."""
    if not flow_run_ids:
        return []
    awaited = _AWAITED.all(connection, {"ids": sorted(flow_run_ids)})
    return [branch for row in awaited for branch in wake_visit(connection, row[0], ready_at)]


def wake_visit(
    connection: Connection, task_run_id: TaskRunId, ready_at: float
) -> dict[BranchId, str]:
    """Let the visit of a task run go on, if it still waits; its branch, with its queue."""
    waiting = _WAKE.all(connection, {"task_run": task_run_id, "ready_at": ready_at})
    return {BranchId(row.id): row.queue for row in waiting}


_AWAITED = Statement(
    select(runs.c.parent_task_run_id)
    .where(
        runs.c.id.in_(bindparam("ids", expanding=True)),
        runs.c.parent_task_run_id.is_not(None),
    )
    .order_by(runs.c.parent_task_run_id)
)

_WAKE = Statement(
    update(branches)
    .where(
        branches.c.id
        == select(task_runs.c.branch_id)
        .where(task_runs.c.id == bindparam("task_run"))
        .scalar_subquery(),
        branches.c.task_run_id == bindparam("task_run"),
        branches.c.state == BranchState.WAITING,
    )
    .values(state=BranchState.READY.value, items_left=0, ready_at=bindparam("ready_at"))
    .returning(branches.c.id, branches.c.queue)
)
