"""What a run did, for a rerun that keeps results of it. A run that is over never changes."""

from collections.abc import Collection, Iterable, Sequence

from sqlalchemy import Connection, select

from shared.ids import FlowRunId, TaskRunId
from shared.models import NO_INDEX, Branch, FlowRun, StoredDefinition, TaskRun
from shared.queries.rows import AnyRow
from shared.replay import Past, PastVisit, is_replayed
from shared.status import RunStatus, TaskRunStatus

branches = Branch.__table__
definitions = StoredDefinition.__table__
runs = FlowRun.__table__
task_runs = TaskRun.__table__


def read_past(connection: Connection, source: FlowRunId) -> Past:
    """All that a run did, without what its tasks returned."""
    rows = connection.execute(
        select(
            task_runs.c.id,
            task_runs.c.task,
            task_runs.c.iteration,
            task_runs.c.branch,
            task_runs.c.previous_id,
            task_runs.c.status,
            task_runs.c.reason,
            task_runs.c.error.is_not(None).label("raised"),
        )
        .where(task_runs.c.flow_run_id == source, task_runs.c.item_index == NO_INDEX)
        .order_by(task_runs.c.task, task_runs.c.iteration, task_runs.c.attempt)
    ).all()
    stood = connection.execute(
        select(branches.c.path, branches.c.previous_id, branches.c.joined_by).where(
            branches.c.flow_run_id == source, branches.c.previous_id.is_not(None)
        )
    ).all()
    status = connection.execute(select(runs.c.status).where(runs.c.id == source)).scalar()
    visits = _visits(rows, stood)
    came = [row.previous_id for row in rows if row.previous_id and is_replayed(row.branch)]
    undone = {row.previous_id for row in rows if row.previous_id and not is_replayed(row.branch)}
    if undone:
        lists = _lists_of(connection, source, undone)
        undone |= {one.task_run_id for one in visits if (one.task, one.iteration) in lists}
    return Past(
        visits=visits,
        passed=frozenset(came).union(row.previous_id for row in stood if is_replayed(row.path)),
        undone=frozenset(undone),
        is_completed=status == RunStatus.COMPLETED,
    )


def _lists_of(
    connection: Connection, source: FlowRunId, undone: Collection[str]
) -> set[tuple[str, int]]:
    """The visits, by task and iteration, of which an item was undone."""
    rows = connection.execute(
        select(task_runs.c.id, task_runs.c.task, task_runs.c.iteration).where(
            task_runs.c.flow_run_id == source, task_runs.c.item_index > NO_INDEX
        )
    )
    return {(row.task, row.iteration) for row in rows if row.id in undone}


def _visits(rows: Iterable[AnyRow], stood: Iterable[AnyRow]) -> list[PastVisit]:
    """The visits by their attempts; of each the last attempt counts."""
    merged: dict[str, set[str]] = {}
    for row in stood:
        if row.joined_by is not None:
            merged.setdefault(row.joined_by, set()).add(row.previous_id)
    origins: dict[tuple[str, int], frozenset[str]] = {}
    found: dict[tuple[str, int], PastVisit] = {}
    for row in rows:
        visit = (row.task, row.iteration)
        # Branches that a join merged know its visit by the first attempt.
        together = {row.previous_id, *merged.get(row.id, ())} - {None}
        origins[visit] = origins.get(visit, frozenset()) | together
        found[visit] = PastVisit(
            task_run_id=row.id,
            task=row.task,
            iteration=row.iteration,
            path=row.branch,
            origins=origins[visit],
            status=TaskRunStatus(row.status),
            reason=row.reason,
            raised=bool(row.raised),
        )
    return list(found.values())


def definition_of_source(connection: Connection, source: FlowRunId) -> tuple[str, bytes] | None:
    """The hash and the content of the definition that a run ran."""
    row = connection.execute(
        select(definitions.c.hash, definitions.c.content)
        .join_from(runs, definitions, definitions.c.hash == runs.c.definition_hash)
        .where(runs.c.id == source)
    ).one_or_none()
    return None if row is None else (row.hash, row.content)


def reasons_before(
    connection: Connection,
    flow_run_id: FlowRunId,
    previous_id: TaskRunId | None,
    joined_by: TaskRunId | None,
) -> Sequence[str | None]:
    """The reasons of the task runs that a visit came from: of all whom its join merged."""
    statement = select(task_runs.c.reason).where(task_runs.c.id == previous_id)
    if joined_by is not None:
        statement = (
            select(task_runs.c.reason)
            .join(branches, branches.c.previous_id == task_runs.c.id)
            .where(branches.c.flow_run_id == flow_run_id, branches.c.joined_by == joined_by)
        )
    elif previous_id is None:
        return ()
    return connection.execute(statement).scalars().all()


def result_of(connection: Connection, task_run_id: str) -> AnyRow:
    """What one task run came to."""
    return connection.execute(
        select(task_runs.c.status, task_runs.c.data, task_runs.c.error).where(
            task_runs.c.id == task_run_id
        )
    ).one()


def last_of_item(
    connection: Connection, source: FlowRunId, task: str, iteration: int, index: int
) -> AnyRow | None:
    """The last attempt at one item of a list, and the item."""
    return connection.execute(
        select(
            task_runs.c.id,
            task_runs.c.status,
            task_runs.c.reason,
            task_runs.c.data,
            branches.c.item,
        )
        .join(branches, branches.c.id == task_runs.c.branch_id)
        .where(
            task_runs.c.flow_run_id == source,
            task_runs.c.task == task,
            task_runs.c.iteration == iteration,
            task_runs.c.item_index == index,
        )
        .order_by(task_runs.c.attempt.desc())
        .limit(1)
    ).first()


def was_visited(connection: Connection, source: FlowRunId, task: str) -> bool:
    """Whether a run visited a task."""
    statement = select(task_runs.c.id).where(
        task_runs.c.flow_run_id == source, task_runs.c.task == task
    )
    return connection.execute(statement.limit(1)).first() is not None


def run_again(connection: Connection, source: FlowRunId) -> AnyRow | None:
    """What of a run its rerun begins with; None for an unknown run."""
    return connection.execute(
        select(runs.c.status, runs.c.flow_id, runs.c.input, definitions.c.content)
        .join_from(runs, definitions, definitions.c.hash == runs.c.definition_hash)
        .where(runs.c.id == source)
    ).one_or_none()
