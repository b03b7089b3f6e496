"""Runs of sub-flows: they begin with the wait of a visit, and their end ends it.

Both happen in the transaction that records the one or the other, so neither can be lost. The
other way, from a visit that was stopped down to its run, the leader goes: two runs that end at
one moment would otherwise lock each other's rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, bindparam, select

from shared.ids import FlowRunId
from shared.models import FlowRun, TaskRun
from shared.statements import Statement
from shared.store.books import Books
from shared.store.parents import wake_visit
from shared.store.runs import create_runs
from shared.store.step import Step
from shared.store.stopping import Cancel, cancel_runs

runs = FlowRun.__table__
task_runs = TaskRun.__table__

_BATCH = 500


def begin_sub_flows(connection: Connection, books: Books, steps: Sequence[Step]) -> None:
    """Store the runs that steps wait for from now on."""
    waiting = [(step, step.sub_flow) for step in steps if step.sub_flow is not None]
    if not waiting:
        return
    created = create_runs(connection, [new_run for _, new_run in waiting])
    for (step, begun), made in zip(waiting, created, strict=True):
        if made.branch_id is not None:
            books.results[step.branch_id].ring_for(made.branch_id, begun.start_queue)
        if made.refused_for is not None:
            # There will be no run whose end it could wait for: it goes on, and is told so.
            woken = wake_visit(connection, step.visit.task_run_id, step.lease_now)
            for branch_id, queue in woken.items():
                books.results[step.branch_id].ring_for(branch_id, queue)


@dataclass(slots=True)
class Abandoned:
    """Runs of sub-flows that nobody waits for any more, and that were stopped for it."""

    cancelled: list[FlowRunId] = field(default_factory=list)
    ending: list[FlowRunId] = field(default_factory=list)
    """Those that undo first what they did."""


def cancel_abandoned(connection: Connection, at: datetime) -> Abandoned:
    """Cancel the runs of sub-flows that nobody waits for any more, down to the last one."""
    abandoned = Abandoned()
    while True:
        found = [FlowRunId(row.id) for row in _ABANDONED.all(connection, {"most": _BATCH})]
        results = cancel_runs(connection, [Cancel(one, at) for one in found])
        told = list(zip(found, results, strict=True))
        gone = [one for one, result in told if result == "cancelled"]
        abandoned.cancelled += gone
        abandoned.ending += [one for one, result in told if result == "cancelling"]
        if not gone:
            return abandoned


_ABANDONED = Statement(
    select(runs.c.id)
    .join(task_runs, task_runs.c.id == runs.c.parent_task_run_id)
    .where(
        runs.c.finished_at.is_(None),
        runs.c.parent_task_run_id.is_not(None),
        task_runs.c.finished_at.is_not(None),
    )
    .limit(bindparam("most"))
)
