"""The facts of why a run stands still, read in one snapshot and bounded in number."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import orjson
from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    case,
    func,
    literal_column,
    select,
)

from shared.definition import FlowDefinition, wait_for
from shared.flow import Flow, prepare_flow
from shared.ids import FlowRunId
from shared.models import Branch, FlowRun, Join, StoredDefinition, TaskRun, TaskType, WorkerRow
from shared.paths import FINALLY_PATH
from shared.pools import serves
from shared.queries.endings import left_to_undo
from shared.queries.joins import joins_not_run
from shared.queries.lines import read_lines
from shared.queries.rows import AnyRow
from shared.queries.sub_flows import runs_of_visits
from shared.standing import (
    AtJoin,
    Fact,
    ForItems,
    ForRun,
    ForSignal,
    HeldBack,
    InEnding,
    InLine,
    Over,
    Place,
    Ready,
    Retrying,
    Running,
    Sleeping,
)
from shared.status import BranchState, Outcome, RunStatus
from shared.undoing import parse_ending

branches = Branch.__table__
runs = FlowRun.__table__
joins = Join.__table__
task_runs = TaskRun.__table__
workers = WorkerRow.__table__
task_types = TaskType.__table__
definitions = StoredDefinition.__table__

MAX_TOLD = 100
"""Branches that are told about; of the rest only the number."""
_MAX_STANDING = 1_000
"""Branches among which those are looked for that a join waits for."""
_MAX_AHEAD = 10_000
"""A queue that is longer is told to be as long as this."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What the caller's clocks and settings say."""

    now: datetime
    lease_now: float
    lease_seconds: float
    heartbeat_seconds: float
    max_losses: int


@dataclass(frozen=True, slots=True)
class Standing:
    """A run, and the facts about what it waits for."""

    status: RunStatus
    facts: Sequence[Fact]
    more: int
    """Open branches that are not told about."""


@dataclass(frozen=True, slots=True)
class _Around:
    """What the branches' facts are made of, each read once."""

    at: Moment
    flow: Flow
    workers: Sequence[AnyRow]
    able: Mapping[str, frozenset[str]]
    """Task type -> the workers that can run it."""
    holders: Mapping[str, AnyRow]
    started: Mapping[str, datetime]
    ahead: Mapping[str, int]
    standing: Sequence[AnyRow]
    books: Mapping[str, AnyRow]
    awaited: Mapping[str, AnyRow]
    """Runs of sub-flows, by the task runs that wait for them."""
    lines: Mapping[str, InLine]
    """Branch -> what it waits for under a limit."""


def read_standing(connection: Connection, flow_run_id: FlowRunId, at: Moment) -> Standing | None:
    """Why the run stands where it does; None where there is no such run."""
    run = connection.execute(
        select(
            runs.c.status,
            runs.c.outcome,
            runs.c.error,
            runs.c.finished_at,
            runs.c.ending,
            runs.c.definition_hash,
            definitions.c.content,
        )
        .join(definitions, definitions.c.hash == runs.c.definition_hash)
        .where(runs.c.id == flow_run_id)
    ).one_or_none()
    if run is None:
        return None
    flow = prepare_flow(FlowDefinition.model_validate_json(run.content), run.definition_hash)
    status = RunStatus(run.status)
    if status is not RunStatus.RUNNING:
        end = _over(run, status)
        facts: list[Fact] = [end, *joins_not_run(connection, flow_run_id, flow, end)]
        return Standing(status, facts[:MAX_TOLD], max(len(facts) - MAX_TOLD, 0))
    total = connection.execute(
        select(func.count()).select_from(branches).where(*_open(flow_run_id))
    ).scalar_one()
    told = _told(connection, flow_run_id)
    around = _around(connection, flow_run_id, at, flow, told)
    facts = [_fact(row, around) for row in told]
    if run.ending is not None:
        facts.insert(0, _in_ending(connection, flow_run_id, run, flow, told))
    return Standing(status, facts, max(total - len(told), 0))


def _in_ending(
    connection: Connection, flow_run_id: FlowRunId, run: AnyRow, flow: Flow, told: Sequence[AnyRow]
) -> InEnding:
    ending = parse_ending(run.ending)
    comes_to = ending.concluded()
    has_begun_last = any(row.path == FINALLY_PATH for row in told)
    return InEnding(
        status=comes_to.status,
        outcome=comes_to.outcome,
        error_type=None if comes_to.error is None else str(comes_to.error["type"]),
        left=left_to_undo(connection, flow_run_id),
        failed=ending.failed,
        last=None if has_begun_last or flow.undoing is None else flow.undoing.last,
    )


def _open(flow_run_id: FlowRunId) -> tuple[ColumnElement[bool], ...]:
    return (branches.c.flow_run_id == flow_run_id, branches.c.state != BranchState.DONE)


def _told(connection: Connection, flow_run_id: FlowRunId) -> Sequence[AnyRow]:
    """The branches to tell about; those first that others wait for."""
    at_join = and_(
        branches.c.state == BranchState.WAITING,
        branches.c.task_run_id.is_(None),
        branches.c.wake_at.is_(None),
        branches.c.signal.is_(None),
        branches.c.items_left == 0,
    )
    statement = (
        select(
            branches.c.id,
            branches.c.path,
            branches.c.state,
            branches.c.task,
            branches.c.task_type,
            branches.c.queue,
            branches.c.failed_attempts,
            branches.c.task_run_id,
            branches.c.worker_id,
            branches.c.losses,
            branches.c.priority,
            branches.c.ready_at,
            branches.c.wake_at,
            branches.c.signal,
            branches.c.parent_id,
            branches.c.item_count,
            branches.c.items_left,
            branches.c.items_failed,
        )
        .where(*_open(flow_run_id))
        .order_by(case((at_join, 1), else_=0), branches.c.id)
        .limit(MAX_TOLD)
    )
    return connection.execute(statement).all()


def _around(
    connection: Connection,
    flow_run_id: FlowRunId,
    at: Moment,
    flow: Flow,
    told: Sequence[AnyRow],
) -> _Around:
    live = connection.execute(
        select(workers.c.id, workers.c.queues, workers.c.concurrency).where(
            workers.c.state == "live", workers.c.heartbeat >= at.lease_now - at.lease_seconds
        )
    ).all()
    able: dict[str, set[str]] = {}
    wanted = sorted({row.task_type for row in told})
    for row in connection.execute(
        select(task_types.c.name, task_types.c.worker_id).where(
            task_types.c.name.in_(wanted), task_types.c.worker_id.in_([w.id for w in live])
        )
    ):
        able.setdefault(row.name, set()).add(row.worker_id)
    held = sorted({row.worker_id for row in told if row.worker_id})
    holders = connection.execute(
        select(workers.c.id, workers.c.host, workers.c.state, workers.c.heartbeat).where(
            workers.c.id.in_(held)
        )
    ).all()
    opened = sorted({row.task_run_id for row in told if row.task_run_id})
    started = connection.execute(
        select(task_runs.c.id, task_runs.c.started_at).where(task_runs.c.id.in_(opened))
    ).all()
    standing = connection.execute(
        select(branches.c.path, branches.c.task)
        .where(*_open(flow_run_id), branches.c.parent_id.is_(None))
        .order_by(branches.c.id)
        .limit(_MAX_STANDING)
    ).all()
    books = connection.execute(
        select(joins.c.task, joins.c.arrived, joins.c.missed).where(
            joins.c.flow_run_id == flow_run_id
        )
    ).all()
    return _Around(
        at=at,
        flow=flow,
        workers=live,
        able={name: frozenset(ids) for name, ids in able.items()},
        holders={row.id: row for row in holders},
        started={row.id: row.started_at for row in started},
        ahead=_ahead(connection, told),
        standing=standing,
        books={row.task: row for row in books},
        awaited=runs_of_visits(connection, opened),
        lines=read_lines(connection, [r for r in told if r.state == BranchState.WAITING], at.now),
    )


def _ahead(connection: Connection, told: Sequence[AnyRow]) -> dict[str, int]:
    """How many ready branches of its queue are to be taken before each ready branch.

    One walk of a queue's index for each queue: a literal, because SQLite does not use a partial
    index for a parameter.
    """
    found: dict[str, int] = {}
    waiting = [row for row in told if row.state == BranchState.READY]
    for queue in sorted({row.queue for row in waiting}):
        mine = sorted((_turn(row), str(row.id)) for row in waiting if row.queue == queue)
        rows = connection.execute(
            select(branches.c.priority, branches.c.ready_at)
            .where(branches.c.state == literal_column("'ready'"), branches.c.queue == queue)
            .order_by(branches.c.priority.desc(), branches.c.ready_at)
            .limit(_MAX_AHEAD)
        )
        turns = [_turn(row) for row in rows]
        for turn, branch in mine:
            found[branch] = bisect_left(turns, turn)
    return found


def _turn(row: AnyRow) -> tuple[int, float]:
    """What decides who goes first: the priority, then who has waited longer."""
    return -row.priority, row.ready_at


def _fact(row: AnyRow, around: _Around) -> Fact:
    place = Place(row.path, row.task)
    if row.state == BranchState.READY:
        return _ready(row, place, around)
    if row.state == BranchState.RUNNING:
        return _running(row, place, around)
    line = around.lines.get(row.id)
    if line is not None:
        return line
    seconds = None if row.wake_at is None else (row.wake_at - around.at.now).total_seconds()
    if row.items_left and (awaited := around.awaited.get(row.task_run_id)) is not None:
        return ForRun(place, awaited.id, awaited.flow_id, RunStatus(awaited.status))
    if row.items_left:
        return ForItems(place, row.item_count, row.items_left, row.items_failed)
    if row.signal is not None:
        return ForSignal(place, row.signal, row.wake_at, seconds)
    if seconds is not None and row.task_run_id:
        return Sleeping(place, row.wake_at, seconds)
    task = around.flow.tasks[row.task]
    if seconds is not None:
        most = row.failed_attempts + 1 if task.retry is None else task.retry.max_attempts
        return Retrying(place, row.failed_attempts + 1, most, row.wake_at, seconds)
    if row.parent_id is not None:
        return HeldBack(place, task.concurrency)
    return _at_join(place, around)


def _ready(row: AnyRow, place: Place, around: _Around) -> Ready:
    serving = [one for one in around.workers if serves(orjson.loads(one.queues), row.queue)]
    able = around.able.get(row.task_type, frozenset())
    return Ready(
        place=place,
        task_type=row.task_type,
        queue=row.queue,
        ahead=around.ahead[str(row.id)],
        queue_workers=len(serving),
        queue_slots=sum(one.concurrency for one in serving),
        able_workers=sum(one.id in able for one in serving),
        losses=row.losses,
        max_losses=around.at.max_losses,
    )


def _running(row: AnyRow, place: Place, around: _Around) -> Running:
    at, holder = around.at, around.holders.get(row.worker_id)
    silent = at.lease_seconds if holder is None else max(at.lease_now - holder.heartbeat, 0.0)
    is_lost = holder is None or holder.state == "lost"
    return Running(
        place=place,
        worker=row.worker_id,
        host="an unknown host" if holder is None else holder.host,
        since=around.started.get(row.task_run_id),
        silent_seconds=silent,
        rescue_seconds=0.0 if is_lost else at.lease_seconds - silent,
        is_late=is_lost or silent > 2 * at.heartbeat_seconds,
    )


def _at_join(place: Place, around: _Around) -> AtJoin:
    graph, books = around.flow.graph, around.books.get(place.task)
    bit = graph.bits[graph.numbers[place.task]]
    coming = [
        Place(row.path, row.task)
        for row in around.standing
        if graph.reach[graph.numbers[row.task]] & bit
    ]
    rule = wait_for(around.flow.tasks[place.task].join)
    return AtJoin(
        place=place,
        waits_for=coming,
        arrived=0 if books is None else books.arrived,
        missed=0 if books is None else books.missed,
        needed=None if rule is None else rule.wait_for,
    )


def _over(run: AnyRow, status: RunStatus) -> Over:
    error = orjson.loads(run.error) if run.error else {}
    return Over(
        status=status,
        outcome=None if run.outcome is None else Outcome(run.outcome),
        finished_at=run.finished_at,
        task=error.get("task"),
        error_type=error.get("type"),
        error=error.get("message"),
    )
