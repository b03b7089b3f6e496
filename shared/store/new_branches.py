"""The rows of branches that begin: heads of a fork, and the items of a list."""

from shared.models import Branch
from shared.statements import Statement
from shared.status import BranchState
from shared.store.branches import Visit
from shared.store.step import Step

branches = Branch.__table__


def branch_row(step: Step, visit: Visit, state: BranchState) -> dict[str, object]:
    """The row of a branch that a step has made."""
    running = state is BranchState.RUNNING
    task = step.flow.tasks[visit.task]
    return {
        "id": visit.branch_id,
        "flow_run_id": visit.flow_run_id,
        "path": visit.path,
        "state": state.value,
        "task": visit.task,
        "task_type": visit.task_type,
        "queue": task.queue,
        "priority": task.priority,
        "iteration": visit.iteration,
        "attempt": 1 if running else 0,
        "previous_id": visit.previous_id,
        "task_run_id": visit.task_run_id if running else None,
        "tracked": visit.tracked,
        "claim": visit.claim,
        "worker_id": step.worker_id if running else None,
        "losses": 0,
        "ready_at": step.lease_now,
    }


_BRANCH_COLUMNS = (
    "id",
    "flow_run_id",
    "path",
    "state",
    "task",
    "task_type",
    "queue",
    "priority",
    "iteration",
    "attempt",
    "previous_id",
    "task_run_id",
    "tracked",
    "claim",
    "worker_id",
    "losses",
    "ready_at",
)

INSERT_BRANCH = Statement(branches.insert(), columns=_BRANCH_COLUMNS)

INSERT_ITEM = Statement(
    branches.insert(),
    columns=(*_BRANCH_COLUMNS, "joined_by", "parent_id", "item_index", "item"),
)
