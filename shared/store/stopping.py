"""Runs that something other than their steps ends: a cancel, an error, a limit, a deadline."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import orjson
from sqlalchemy import Connection, bindparam, select, update

from shared.ids import BranchId, FlowRunId, new_id
from shared.models import Branch, FlowRun, StoredDefinition, TaskRun
from shared.statements import Row, Statement
from shared.status import BranchState, Outcome, Reason, RunStatus, TaskRunStatus
from shared.store.parents import wake_parents
from shared.store.places import free_runs
from shared.store.undoing import Begun, Standing, read_standings
from shared.undoing import Ending, Undoing

runs = FlowRun.__table__
branches = Branch.__table__
task_runs = TaskRun.__table__
definitions = StoredDefinition.__table__

CancelResult = Literal["cancelled", "cancelling", "ending", "over", "unknown"]
"""``cancelling``: it is, as soon as what it has done is undone; ``ending``: its ending had begun
already, and nothing cuts that short."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """A request to cancel a run."""

    flow_run_id: FlowRunId
    at: datetime
    branch_id: BranchId = field(default_factory=lambda: BranchId(new_id()))
    """The branch to ring for where it is ``cancelling``."""
    ready_at: float = 0
    """Lease time."""


def cancel_runs(connection: Connection, items: Sequence[Cancel]) -> list[CancelResult]:
    """Cancel runs that are not over; a run that ends at the same moment has one winner."""
    ids = sorted({item.flow_run_id for item in items})
    known = lock_runs(connection, ids)
    running = [row.id for row in known.values() if row.status == RunStatus.RUNNING]
    standings = read_standings(connection, running) if running else {}
    results: dict[FlowRunId, CancelResult] = {}
    for item in items:
        if item.flow_run_id not in results:
            standing = standings.get(item.flow_run_id)
            if standing is not None:
                results[item.flow_run_id] = _cancel(connection, item, standing)
            else:
                results[item.flow_run_id] = "over" if item.flow_run_id in known else "unknown"
    wake_parents(connection, [one for one, result in results.items() if result == "cancelled"])
    return [results[item.flow_run_id] for item in items]


def _cancel(connection: Connection, item: Cancel, standing: Standing) -> CancelResult:
    if standing.is_ending:
        return "ending"
    stop_branches(connection, item.flow_run_id, Reason.RUN_CANCELLED, item.at)
    begun, ending = Begun(item.ready_at, item.branch_id), Ending(RunStatus.CANCELLED)
    is_final = begun.conclude(connection, item.flow_run_id, standing.undoing, ending, item.at)
    return "cancelled" if is_final else "cancelling"


def fail_run(
    connection: Connection,
    flow_run_id: FlowRunId,
    error: bytes,
    reason: str,
    at: datetime,
    undoing: Undoing | None,
    begun: Begun,
) -> bool:
    """Stop the branches of a locked, running run and let it end as failed; whether that is
    final, and not the beginning of its ending."""
    stop_branches(connection, flow_run_id, reason, at)
    ending = Ending(RunStatus.FAILED, Outcome.FAILURE, error=orjson.loads(error))
    return begun.conclude(connection, flow_run_id, undoing, ending, at)


def lock_runs(connection: Connection, ids: Sequence[FlowRunId]) -> dict[FlowRunId, Row]:
    """Lock runs, by id, and read what decides about them. The lock is the lock of everything
    that concerns more than one branch of the run."""
    if not ids:
        return {}
    return {row.id: row for row in _LOCK_RUNS.all(connection, {"ids": sorted(ids)})}


_LOCK_RUNS = Statement(
    select(
        runs.c.id,
        runs.c.status,
        runs.c.active,
        runs.c.failed,
        runs.c.task_runs,
        runs.c.parent_task_run_id,
    )
    .where(runs.c.id.in_(bindparam("ids", expanding=True)))
    .order_by(runs.c.id)
    .with_for_update()
)


def stop_branches(
    connection: Connection, flow_run_id: FlowRunId, reason: str, at: datetime
) -> None:
    """End every branch of a run and cancel its open task runs.

    The claim is counted up, so that nothing which still runs for them is ever recorded.
    """
    connection.execute(_LOCK_BRANCHES, {"run": flow_run_id}).all()
    connection.execute(_STOP_BRANCHES, {"run": flow_run_id})
    connection.execute(
        update(task_runs)
        .where(
            task_runs.c.flow_run_id == flow_run_id,
            task_runs.c.status.in_([TaskRunStatus.RUNNING, TaskRunStatus.WAITING]),
        )
        .values(status=TaskRunStatus.CANCELLED, reason=reason, finished_at=at)
    )
    free_runs(connection, [flow_run_id])


_OPEN = (branches.c.flow_run_id == bindparam("run"), branches.c.state != BranchState.DONE)

# In the order of their ids, as every batch does it: an UPDATE alone would lock them in any.
_LOCK_BRANCHES = select(branches.c.id).where(*_OPEN).order_by(branches.c.id).with_for_update()

_STOP_BRANCHES = (
    update(branches)
    .where(*_OPEN)
    .values(
        state=BranchState.DONE,
        claim=branches.c.claim + 1,
        worker_id=None,
        task_run_id=None,
        wake_at=None,
    )
)
