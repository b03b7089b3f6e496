"""Runs of sub-flows: what one came to, and which runs stand above a run."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select

from shared.ids import FlowRunId, TaskRunId
from shared.models import FlowRun
from shared.queries.rows import AnyRow

runs = FlowRun.__table__


@dataclass(frozen=True, slots=True)
class Ancestor:
    """A run that a sub-flow's run would stand under."""

    flow_run_id: FlowRunId
    flow_id: str


def lineage(connection: Connection, flow_run_id: FlowRunId) -> list[Ancestor]:
    """A run and the runs above it, the nearest first."""
    above = (
        select(runs.c.id, runs.c.flow_id, runs.c.parent_flow_run_id, runs.c.depth)
        .where(runs.c.id == flow_run_id)
        .cte("above", recursive=True)
    )
    parents = select(runs.c.id, runs.c.flow_id, runs.c.parent_flow_run_id, runs.c.depth).join(
        above, runs.c.id == above.c.parent_flow_run_id
    )
    above = above.union_all(parents)
    found = connection.execute(select(above.c.id, above.c.flow_id).order_by(above.c.depth.desc()))
    return [Ancestor(FlowRunId(row.id), row.flow_id) for row in found]


def runs_of_visits(connection: Connection, task_run_ids: Sequence[str]) -> dict[str, AnyRow]:
    """The runs that task runs wait for, or have waited for, by the task runs' ids."""
    if not task_run_ids:
        return {}
    found = connection.execute(
        select(runs.c.parent_task_run_id, runs.c.id, runs.c.flow_id, runs.c.status).where(
            runs.c.parent_task_run_id.in_(task_run_ids)
        )
    )
    return {row.parent_task_run_id: row for row in found}


def run_of_visit(connection: Connection, task_run_id: TaskRunId) -> AnyRow | None:
    """The run that a task run waits for, or has waited for, with what it came to."""
    return connection.execute(
        select(
            runs.c.id,
            runs.c.flow_id,
            runs.c.status,
            runs.c.outcome,
            runs.c.output,
            runs.c.error,
        ).where(runs.c.parent_task_run_id == task_run_id)
    ).one_or_none()
