"""Workers, what they can run, and how much there is to do."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import orjson
from sqlalchemy import (
    Connection,
    Select,
    String,
    and_,
    case,
    cast,
    func,
    literal,
    literal_column,
    select,
)

from shared.models import Branch, FlowRun
from shared.models_workers import TaskType, WorkerRow
from shared.queries.rows import AnyRow
from shared.status import RunStatus

workers = WorkerRow.__table__
task_type_rows = TaskType.__table__
branches = Branch.__table__
runs = FlowRun.__table__

WorkerState = Literal["live", "stopping", "stopped", "lost"]

MAX_WORKERS = 1_000
"""Workers of one list, the newest first."""
_RECENT_WORKERS = 20
"""Where no worker lives: so many of the last ones tell which types there will be again."""
_MAX_DURATIONS = 1_000
"""Runs of which the latencies are taken."""


@dataclass(frozen=True, slots=True)
class Durations:
    """Percentiles in milliseconds."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class Stats:
    """How the whole installation stands at this moment."""

    runs: dict[str, int]
    """Stored runs by status."""
    branches: dict[str, int]
    """Branches that are not done, by state."""
    queues: dict[str, int]
    """Ready branches by queue: what waits for a worker."""
    oldest_ready_since: float | None
    """Lease time since when the branch waits that waits longest."""
    workers: dict[str, int]
    """Workers that have not stopped or been lost, by state."""
    finished: int
    """Runs that ended since the time asked for."""
    durations: Durations | None
    """From accepted to finished, of the latest of them; None where there is none."""


def list_workers(
    connection: Connection, states: Sequence[WorkerState] = ("live", "stopping")
) -> Sequence[AnyRow]:
    """Workers in these states, the newest first, with the branches that they hold."""
    held = (
        select(func.count())
        .select_from(branches)
        .where(branches.c.worker_id == workers.c.id)
        .correlate(workers)
        .scalar_subquery()
    )
    statement = (
        select(
            workers.c.id,
            workers.c.host,
            workers.c.pid,
            workers.c.version,
            workers.c.queues,
            workers.c.concurrency,
            workers.c.state,
            workers.c.started_at,
            workers.c.seen_at,
            workers.c.stopped_at,
            held.label("running"),
        )
        .where(workers.c.state.in_(states))
        .order_by(workers.c.id.desc())
        .limit(MAX_WORKERS)
    )
    return connection.execute(statement).all()


def task_types(connection: Connection) -> Sequence[AnyRow]:
    """The types that live workers can run, each once, with the number of those workers.

    Where no worker lives, those of the last ones, with a number of 0. Where two workers tell
    differently about a type, the newest is believed.
    """
    live = select(workers.c.id).where(workers.c.state == "live")
    found = _types_of(connection, live, counted=True)
    if found:
        return found
    recent = select(workers.c.id).order_by(workers.c.id.desc()).limit(_RECENT_WORKERS)
    return _types_of(connection, recent, counted=False)


def advertised_types(connection: Connection) -> dict[str, bytes | None]:
    """The names of :func:`task_types`, with the JSON Schemas of their params."""
    return {str(row.name): row.params_schema for row in task_types(connection)}


def served_queues(connection: Connection) -> frozenset[str] | None:
    """The queues that live workers take or, where none lives, the last ones took.

    None where there never was a worker.
    """
    rows = connection.execute(
        select(workers.c.state, workers.c.queues)
        .order_by(case((workers.c.state == "live", 0), else_=1), workers.c.id.desc())
        .limit(MAX_WORKERS)
    ).all()
    live = [row for row in rows if row.state == "live"]
    told = live or rows[:_RECENT_WORKERS]
    return frozenset(queue for row in told for queue in orjson.loads(row.queues)) or None


def stats(connection: Connection, finished_since: datetime) -> Stats:
    """Counts, depths and latencies; throughput is that of the time since ``finished_since``."""
    by_status = select(
        runs.c.status,
        func.count(),
        func.sum(case((runs.c.status == RunStatus.RUNNING, runs.c.active), else_=0)),
    ).group_by(runs.c.status)
    # A literal, because SQLite does not use a partial index for a parameter.
    ready = (
        select(branches.c.queue, func.count(), func.min(branches.c.ready_at))
        .where(branches.c.state == literal_column("'ready'"))
        .group_by(branches.c.queue)
    )
    held = select(func.count()).select_from(branches).where(branches.c.worker_id.is_not(None))
    live = (
        select(workers.c.state, func.count())
        .where(workers.c.state.in_(["live", "stopping"]))
        .group_by(workers.c.state)
    )
    statuses = connection.execute(by_status).all()
    queues = connection.execute(ready).all()
    active = sum(int(row[2] or 0) for row in statuses)
    waiting_for_worker = sum(int(row[1]) for row in queues)
    running = connection.execute(held).scalar_one()
    finished, durations = _finished(connection, finished_since)
    return Stats(
        runs=_counts(statuses),
        branches={
            "ready": waiting_for_worker,
            "running": running,
            "waiting": max(active - waiting_for_worker - running, 0),
        },
        queues=_counts(queues),
        oldest_ready_since=min((float(row[2]) for row in queues), default=None),
        workers=_counts(connection.execute(live).all()),
        finished=finished,
        durations=durations,
    )


def _counts(rows: Sequence[AnyRow]) -> dict[str, int]:
    return {str(row[0]): int(row[1]) for row in rows}


def _finished(connection: Connection, since: datetime) -> tuple[int, Durations | None]:
    count = select(func.count()).select_from(runs).where(runs.c.finished_at >= since)
    times = (
        select(runs.c.created_at, runs.c.finished_at)
        .where(runs.c.finished_at >= since)
        .order_by(runs.c.finished_at.desc())
        .limit(_MAX_DURATIONS)
    )
    milliseconds = sorted(
        (row.finished_at - row.created_at).total_seconds() * 1_000
        for row in connection.execute(times).all()
    )
    return connection.execute(count).scalar_one(), _percentiles(milliseconds)


def _percentiles(ordered: Sequence[float]) -> Durations | None:
    if not ordered:
        return None

    def at(share: float) -> float:
        return round(ordered[min(int(len(ordered) * share), len(ordered) - 1)], 3)

    return Durations(at(0.50), at(0.95), at(0.99))


def _types_of(
    connection: Connection, worker_ids: Select[tuple[str]], *, counted: bool
) -> Sequence[AnyRow]:
    """The types of these workers, as the newest of each tells about it."""
    newest = (
        select(
            task_type_rows.c.name,
            func.max(cast(task_type_rows.c.worker_id, String)).label("worker_id"),
            func.count().label("workers"),
        )
        .where(task_type_rows.c.worker_id.in_(worker_ids))
        .group_by(task_type_rows.c.name)
        .subquery()
    )
    statement = (
        select(
            task_type_rows.c.name,
            task_type_rows.c.description,
            task_type_rows.c.params_schema,
            task_type_rows.c.source,
            newest.c.workers if counted else literal(0).label("workers"),
        )
        .join(
            newest,
            and_(
                newest.c.name == task_type_rows.c.name,
                newest.c.worker_id == cast(task_type_rows.c.worker_id, String),
            ),
        )
        .order_by(task_type_rows.c.name)
    )
    return connection.execute(statement).all()
