"""What tasks of a run have come to so far, for the tasks that run after them."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from shared.ids import FlowRunId, TaskRunId
from shared.models import NO_INDEX, Branch, SignalRow, StoredDefinition, TaskRun
from shared.status import TaskRunStatus

task_runs = TaskRun.__table__
branches = Branch.__table__
signals = SignalRow.__table__
definitions = StoredDefinition.__table__

_MAX_NAMES = 500
"""Beyond it all results of the run are read: cheaper than so long a list of names."""


@dataclass(frozen=True, slots=True)
class StoredResult:
    """A finished visit's result, as stored."""

    success: bool
    data: bytes | None
    error: bytes | None
    iteration: int


def earlier_results(
    connection: Connection, flow_run_id: FlowRunId, tasks: Collection[str]
) -> dict[str, StoredResult]:
    """The last result of each of ``tasks`` that has one, by name."""
    wanted = [
        task_runs.c.flow_run_id == flow_run_id,
        task_runs.c.status.in_([TaskRunStatus.SUCCESS, TaskRunStatus.FAILED]),
        # The items of a list count by the list that their visit gives.
        task_runs.c.item_index == NO_INDEX,
    ]
    if len(tasks) <= _MAX_NAMES:
        wanted.append(task_runs.c.task.in_(sorted(tasks)))
    rows = connection.execute(
        select(
            task_runs.c.task,
            task_runs.c.iteration,
            task_runs.c.status,
            task_runs.c.data,
            task_runs.c.error,
        )
        .where(*wanted)
        .order_by(task_runs.c.task, task_runs.c.iteration, task_runs.c.attempt)
    )
    return {
        row.task: StoredResult(
            row.status == TaskRunStatus.SUCCESS, row.data, row.error, row.iteration
        )
        for row in rows
        if row.task in tasks
    }


def task_and_data(
    connection: Connection, task_run_id: TaskRunId
) -> tuple[str, bytes | None] | None:
    """The task and the data of one task run."""
    row = connection.execute(
        select(task_runs.c.task, task_runs.c.data).where(task_runs.c.id == task_run_id)
    ).one_or_none()
    return None if row is None else (row.task, row.data)


def joined_data(
    connection: Connection, flow_run_id: FlowRunId, joined_by: TaskRunId
) -> dict[str, bytes | None]:
    """What the branches that a join merged brought along, by the task they came from."""
    rows = connection.execute(
        select(task_runs.c.task, task_runs.c.data)
        .join(branches, branches.c.previous_id == task_runs.c.id)
        .where(branches.c.flow_run_id == flow_run_id, branches.c.joined_by == joined_by)
        .order_by(task_runs.c.task)
    )
    return {row.task: row.data for row in rows}


@dataclass(frozen=True, slots=True)
class ItemResult:
    """What the last attempt at one item came to."""

    index: int
    success: bool
    data: bytes | None
    error: bytes | None


def item_results(
    connection: Connection, flow_run_id: FlowRunId, task: str, iteration: int
) -> list[ItemResult]:
    """The items of one visit that have a result, in their order."""
    rows = connection.execute(
        select(task_runs.c.item_index, task_runs.c.status, task_runs.c.data, task_runs.c.error)
        .where(
            task_runs.c.flow_run_id == flow_run_id,
            task_runs.c.task == task,
            task_runs.c.iteration == iteration,
            task_runs.c.item_index > NO_INDEX,
            task_runs.c.status.in_([TaskRunStatus.SUCCESS, TaskRunStatus.FAILED]),
        )
        .order_by(task_runs.c.item_index, task_runs.c.attempt)
    )
    # Of each item the last attempt is kept.
    found = {
        row.item_index: ItemResult(
            row.item_index, row.status == TaskRunStatus.SUCCESS, row.data, row.error
        )
        for row in rows
    }
    return list(found.values())


@dataclass(frozen=True, slots=True)
class StoredSignal:
    """A signal as it was sent."""

    name: str
    data: bytes | None


def taken_signal(connection: Connection, task_run_id: TaskRunId) -> StoredSignal | None:
    """The signal that ended the wait of a task run, if one did."""
    row = connection.execute(
        select(signals.c.name, signals.c.data).where(signals.c.task_run_id == task_run_id)
    ).first()
    return None if row is None else StoredSignal(row.name, row.data)


def visit_began(
    connection: Connection, flow_run_id: FlowRunId, task: str, iteration: int, index: int
) -> datetime | None:
    """When the first attempt at a visit was started."""
    began: datetime | None = connection.execute(
        select(task_runs.c.started_at)
        .where(
            task_runs.c.flow_run_id == flow_run_id,
            task_runs.c.task == task,
            task_runs.c.iteration == iteration,
            task_runs.c.item_index == index,
        )
        .order_by(task_runs.c.attempt)
        .limit(1)
    ).scalar_one_or_none()
    return began


def definition_content(connection: Connection, definition_hash: str) -> bytes:
    """A stored definition."""
    content: bytes = connection.execute(
        select(definitions.c.content).where(definitions.c.hash == definition_hash)
    ).scalar_one()
    return content
