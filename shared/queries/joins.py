"""Why joins of a run that is over did not run."""

from collections.abc import Sequence
from typing import Literal

from sqlalchemy import Connection, case, func, select

from shared.definition import wait_for
from shared.flow import Flow
from shared.ids import FlowRunId
from shared.models import NO_INDEX, Branch, Join, TaskRun
from shared.queries.rows import AnyRow
from shared.standing import JoinNotRun, Over, Place
from shared.status import Outcome, RunStatus, TaskRunStatus

branches = Branch.__table__
joins = Join.__table__
task_runs = TaskRun.__table__

_MAX_FAILURES = 1_000


def joins_not_run(
    connection: Connection, flow_run_id: FlowRunId, flow: Flow, end: Over
) -> list[JoinNotRun]:
    """The joins that branches waited at, or missed, and that never ran."""
    graph = flow.graph
    ran = set(
        connection.execute(
            select(task_runs.c.task).where(task_runs.c.flow_run_id == flow_run_id).distinct()
        ).scalars()
    )
    idle = [graph.names[number] for number in graph.joins if graph.names[number] not in ran]
    if not idle:
        return []
    waiting = _waiting(connection, flow_run_id, idle)
    undecided = set(
        connection.execute(
            select(joins.c.task).where(
                joins.c.flow_run_id == flow_run_id,
                joins.c.upstream + joins.c.arrived + joins.c.missed > 0,
            )
        ).scalars()
    )
    failures = _failures(connection, flow_run_id)
    told = []
    for join in idle:
        arrived, merged = waiting.get(join, (0, 0))
        why: Literal["stopped", "missed", "unmet"] = "missed"
        if (end.error_type, end.task) == ("JoinUnmet", join):
            why = "unmet"
        elif join in undecided:
            why = "stopped"
        places = (_missing(flow, join, row) for row in failures)
        missed_by = list(dict.fromkeys(place for place in places if place is not None))
        is_cause = why == "unmet" or (why == "missed" and end.status is RunStatus.COMPLETED)
        if not merged and (arrived or (is_cause and missed_by)):
            rule = wait_for(flow.tasks[join].join)
            needed = None if rule is None else rule.wait_for
            told.append(JoinNotRun(join, arrived, missed_by, why, needed))
    return told


def _waiting(
    connection: Connection, flow_run_id: FlowRunId, idle: Sequence[str]
) -> dict[str, tuple[int, int]]:
    """How many branches waited at each of these joins when the run ended, and how many were
    merged to begin it. One that came alone does neither."""
    rows = connection.execute(
        select(
            branches.c.task,
            func.count(case((branches.c.joined_by.is_(None), 1))).label("waited"),
            func.count(branches.c.joined_by).label("merged"),
        )
        .where(
            branches.c.flow_run_id == flow_run_id,
            branches.c.task.in_(idle),
            branches.c.tracked,
            branches.c.parent_id.is_(None),
        )
        .group_by(branches.c.task)
    )
    return {row.task: (row.waited, row.merged) for row in rows}


def _failures(connection: Connection, flow_run_id: FlowRunId) -> Sequence[AnyRow]:
    """The visits that came to a failure or an error; not attempts that a later one made good."""
    later = task_runs.alias("later")
    was_repeated = (
        select(later.c.id)
        .where(
            later.c.flow_run_id == task_runs.c.flow_run_id,
            later.c.task == task_runs.c.task,
            later.c.iteration == task_runs.c.iteration,
            later.c.item_index == task_runs.c.item_index,
            later.c.attempt > task_runs.c.attempt,
        )
        .exists()
    )
    return connection.execute(
        select(task_runs.c.task, task_runs.c.branch, task_runs.c.error)
        .where(
            task_runs.c.flow_run_id == flow_run_id,
            task_runs.c.status == TaskRunStatus.FAILED,
            task_runs.c.item_index == NO_INDEX,
            ~was_repeated,
        )
        .order_by(task_runs.c.id)
        .limit(_MAX_FAILURES)
    ).all()


def _missing(flow: Flow, join: str, failure: AnyRow) -> Place | None:
    """Where the failure took a branch away from the join: it led there by successes only."""
    graph = flow.graph
    number, bit = graph.numbers[failure.task], graph.bits[graph.numbers[join]]
    outcome = Outcome.FAILURE if failure.error is None else Outcome.ERROR
    ahead = graph.possible[number][outcome].targets
    if not graph.success_reach[number] & bit:
        return None
    if any((graph.reach[target] | graph.bits[target]) & bit for target in ahead):
        return None
    return Place(failure.branch, failure.task)
