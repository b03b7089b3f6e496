"""Upkeep: wake what is due, give up what kills its workers, delete what is old."""

from datetime import UTC, datetime

import orjson
from sqlalchemy import Connection, bindparam, delete, select, update

from shared.ids import BranchId, FlowRunId, new_id
from shared.models import (
    Branch,
    DefinitionVersion,
    FlowRun,
    Join,
    LogLine,
    SignalRow,
    StoredDefinition,
    TaskRun,
)
from shared.models_webhooks import WebhookDelivery
from shared.statements import Row, Statement
from shared.status import BranchState, Reason, RunStatus, TaskRunStatus
from shared.store.reruns import is_not_needed, needed_among
from shared.store.stopping import fail_run, lock_runs
from shared.store.undoing import Begun, Standing, give_up_visit, read_standings
from shared.undoing import Told

branches = Branch.__table__
runs = FlowRun.__table__
task_runs = TaskRun.__table__

_WAKE_BATCH = 2_000
_PRUNE_BATCH = 500


def wake_due(connection: Connection, ready_at: float) -> list[BranchId]:
    """Make the branches ready whose time has come."""
    due = list(connection.execute(_DUE, {"now": datetime.now(UTC), "most": _WAKE_BATCH}).scalars())
    if due:
        connection.execute(_WAKE, [{"b_id": branch, "b_ready_at": ready_at} for branch in due])
    return due


def give_up(connection: Connection, max_losses: int, begun: Begun | None = None) -> list[FlowRunId]:
    """Fail the runs of free branches that have cost too many workers; return those that are
    over by that. In the ending of a run only the visit fails.

    ``begun`` takes up the endings that begin, or go on.
    """
    begun = begun or Begun(0)
    hopeless = _HOPELESS.all(connection, {"most": max_losses})
    doomed = {row.flow_run_id: row.id for row in hopeless}
    if not doomed:
        return []
    now = datetime.now(UTC)
    over: list[FlowRunId] = []
    runs_ = lock_runs(connection, list(doomed))
    running = [run for run, row in runs_.items() if row.status == RunStatus.RUNNING]
    standings = read_standings(connection, running)
    for flow_run_id in running:
        # Its run may have been ended, or be in its ending, since it was looked for.
        found = _STILL_HOPELESS.all(connection, {"id": doomed[flow_run_id], "most": max_losses})
        if found and _give_up(connection, found[0], standings[flow_run_id], max_losses, now, begun):
            over.append(flow_run_id)
    return over


def _give_up(
    connection: Connection,
    branch: Row,
    standing: Standing,
    losses: int,
    now: datetime,
    begun: Begun,
) -> bool:
    """Record that nobody could run what a locked branch stands at; whether its run is over."""
    flow_run_id = FlowRunId(branch.flow_run_id)
    error: Told = {
        "type": "WorkerLost",
        "message": f"{losses} workers were lost while they ran this task",
        "traceback": None,
    }
    connection.execute(task_runs.insert(), _lost_task_run(branch, error, now))
    if standing.is_ending:
        assert standing.undoing is not None
        return give_up_visit(connection, branch, standing.undoing, error, now, begun)
    return fail_run(
        connection,
        flow_run_id,
        orjson.dumps({"task": branch.task, **error}),
        f"{Reason.SIBLING_FAILED}:{branch.task}",
        now,
        standing.undoing,
        begun,
    )


def _lost_task_run(branch: Row, error: Told, now: datetime) -> dict[str, object]:
    return {
        "id": new_id(),
        "flow_run_id": branch.flow_run_id,
        "branch_id": branch.id,
        "branch": branch.path,
        "task": branch.task,
        "task_type": branch.task_type,
        "iteration": branch.iteration,
        "item_index": branch.item_index,
        "attempt": branch.attempt + 1,
        "status": TaskRunStatus.FAILED,
        "reason": Reason.WORKER_LOST,
        "error": orjson.dumps(error),
        "started_at": now,
        "finished_at": now,
    }


def fail_overdue(connection: Connection, begun: Begun | None = None) -> list[FlowRunId]:
    """Fail the runs that are not over by their deadline; return those that are over by that.

    ``begun`` takes up the endings that begin.
    """
    begun = begun or Begun(0)
    now = datetime.now(UTC)
    overdue = [row.id for row in connection.execute(_OVERDUE, {"now": now, "most": _WAKE_BATCH})]
    locked = lock_runs(connection, overdue)
    running = [run for run, row in locked.items() if row.status == RunStatus.RUNNING]
    error = {
        "task": None,
        "type": "RunTimeout",
        "message": "the run was not over within its timeout",
        "traceback": None,
    }
    told, reason = orjson.dumps(error), Reason.RUN_TIMED_OUT
    return [
        flow_run_id
        for flow_run_id, standing in read_standings(connection, running).items()
        if not standing.is_ending
        and fail_run(connection, flow_run_id, told, reason, now, standing.undoing, begun)
    ]


def prune_runs(connection: Connection, before: datetime) -> int:
    """Delete some of the runs that finished before a time, with all that belongs to them.

    Those are kept of which a rerun that is not over keeps results.
    """
    found = connection.execute(
        select(runs.c.id)
        .where(runs.c.finished_at < before, is_not_needed())
        .limit(_PRUNE_BATCH)
        .with_for_update(skip_locked=True)
    ).scalars()
    locked = set(found)
    # Asked again once they are locked: a rerun may have been made in between.
    old = sorted(locked - needed_among(connection, locked)) if locked else []
    if not old:
        return 0
    for table in (LogLine, SignalRow, WebhookDelivery, TaskRun, Branch, Join):
        column = table.__table__.c.flow_run_id
        connection.execute(delete(table.__table__).where(column.in_(old)))
    connection.execute(delete(runs).where(runs.c.id.in_(old)))
    return len(old)


def prune_definitions(connection: Connection, before: datetime) -> int:
    """Delete definitions stored before a time that neither a run nor a flow's version uses."""
    definitions = StoredDefinition.__table__
    versions = DefinitionVersion.__table__
    used = select(runs.c.id).where(runs.c.definition_hash == definitions.c.hash).exists()
    offered = (
        select(versions.c.version)
        .where(versions.c.hash == definitions.c.hash, versions.c.deleted_at.is_(None))
        .exists()
    )
    # Locked first, and looked at again by a statement of its own: on PostgreSQL one statement
    # would judge by what was committed before it had to wait.
    old = connection.execute(
        select(definitions.c.hash)
        .where(definitions.c.created_at < before, ~used, ~offered)
        .order_by(definitions.c.hash)
        .limit(_PRUNE_BATCH)
        .with_for_update(skip_locked=True)
    ).scalars()
    gone = connection.execute(
        delete(definitions).where(definitions.c.hash.in_(list(old)), ~used, ~offered)
    )
    return gone.rowcount


_OVERDUE = (
    select(runs.c.id)
    .where(
        runs.c.deadline <= bindparam("now"),
        runs.c.finished_at.is_(None),
        runs.c.deadline.is_not(None),
    )
    .order_by(runs.c.deadline)
    .limit(bindparam("most"))
)

_IS_HOPELESS = (
    branches.c.state == BranchState.READY,
    branches.c.losses >= bindparam("most"),
)

_HOPELESS = Statement(select(branches.c.id, branches.c.flow_run_id).where(*_IS_HOPELESS))

_STILL_HOPELESS = Statement(
    select(
        branches.c.id,
        branches.c.flow_run_id,
        branches.c.task,
        branches.c.task_type,
        branches.c.path,
        branches.c.iteration,
        branches.c.attempt,
        branches.c.item_index,
        branches.c.previous_id,
    )
    .where(branches.c.id == bindparam("id"), *_IS_HOPELESS)
    .with_for_update()
)

_DUE = (
    select(branches.c.id)
    .where(
        branches.c.wake_at <= bindparam("now"),
        branches.c.state == BranchState.WAITING,
    )
    .order_by(branches.c.wake_at)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)
)

_WAKE = (
    update(branches)
    .where(branches.c.id == bindparam("b_id"), branches.c.state == BranchState.WAITING)
    .values(state=BranchState.READY, ready_at=bindparam("b_ready_at"))
)
