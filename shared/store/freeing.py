"""Free branches: those that a worker gives back, and those of workers that are lost.

Whoever held them records nothing more: the claim is counted up. An attempt that had not waited
for anything ends as cancelled; one that had is resumed by the next worker.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, bindparam, or_, select, update

from shared.ids import BranchId, FlowRunId, TaskRunId, WorkerId
from shared.models import Branch, TaskRun
from shared.models_workers import WorkerRow
from shared.statements import Row, Statement
from shared.status import BranchState, Reason, TaskRunStatus

branches = Branch.__table__
task_runs = TaskRun.__table__
workers = WorkerRow.__table__


@dataclass(frozen=True, slots=True)
class Release:
    """A branch that its worker gives back unfinished, because it stops."""

    branch_id: BranchId
    claim: int
    task_run_id: TaskRunId
    ready_at: float


def release_branches(connection: Connection, items: Sequence[Release]) -> list[bool]:
    """Make branches ready again for others; whether each was still the caller's."""
    by_id = {item.branch_id: item for item in items}
    rows = _HELD.all(connection, {"ids": sorted(by_id)})
    held = [
        row for row in rows if row.state == BranchState.RUNNING and row.claim == by_id[row.id].claim
    ]
    if held:
        _free(connection, held, Reason.WORKER_STOPPED, min(i.ready_at for i in items), lost=0)
    kept = {row.id for row in held}
    return [item.branch_id in kept for item in items]


@dataclass(frozen=True, slots=True)
class Rescued:
    """A branch taken from a lost worker."""

    branch_id: BranchId
    flow_run_id: FlowRunId
    losses: int


def rescue_branches(
    connection: Connection, worker_ids: Sequence[WorkerId], ready_at: float
) -> list[Rescued]:
    """Free what lost workers held: their claims are void from here on."""
    rows = _HELD_BY.all(connection, {"workers": sorted(worker_ids)})
    if rows:
        _free(connection, rows, Reason.WORKER_LOST, ready_at, lost=1)
    return [Rescued(row.id, row.flow_run_id, row.losses + 1) for row in rows]


def free_stray(connection: Connection, ready_at: float) -> list[Rescued]:
    """Free what is held by workers that have ended, and that nobody else would look for.

    A claim may be committed after its worker was declared lost, or while it stopped and no
    longer waited for the answer. Only what a lost worker held counts as a loss.
    """
    found = _STRAY.all(connection, {})
    freed: list[Rescued] = []
    for reason, lost in ((Reason.WORKER_STOPPED, 0), (Reason.WORKER_LOST, 1)):
        rows = [row for row in found if (row.worker_state == "stopped") == (lost == 0)]
        if rows:
            _free(connection, rows, reason, ready_at, lost=lost)
        freed += [Rescued(row.id, row.flow_run_id, row.losses + lost) for row in rows]
    return freed


def free_all(connection: Connection, worker_id: WorkerId, ready_at: float) -> list[BranchId]:
    """Free what a worker holds that stops now; it counts as no loss."""
    rows = _HELD_BY.all(connection, {"workers": [worker_id]})
    if rows:
        _free(connection, rows, Reason.WORKER_STOPPED, ready_at, lost=0)
    return [BranchId(row.id) for row in rows]


@dataclass(frozen=True, slots=True)
class Orphans:
    """Branches that a worker holds and does not run, because an answer got lost."""

    claims: dict[BranchId, int]
    ready_at: float


def free_orphans(connection: Connection, items: Sequence[Orphans]) -> list[None]:
    """Free such branches. It counts as a loss, so that it cannot go on for ever."""
    for item in items:
        rows = _HELD.all(connection, {"ids": sorted(item.claims)})
        held = [
            row
            for row in rows
            if row.state == BranchState.RUNNING and row.claim == item.claims[row.id]
        ]
        if held:
            _free(connection, held, Reason.WORKER_LOST, item.ready_at, lost=1)
    return [None] * len(items)


def _free(
    connection: Connection, rows: Sequence[Row], reason: Reason, ready_at: float, *, lost: int
) -> None:
    """End the open attempts of locked branches and make them ready."""
    at = datetime.now(UTC)
    asleep = [{"t_id": row.task_run_id} for row in rows if _was_resumed(row)]
    broken = [
        {"t_id": row.task_run_id, "t_reason": reason.value, "t_at": at}
        for row in rows
        if not _was_resumed(row)
    ]
    if asleep:
        _FALL_ASLEEP.write(connection, asleep)
    if broken:
        _BREAK_OFF.write(connection, broken)
    _FREE.write(
        connection,
        [
            {
                "b_id": row.id,
                "b_losses": row.losses + lost,
                "b_ready_at": ready_at,
                # Who was resumed after a wait is resumed again.
                "b_task_run": row.task_run_id if _was_resumed(row) else None,
            }
            for row in rows
        ],
    )


def _was_resumed(row: Row) -> bool:
    """Whether the open attempt had waited: for a time, a signal, or its items."""
    return row.wake_at is not None or row.signal is not None or row.item_count > 0


_HELD_COLUMNS = (
    branches.c.id,
    branches.c.flow_run_id,
    branches.c.state,
    branches.c.claim,
    branches.c.task_run_id,
    branches.c.losses,
    branches.c.wake_at,
    branches.c.signal,
    branches.c.item_count,
)

_HELD = Statement(
    select(*_HELD_COLUMNS)
    .where(branches.c.id.in_(bindparam("ids", expanding=True)))
    .order_by(branches.c.id)
    .with_for_update()
)

_HELD_BY = Statement(
    select(*_HELD_COLUMNS)
    .where(branches.c.worker_id.in_(bindparam("workers", expanding=True)))
    .order_by(branches.c.id)
    .with_for_update()
)

_STRAY = Statement(
    select(*_HELD_COLUMNS, workers.c.state.label("worker_state"))
    .select_from(branches)
    .join(workers, workers.c.id == branches.c.worker_id, isouter=True)
    .where(
        branches.c.worker_id.is_not(None),
        or_(workers.c.id.is_(None), workers.c.state.in_(["stopped", "lost"])),
    )
    # By the index of what is held. So they are not locked in the order of their ids: nobody is
    # waited for, what is locked now is looked at again.
    .order_by(branches.c.worker_id, branches.c.id)
    .with_for_update(of=branches, skip_locked=True)
)

_FREE = Statement(
    update(branches)
    .where(branches.c.id == bindparam("b_id"))
    .values(
        state=BranchState.READY,
        worker_id=None,
        claim=branches.c.claim + 1,
        losses=bindparam("b_losses"),
        ready_at=bindparam("b_ready_at"),
        task_run_id=bindparam("b_task_run"),
    )
)

_BREAK_OFF = Statement(
    update(task_runs)
    .where(task_runs.c.id == bindparam("t_id"), task_runs.c.status == TaskRunStatus.RUNNING)
    .values(
        status=TaskRunStatus.CANCELLED,
        reason=bindparam("t_reason"),
        finished_at=bindparam("t_at"),
    )
)

_FALL_ASLEEP = Statement(
    update(task_runs)
    .where(task_runs.c.id == bindparam("t_id"), task_runs.c.status == TaskRunStatus.RUNNING)
    .values(status=TaskRunStatus.WAITING)
)
