"""Branches that a join has made pointless: they end, and have failed nobody."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, bindparam, select, update

from shared.decider import JoinCount, Settlement
from shared.ids import BranchId
from shared.models import Branch, TaskRun
from shared.statements import Row, Statement
from shared.status import BranchState, Reason, TaskRunStatus
from shared.store.books import Books
from shared.store.places import free_holders
from shared.store.step import Step

branches = Branch.__table__
task_runs = TaskRun.__table__


def cancel_rest(
    connection: Connection, books: Books, step: Step, settlement: Settlement
) -> list[Mapping[str, JoinCount]]:
    """End the branches of a run that can lead nowhere but to a join that has gone on; what
    that changes in the books of the joins.

    Nobody is spared: ``step`` is the run's last of this transaction, whose branch need not be
    the one that came to the join.
    """
    reason = f"{Reason.JOIN_MET}:{settlement.join}"
    return _end_at(connection, books, step, settlement.cancels, reason, spared=None)


def cancel_at(
    connection: Connection, books: Books, step: Step, tasks: Sequence[str], reason: str
) -> list[Mapping[str, JoinCount]]:
    """End the branches of the step's run that stand at ``tasks``, but for its own; what that
    changes in the books of the joins. The caller holds the lock of the run."""
    return _end_at(connection, books, step, tasks, reason, spared=step.branch_id)


def _end_at(
    connection: Connection,
    books: Books,
    step: Step,
    tasks: Sequence[str],
    reason: str,
    *,
    spared: BranchId | None,
) -> list[Mapping[str, JoinCount]]:
    # What the steps of this transaction moved is written before: it may be among them.
    books.flush()
    found = _OPEN_AT.all(connection, {"run": step.flow_run_id, "tasks": sorted(tasks)})
    rows = [row for row in found if row.id != spared]
    if not rows:
        return []
    stop(connection, rows, reason, books.now)
    if step.flow.limits:
        free_holders(connection, [row.id for row in rows])
    stopped = {row.id for row in rows}
    for result in books.runs[step.flow_run_id].results:
        result.started[:] = [v for v in result.started if v.branch_id not in stopped]
        result.ready[:] = [one for one in result.ready if one not in stopped]
    # The items of a list are no branches of their own in the books.
    own = [row for row in rows if row.parent_id is None]
    books.runs[step.flow_run_id].active -= len(own)
    return [step.flow.decider.leave(row.task, waits=_waits_at_join(row)) for row in own]


def stop(connection: Connection, rows: Sequence[Row], reason: str, at: datetime) -> None:
    """End locked branches and their open task runs. Nothing of theirs is recorded any more."""
    if not rows:
        return
    _STOP.write(connection, [{"b_id": row.id} for row in rows])
    running = [
        {"t_id": row.task_run_id, "t_reason": reason, "t_at": at}
        for row in rows
        if row.task_run_id is not None
    ]
    if running:
        _CANCEL.write(connection, running)


def _waits_at_join(row: Row) -> bool:
    """Whether it waits there for others, and not for a time or for anything of its own."""
    is_waiting = row.state == BranchState.WAITING
    return is_waiting and row.task_run_id is None and row.wake_at is None


_OPEN_AT = Statement(
    select(
        branches.c.id,
        branches.c.task,
        branches.c.state,
        branches.c.task_run_id,
        branches.c.wake_at,
        branches.c.parent_id,
    )
    .where(
        branches.c.flow_run_id == bindparam("run"),
        branches.c.task.in_(bindparam("tasks", expanding=True)),
        branches.c.state != BranchState.DONE,
    )
    .order_by(branches.c.id)
    .with_for_update()
)

_STOP = Statement(
    update(branches)
    .where(branches.c.id == bindparam("b_id"))
    .values(
        state=BranchState.DONE.value,
        claim=branches.c.claim + 1,
        worker_id=None,
        task_run_id=None,
        wake_at=None,
    )
)

_CANCEL = Statement(
    update(task_runs)
    .where(
        task_runs.c.id == bindparam("t_id"),
        task_runs.c.status.in_([TaskRunStatus.RUNNING.value, TaskRunStatus.WAITING.value]),
    )
    .values(
        status=TaskRunStatus.CANCELLED.value,
        reason=bindparam("t_reason"),
        finished_at=bindparam("t_at"),
    )
)
