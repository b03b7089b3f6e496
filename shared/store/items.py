"""The items of a list that a task runs for: begin them, count them down, go on behind them.

A visit with ``for_each`` waits, its task run open, while a branch an item runs the task. The
parent counts down in the transaction that records an item; what brings it to zero, or fails
one item too many, wakes it, and a worker then gives the visit its result. Everything here
happens under the lock of the run.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, bindparam, select, update

from shared.definition import allowed_failures
from shared.ids import BranchId, TaskRunId, new_id
from shared.models import Branch, TaskRun
from shared.paths import item_path
from shared.statements import Row, Statement
from shared.status import BranchState, Reason, TaskRunStatus
from shared.store.books import Books
from shared.store.branches import Visit
from shared.store.cancelling import stop
from shared.store.places import free_holders
from shared.store.step import Step

branches = Branch.__table__
task_runs = TaskRun.__table__


def begin_items(books: Books, step: Step) -> None:
    """Let the branch wait, and make a branch for each of its items."""
    visit, total = step.visit, len(step.items)
    books.wait_for_items(step, total)
    at_once = step.flow.tasks[step.task].concurrency or total
    keep = min(max(step.keep, 1), at_once)
    runs_here = step.begins(step.task)
    for index, item in enumerate(step.items):
        state = BranchState.WAITING if index >= at_once else BranchState.READY
        if runs_here and index < keep:
            state = BranchState.RUNNING
        begins = state is BranchState.RUNNING
        books.begin_item(
            step,
            visit._replace(
                branch_id=BranchId(new_id()),
                claim=int(begins),
                path=item_path(visit.path, step.task, index),
                attempt=1,
                task_run_id=TaskRunId(new_id() if begins else ""),
                tracked=False,
                failed_attempts=0,
                resumed=False,
                parent_id=visit.branch_id,
                item_index=index,
                item=item,
            ),
            state,
        )


@dataclass(slots=True)
class _Ended:
    """The items of one parent that end in this transaction."""

    step: Step
    """The one that is recorded last, or that failed one item too many."""
    count: int = 0
    failed: int = 0
    steps: list[Step] = field(default_factory=list)


def end_items(connection: Connection, books: Books, steps: Sequence[Step]) -> None:
    """Count down the parents of items that ended, and wake those that wait for nothing more."""
    by_parent: dict[BranchId, _Ended] = {}
    for step in steps:
        assert step.visit.parent_id is not None
        ended = by_parent.setdefault(step.visit.parent_id, _Ended(step))
        ended.count += 1
        ended.failed += step.kind != "success"
        ended.steps.append(step)
    if not by_parent:
        return
    # What ended is written before: the parent must see it.
    books.flush()
    for parent in _PARENTS.all(connection, {"ids": sorted(by_parent)}):
        if parent.state == BranchState.WAITING and parent.items_left:
            _count_down(connection, books, parent, by_parent[parent.id])


def _count_down(connection: Connection, books: Books, parent: Row, ended: _Ended) -> None:
    left, failed = parent.items_left - ended.count, parent.items_failed + ended.failed
    task = ended.step.flow.tasks[parent.task]
    is_over = left == 0
    if failed > allowed_failures(task.tolerate, parent.item_count):
        if left:
            _stop_others(connection, books, parent, ended)
        is_over = True
    elif not is_over and task.concurrency is not None:
        rows = _HELD_BACK.all(connection, {"parent": parent.id, "most": ended.count})
        ready_at = ended.step.lease_now
        if rows:
            _LET_GO.write(connection, [{"b_id": r.id, "b_ready_at": ready_at} for r in rows])
            for row in rows:
                books.results[ended.step.branch_id].hand_over(BranchId(row.id), task)
    if is_over:
        _wake(connection, books, parent, ended.step, left, failed)
    else:
        _COUNT.run(connection, {"b_id": parent.id, "b_left": left, "b_failed": failed})


def _stop_others(connection: Connection, books: Books, parent: Row, ended: _Ended) -> None:
    """End the items that are still open: their result is no longer asked for."""
    culprit = next(step for step in reversed(ended.steps) if step.kind != "success")
    reason = f"{Reason.SIBLING_FAILED}:{parent.task}[{culprit.visit.item_index}]"
    rows = _OPEN.all(connection, {"parent": parent.id})
    stop(connection, rows, reason, books.now)
    if ended.step.flow.limits:
        free_holders(connection, [row.id for row in rows])


def _wake(
    connection: Connection, books: Books, parent: Row, step: Step, left: int, failed: int
) -> None:
    """Let the parent's visit go on: here, where this worker can, to be given its result."""
    runs_here = step.begins(parent.task)
    claim = parent.claim + 1
    _WAKE.run(
        connection,
        {
            "b_id": parent.id,
            "b_state": (BranchState.RUNNING if runs_here else BranchState.READY).value,
            "b_worker": step.worker_id if runs_here else None,
            "b_claim": claim,
            "b_left": left,
            "b_failed": failed,
            "b_ready_at": step.lease_now,
        },
    )
    result = books.results[step.branch_id]
    if not runs_here:
        result.hand_over(BranchId(parent.id), step.flow.tasks[parent.task])
        return
    _RESUME.run(connection, {"t_id": parent.task_run_id, "t_worker": step.worker_id})
    result.started.append(
        Visit(
            branch_id=BranchId(parent.id),
            claim=claim,
            flow_run_id=step.flow_run_id,
            path=parent.path,
            task=parent.task,
            task_type=parent.task_type,
            iteration=parent.iteration,
            attempt=parent.attempt,
            task_run_id=TaskRunId(parent.task_run_id),
            previous_id=parent.previous_id,
            joined_by=parent.joined_by,
            tracked=parent.tracked,
            failed_attempts=parent.failed_attempts,
            resumed=True,
            item_count=parent.item_count,
            items_failed=failed,
        )
    )


_PARENT_COLUMNS = (
    branches.c.id,
    branches.c.state,
    branches.c.claim,
    branches.c.path,
    branches.c.task,
    branches.c.task_type,
    branches.c.iteration,
    branches.c.attempt,
    branches.c.task_run_id,
    branches.c.previous_id,
    branches.c.joined_by,
    branches.c.tracked,
    branches.c.failed_attempts,
    branches.c.item_count,
    branches.c.items_left,
    branches.c.items_failed,
)

_PARENTS = Statement(
    select(*_PARENT_COLUMNS)
    .where(branches.c.id.in_(bindparam("ids", expanding=True)))
    .order_by(branches.c.id)
    .with_for_update()
)

_COUNT = Statement(
    update(branches)
    .where(branches.c.id == bindparam("b_id"))
    .values(items_left=bindparam("b_left"), items_failed=bindparam("b_failed"))
)

_WAKE = Statement(
    update(branches)
    .where(branches.c.id == bindparam("b_id"), branches.c.state == BranchState.WAITING)
    .values(
        state=bindparam("b_state"),
        worker_id=bindparam("b_worker"),
        claim=bindparam("b_claim"),
        items_left=bindparam("b_left"),
        items_failed=bindparam("b_failed"),
        ready_at=bindparam("b_ready_at"),
    )
)

_RESUME = Statement(
    update(task_runs)
    .where(task_runs.c.id == bindparam("t_id"), task_runs.c.status == TaskRunStatus.WAITING)
    .values(status=TaskRunStatus.RUNNING.value, worker_id=bindparam("t_worker"))
)

_HELD_BACK = Statement(
    select(branches.c.id)
    .where(
        branches.c.parent_id == bindparam("parent"),
        branches.c.state == BranchState.WAITING,
        branches.c.attempt == 0,
    )
    .order_by(branches.c.item_index)
    .limit(bindparam("most"))
)

_LET_GO = Statement(
    update(branches)
    .where(branches.c.id == bindparam("b_id"), branches.c.state == BranchState.WAITING)
    .values(state=BranchState.READY.value, ready_at=bindparam("b_ready_at"))
)

_OPEN = Statement(
    select(branches.c.id, branches.c.task_run_id)
    .where(branches.c.parent_id == bindparam("parent"), branches.c.state != BranchState.DONE)
    .order_by(branches.c.id)
    .with_for_update()
)
