"""Branches: claim them, give them back, and take them from workers that are lost."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    bindparam,
    func,
    literal_column,
    or_,
    select,
    update,
)

from shared.ids import BranchId, FlowRunId, TaskRunId, WorkerId, new_id
from shared.models import NO_INDEX, Branch, FlowRun, TaskRun
from shared.paths import is_ending
from shared.pools import DEFAULT_QUEUE, EVERY_QUEUE
from shared.statements import Row, Statement
from shared.status import BranchState, TaskRunStatus

branches = Branch.__table__
runs = FlowRun.__table__
task_runs = TaskRun.__table__


class Visit(NamedTuple):
    """A visit of a task that this worker has begun: all it needs to run and record it."""

    branch_id: BranchId
    claim: int
    flow_run_id: FlowRunId
    path: str
    task: str
    task_type: str
    iteration: int
    attempt: int
    task_run_id: TaskRunId
    previous_id: TaskRunId | None
    joined_by: TaskRunId | None
    tracked: bool
    failed_attempts: int = 0
    """Attempts at this visit that went wrong. Lost ones are not among them."""
    resumed: bool = False
    """It waited, and what it waited for has come."""
    parent_id: BranchId | None = None
    """Of one item's visit: the branch that waits for all of them."""
    item_index: int = NO_INDEX
    item: bytes | None = None
    item_count: int = 0
    """Of a resumed visit that waited for its items: how many there were."""
    items_failed: int = 0
    signal: str | None = None
    """The signal that it waited for."""

    @property
    def is_ending(self) -> bool:
        """Whether it belongs to the ending of its run."""
        return is_ending(self.path)


@dataclass(frozen=True, slots=True)
class ClaimedRun:
    """What a worker needs to know about the run of a branch it claimed."""

    flow_id: str
    definition_hash: str
    input: bytes | None
    started_at: datetime
    rerun: bytes | None = None
    """Of a run that keeps results of another one: which (``shared.replay``)."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A branch that now is this worker's, with its visit begun."""

    visit: Visit
    run: ClaimedRun


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's wish for work."""

    worker_id: WorkerId
    queues: tuple[str, ...]
    """Its pools; with ``"*"`` every one."""
    task_types: Collection[str]
    """What the worker can run; other branches are left to others."""
    limit: int
    """Branches it has room for."""
    max_losses: int
    """A branch that cost so many workers their lives is given no other; one that is a single
    loss short of it is a suspect."""
    branch_ids: tuple[BranchId, ...] | None = None
    """Those it was rung for; None: whatever is ready, by priority, then oldest first."""
    ready_before: float | None = None
    """Lease time: without a ring, only what is ready for longer."""
    ready_after: float | None = None
    """Lease time in the future: what claims to be ready since then is from before a reboot."""
    suspects: bool = False
    """Take one suspect, and nothing else: a task that kills its worker for the last time
    must not take innocent neighbours with it."""


def claim_branches(connection: Connection, items: Sequence[Claim]) -> list[list[Claimed]]:
    """Take ready branches and begin their visits; whoever comes second gets nothing."""
    return [_claim(connection, item) for item in items]


def _claim(connection: Connection, item: Claim) -> list[Claimed]:
    rows = _ready(connection, item)
    if not rows:
        return []
    at = datetime.now(UTC)
    visits = [_begin(row) for row in rows]
    taken = [_taken(visit, item.worker_id) for visit in visits]
    _TAKE.write(connection, taken)
    # Cleared, but by a visit that sleeps: should that one be lost, it is resumed again.
    woken = [
        {"b_id": row.id}
        for row, v in zip(rows, visits, strict=True)
        if row.wake_at and not v.resumed
    ]
    if woken:
        _FORGET_TIME.write(connection, woken)
    _start_task_runs(connection, visits, item.worker_id, at)
    first = {
        v.flow_run_id
        for v in visits
        if not v.tracked and v.attempt == 1 and v.parent_id is None and not v.resumed
    }
    if first:
        _START_RUN.write(connection, [{"r_id": run, "r_at": at} for run in sorted(first)])
    found = _RUNS.all(connection, {"ids": sorted({v.flow_run_id for v in visits})})
    by_id = {
        row.id: ClaimedRun(
            row.flow_id, row.definition_hash, row.input, row.started_at or at, row.rerun
        )
        for row in found
    }
    return [Claimed(visit, by_id[visit.flow_run_id]) for visit in visits]


def _ready(connection: Connection, item: Claim) -> list[Row]:
    """Lock the branches that fit a wish; what others lock is left to them."""
    threshold = max(1, item.max_losses - 1)
    wish: dict[str, Any] = {
        "queues": item.queues,
        "types": sorted(item.task_types),
        "most": 1 if item.suspects else item.limit,
        "low": threshold if item.suspects else 0,
        "high": item.max_losses - 1 if item.suspects else threshold - 1,
    }
    takes_all = EVERY_QUEUE in item.queues
    if item.branch_ids is not None:
        rung = _RUNG_ANYWHERE if takes_all else _RUNG
        return rung.all(connection, {**wish, "ids": item.branch_ids})
    wish |= {"before": item.ready_before, "after": item.ready_after}
    queues = [row.queue for row in _WAITED_IN.all(connection, {})] if takes_all else item.queues
    if len(queues) == 1:
        return _BEST.all(connection, {**wish, "queue": queues[0]})
    # One walk of the index for each: together they would have to be sorted, however many wait.
    found = [row for each in queues for row in _BEST.all(connection, {**wish, "queue": each})]
    found.sort(key=lambda row: (-row.priority, row.ready_at))
    return found[: wish["most"]]


def queues_of(connection: Connection, branch_ids: Sequence[BranchId]) -> dict[BranchId, str]:
    """The queues of those of some branches that do not wait in the default one."""
    if not branch_ids:
        return {}
    rows = _ELSEWHERE.all(connection, {"ids": sorted(branch_ids)})
    return {BranchId(row.id): row.queue for row in rows}


def _begin(row: Row) -> Visit:
    resumed = row.task_run_id is not None
    # In the order of the fields: by their names it takes twice as long, for every claim.
    return Visit(
        row.id,
        row.claim + 1,
        row.flow_run_id,
        row.path,
        row.task,
        row.task_type,
        row.iteration,
        row.attempt if resumed else row.attempt + 1,
        row.task_run_id if resumed else _new_task_run(row),
        row.previous_id,
        row.joined_by,
        row.tracked,
        row.failed_attempts,
        resumed,
        row.parent_id,
        row.item_index,
        row.item,
        row.item_count,
        row.items_failed,
        row.signal,
    )


def _new_task_run(row: Row) -> TaskRunId:
    """The id of the attempt that begins: for the first one at a join the id by which the merged
    branches know it."""
    if row.joined_by is not None and not row.attempt and row.parent_id is None:
        return TaskRunId(row.joined_by)
    return TaskRunId(new_id())


def _taken(visit: Visit, worker_id: WorkerId) -> dict[str, object]:
    return {
        "b_id": visit.branch_id,
        "b_claim": visit.claim,
        "b_attempt": visit.attempt,
        "b_task_run": visit.task_run_id,
        "b_worker": worker_id,
    }


def _start_task_runs(
    connection: Connection, visits: Sequence[Visit], worker_id: WorkerId, at: datetime
) -> None:
    fresh = [v for v in visits if not v.resumed]
    if fresh:
        INSERT_TASK_RUN.write(connection, [task_run_row(visit, worker_id, at) for visit in fresh])
    resumed = [{"t_id": v.task_run_id, "t_worker": worker_id} for v in visits if v.resumed]
    if resumed:
        _RESUME.write(connection, resumed)


def task_run_row(visit: Visit, worker_id: WorkerId, at: datetime) -> dict[str, object]:
    """The row of a visit's attempt that begins now."""
    return {
        "id": visit.task_run_id,
        "flow_run_id": visit.flow_run_id,
        "branch_id": visit.branch_id,
        "branch": visit.path,
        "task": visit.task,
        "task_type": visit.task_type,
        "iteration": visit.iteration,
        "item_index": visit.item_index,
        "attempt": visit.attempt,
        "previous_id": visit.previous_id,
        "status": TaskRunStatus.RUNNING.value,
        "worker_id": worker_id,
        "started_at": at,
    }


_VISIT_COLUMNS = (
    branches.c.id,
    branches.c.claim,
    branches.c.flow_run_id,
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
    branches.c.wake_at,
    branches.c.parent_id,
    branches.c.item_index,
    branches.c.item,
    branches.c.item_count,
    branches.c.items_failed,
    branches.c.signal,
)

_MOST_QUEUES = 100
"""Queues that a worker looks at which takes every one; the others have their turn later."""

_MAY_RUN = (
    branches.c.state == BranchState.READY,
    branches.c.task_type.in_(bindparam("types", expanding=True)),
    branches.c.losses.between(bindparam("low"), bindparam("high")),
)


def _rung(*queues: ColumnElement[bool]) -> Statement:
    """Those of given branches that may run."""
    return Statement(
        select(*_VISIT_COLUMNS)
        .where(branches.c.id.in_(bindparam("ids", expanding=True)), *_MAY_RUN, *queues)
        .order_by(branches.c.id)
        .limit(bindparam("most"))
        .with_for_update(skip_locked=True)
    )


_RUNG_ANYWHERE = _rung()

_RUNG = _rung(
    # Kept from the index of ready branches: SQLite would walk through all of them.
    branches.c.queue.concat("").in_(bindparam("queues", expanding=True))
)

_BEST = Statement(
    select(*_VISIT_COLUMNS, branches.c.priority, branches.c.ready_at)
    .where(
        *_MAY_RUN,
        branches.c.queue == bindparam("queue"),
        or_(branches.c.ready_at <= bindparam("before"), branches.c.ready_at > bindparam("after")),
    )
    .order_by(branches.c.priority.desc(), branches.c.ready_at)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)
)

# A literal, because SQLite does not use a partial index for a parameter.
_IS_READY = branches.c.state == literal_column("'ready'")
_FIRST_QUEUE = select(func.min(branches.c.queue).label("queue")).where(_IS_READY)
_FIRST = _FIRST_QUEUE.cte("waited_in", recursive=True)
_QUEUES = _FIRST.union_all(
    select(
        select(func.min(branches.c.queue))
        .where(_IS_READY, branches.c.queue > _FIRST.c.queue)
        .scalar_subquery()
    ).where(_FIRST.c.queue.is_not(None))
)

_WAITED_IN = Statement(
    select(_QUEUES.c.queue).where(_QUEUES.c.queue.is_not(None)).limit(_MOST_QUEUES)
)
"""The queues in which branches wait: from each to the next one by the index, however many wait."""

_ELSEWHERE = Statement(
    select(branches.c.id, branches.c.queue).where(
        branches.c.id.in_(bindparam("ids", expanding=True)), branches.c.queue != DEFAULT_QUEUE
    )
)

INSERT_TASK_RUN = Statement(
    task_runs.insert(),
    columns=(
        "id",
        "flow_run_id",
        "branch_id",
        "branch",
        "task",
        "task_type",
        "iteration",
        "item_index",
        "attempt",
        "previous_id",
        "status",
        "worker_id",
        "started_at",
    ),
)

_TAKE = Statement(
    update(branches)
    .where(branches.c.id == bindparam("b_id"))
    .values(
        state=BranchState.RUNNING,
        worker_id=bindparam("b_worker"),
        claim=bindparam("b_claim"),
        attempt=bindparam("b_attempt"),
        task_run_id=bindparam("b_task_run"),
    )
)

_FORGET_TIME = Statement(
    update(branches).where(branches.c.id == bindparam("b_id")).values(wake_at=None)
)

_RESUME = Statement(
    update(task_runs)
    .where(task_runs.c.id == bindparam("t_id"), task_runs.c.status == TaskRunStatus.WAITING)
    .values(status=TaskRunStatus.RUNNING, worker_id=bindparam("t_worker"))
)

_START_RUN = Statement(
    update(runs)
    .where(runs.c.id == bindparam("r_id"), runs.c.started_at.is_(None))
    .values(started_at=bindparam("r_at"))
)

_RUNS = Statement(
    select(
        runs.c.id,
        runs.c.flow_id,
        runs.c.definition_hash,
        runs.c.input,
        runs.c.started_at,
        runs.c.rerun,
    ).where(runs.c.id.in_(bindparam("ids", expanding=True)))
)
