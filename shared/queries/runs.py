"""Runs as they are shown: one with all that belongs to it, and lists of them.

Lists go by keyset: ids are UUIDv7, so "newest first" is "by id, descending", and a page starts
behind the last id of the page before. JSON that tasks and clients gave stays bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    String,
    and_,
    bindparam,
    case,
    cast,
    func,
    literal,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB

from shared.ids import FlowRunId, TaskRunId
from shared.models import FlowRun, LogLine, StoredDefinition, TaskRun
from shared.queries.rows import AnyRow
from shared.queries.sub_flows import runs_of_visits
from shared.status import Outcome, RunStatus, TaskRunStatus
from shared.sub_flows import SUB_FLOW_TYPE

runs = FlowRun.__table__
task_runs = TaskRun.__table__
definitions = StoredDefinition.__table__
log_lines = LogLine.__table__

MAX_TASKS = 1_000
"""Task runs that are sent with their run; more are fetched by page."""
MAX_LOG_LINES = 1_000
"""Log lines that are sent with their run: the last ones."""

_ID_SLACK = timedelta(days=1)
"""How far the time in an id may be off ``created_at``, after a clock was set back."""
_LARGEST_ID_MILLISECONDS = (1 << 48) - 1

_SUMMARY = (
    runs.c.id,
    runs.c.flow_id,
    runs.c.name,
    runs.c.status,
    runs.c.outcome,
    runs.c.tags,
    runs.c.error,
    runs.c.created_at,
    runs.c.started_at,
    runs.c.finished_at,
    runs.c.rerun_of,
    runs.c.schedule_id,
)

_TASK_RUN = (
    task_runs.c.id,
    task_runs.c.task,
    task_runs.c.task_type,
    task_runs.c.branch,
    task_runs.c.iteration,
    task_runs.c.item_index,
    task_runs.c.attempt,
    task_runs.c.status,
    task_runs.c.reason,
    task_runs.c.data,
    task_runs.c.error,
    task_runs.c.worker_id,
    task_runs.c.started_at,
    task_runs.c.finished_at,
)

_RUN = select(
    *_SUMMARY,
    runs.c.input,
    runs.c.output,
    runs.c.parent_flow_run_id,
    runs.c.ending,
    definitions.c.content.label("definition"),
)
_RUN = _RUN.join_from(
    runs, definitions, definitions.c.hash == runs.c.definition_hash, isouter=True
).where(runs.c.id == bindparam("run"))

_TASKS_OF_RUN = (
    select(*_TASK_RUN)
    .where(task_runs.c.flow_run_id == bindparam("run"))
    .order_by(task_runs.c.started_at, task_runs.c.id)
    .limit(bindparam("limit"))
)

_LAST_LOG_LINES = (
    select(log_lines.c.at, log_lines.c.level, log_lines.c.task, log_lines.c.message)
    .where(log_lines.c.flow_run_id == bindparam("run"))
    .order_by(log_lines.c.id.desc())
    .limit(bindparam("limit"))
)

_STATUS = select(runs.c.status, runs.c.finished_at, runs.c.ending).where(
    runs.c.id == bindparam("run")
)

_CHANGES = select(
    func.count(),
    func.max(task_runs.c.started_at),
    func.count(task_runs.c.finished_at),
    func.max(task_runs.c.finished_at),
    func.sum(case((task_runs.c.status == TaskRunStatus.WAITING, 1), else_=0)),
    select(func.count())
    .select_from(log_lines)
    .where(log_lines.c.flow_run_id == bindparam("run"))
    .scalar_subquery(),
).where(task_runs.c.flow_run_id == bindparam("run"))


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run with its first task runs and its last log lines."""

    run: AnyRow
    tasks: Sequence[AnyRow]
    """In the order of their start."""
    is_truncated: bool
    """Whether it has more task runs than these."""
    logs: Sequence[AnyRow]
    are_logs_truncated: bool
    children: Mapping[str, str]
    """The runs that task runs waited for, by the task runs' ids."""


@dataclass(frozen=True, slots=True)
class RunFilters:
    """Which runs a list holds; what is None does not matter."""

    status: RunStatus | None = None
    outcome: Outcome | None = None
    flow_id: str | None = None
    tag: str | None = None
    created_after: datetime | None = None
    """Created at this time or later."""
    created_before: datetime | None = None
    """Created before this time."""
    schedule_id: str | None = None
    """Started by this schedule."""
    text: str | None = None
    """Part of the name or of the flow's id, or the beginning of the run's id."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows of a list, and where the next ones begin."""

    rows: Sequence[AnyRow]
    next_cursor: str | None
    children: Mapping[str, str] = field(default_factory=dict)
    """Of a page of task runs: the runs that they waited for, by their ids."""


def get_run(
    connection: Connection, flow_run_id: FlowRunId, max_tasks: int = MAX_TASKS
) -> StoredRun | None:
    """The run with its definition, its first ``max_tasks`` task runs and its last log lines."""
    key = {"run": flow_run_id}
    run = connection.execute(_RUN, key).one_or_none()
    if run is None:
        return None
    tasks = connection.execute(_TASKS_OF_RUN, {**key, "limit": max_tasks + 1}).all()
    logs = connection.execute(_LAST_LOG_LINES, {**key, "limit": MAX_LOG_LINES + 1}).all()
    return StoredRun(
        run=run,
        tasks=tasks[:max_tasks],
        is_truncated=len(tasks) > max_tasks,
        logs=logs[MAX_LOG_LINES - 1 :: -1],
        are_logs_truncated=len(logs) > MAX_LOG_LINES,
        children=_children(connection, tasks),
    )


def list_runs(
    connection: Connection, filters: RunFilters, cursor: FlowRunId | None, limit: int
) -> Page:
    """The newest runs that pass ``filters``, from behind ``cursor`` on."""
    statement = runs_statement(connection.dialect.name, filters, cursor, limit)
    return _page(connection.execute(statement).all(), limit)


def runs_statement(
    dialect: str, filters: RunFilters, cursor: FlowRunId | None, limit: int
) -> Select[*tuple[Any, ...]]:
    """The statement of :func:`list_runs`, apart so that its plan can be looked at."""
    statement = select(*_SUMMARY).order_by(runs.c.id.desc()).limit(limit + 1)
    if cursor is not None:
        statement = statement.where(runs.c.id < cursor)
    return statement.where(*_equalities(filters), *_times(filters), *_texts(dialect, filters))


def list_task_runs(
    connection: Connection, flow_run_id: FlowRunId, cursor: TaskRunId | None, limit: int
) -> Page | None:
    """A run's task runs in the order of their start; None for an unknown run or cursor."""
    statement = (
        select(*_TASK_RUN)
        .where(task_runs.c.flow_run_id == flow_run_id)
        .order_by(task_runs.c.started_at, task_runs.c.id)
        .limit(limit + 1)
    )
    if cursor is None:
        if connection.execute(_STATUS, {"run": flow_run_id}).one_or_none() is None:
            return None
        return _task_page(connection, connection.execute(statement).all(), limit)
    started_at = connection.execute(
        select(task_runs.c.started_at).where(
            task_runs.c.id == cursor, task_runs.c.flow_run_id == flow_run_id
        )
    ).scalar_one_or_none()
    if started_at is None:
        return None
    behind = or_(
        task_runs.c.started_at > started_at,
        and_(task_runs.c.started_at == started_at, task_runs.c.id > cursor),
    )
    return _task_page(connection, connection.execute(statement.where(behind)).all(), limit)


def _task_page(connection: Connection, rows: Sequence[AnyRow], limit: int) -> Page:
    page = _page(rows, limit)
    return replace(page, children=_children(connection, page.rows))


def _children(connection: Connection, rows: Sequence[AnyRow]) -> dict[str, str]:
    """The runs of sub-flows that task runs waited for."""
    waiting = [row.id for row in rows if row.task_type == SUB_FLOW_TYPE]
    if not waiting:
        return {}
    return {task_run: row.id for task_run, row in runs_of_visits(connection, waiting).items()}


def run_version(connection: Connection, flow_run_id: FlowRunId) -> str | None:
    """A text that changes whenever what is shown of the run does; None for an unknown run.

    Far cheaper than the run itself: nothing that tasks gave is read.
    """
    run = connection.execute(_STATUS, {"run": flow_run_id}).one_or_none()
    if run is None:
        return None
    changes = connection.execute(_CHANGES, {"run": flow_run_id}).one()
    return "|".join(str(value) for value in (*run, *changes))


def definition_of_run(connection: Connection, flow_run_id: FlowRunId) -> tuple[str, bytes] | None:
    """The flow id of a run and the definition that it runs."""
    row = connection.execute(
        select(runs.c.flow_id, definitions.c.content)
        .join(definitions, definitions.c.hash == runs.c.definition_hash)
        .where(runs.c.id == flow_run_id)
    ).one_or_none()
    return None if row is None else (row.flow_id, row.content)


def flow_of_run(connection: Connection, flow_run_id: FlowRunId) -> str | None:
    """The id of the flow that a run is of; None for an unknown run."""
    return connection.execute(
        select(runs.c.flow_id).where(runs.c.id == flow_run_id)
    ).scalar_one_or_none()


def run_statuses(
    connection: Connection, flow_run_ids: Sequence[FlowRunId]
) -> dict[FlowRunId, RunStatus]:
    """Where these runs stand; unknown ones are left out."""
    statement = select(runs.c.id, runs.c.status).where(runs.c.id.in_(flow_run_ids))
    return {FlowRunId(row.id): RunStatus(row.status) for row in connection.execute(statement).all()}


def _page(rows: Sequence[AnyRow], limit: int) -> Page:
    if len(rows) <= limit:
        return Page(rows, None)
    return Page(rows[:limit], str(rows[limit - 1].id))


def _equalities(filters: RunFilters) -> list[ColumnElement[bool]]:
    wanted = [
        (runs.c.status, filters.status),
        (runs.c.outcome, filters.outcome),
        (runs.c.flow_id, filters.flow_id),
        (runs.c.schedule_id, filters.schedule_id),
    ]
    return [column == value for column, value in wanted if value is not None]


def _times(filters: RunFilters) -> list[ColumnElement[bool]]:
    """The exact condition, and one on the id that lets the index find the place."""
    conditions: list[ColumnElement[bool]] = []
    if filters.created_after is not None:
        conditions.append(runs.c.created_at >= filters.created_after)
        conditions.append(runs.c.id >= _id_of(filters.created_after, -_ID_SLACK))
    if filters.created_before is not None:
        conditions.append(runs.c.created_at < filters.created_before)
        conditions.append(runs.c.id <= _id_of(filters.created_before, _ID_SLACK))
    return conditions


def _id_of(at: datetime, slack: timedelta) -> str:
    """The first id that a run of that time could have."""
    milliseconds = int((at.timestamp() + slack.total_seconds()) * 1_000)
    head = f"{min(max(milliseconds, 0), _LARGEST_ID_MILLISECONDS):012x}"
    return f"{head[:8]}-{head[8:]}-0000-0000-000000000000"


def _texts(dialect: str, filters: RunFilters) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if filters.tag is not None:
        conditions.append(_has_tag(dialect, filters.tag))
    if filters.text is not None:
        conditions.append(
            or_(
                runs.c.name.icontains(filters.text, autoescape=True),
                runs.c.flow_id.icontains(filters.text, autoescape=True),
                cast(runs.c.id, String).startswith(filters.text.lower(), autoescape=True),
            )
        )
    return conditions


def _has_tag(dialect: str, tag: str) -> ColumnElement[bool]:
    if dialect == "postgresql":
        return cast(runs.c.tags, JSONB).contains([tag])
    tags = func.json_each(runs.c.tags).table_valued("value")
    return literal(tag, String).in_(select(tags.c.value))
