"""The states of runs, branches and task runs, and the moves between them.

Every state is stored by its value. A change of state is one conditional UPDATE in
``shared.store``; the tables here say which changes exist at all, and the schema repeats
the members as CHECK constraints.
"""

from enum import StrEnum


class RunStatus(StrEnum):
    """Where a flow run stands as a whole."""

    RUNNING = "running"
    """Accepted and not over. Set by the submit; left when the last branch ends, on an
    unhandled error, or by a cancel."""
    COMPLETED = "completed"
    """Every branch ended where its conditions led it. Final."""
    FAILED = "failed"
    """A task raised unhandled, or a limit of the run was passed. Final."""
    CANCELLED = "cancelled"
    """Somebody cancelled it before it was over. Final."""


class Outcome(StrEnum):
    """What a visit of a task, or a whole run, came to."""

    SUCCESS = "success"
    """The task returned ``success: true``; of a run: every branch ended after a success."""
    FAILURE = "failure"
    """The task returned ``success: false``; of a run: a branch ended after a failure."""
    ERROR = "error"
    """The task raised, and its attempts are used up. Of a visit only: a run whose error nobody
    handles is ``failed``."""


class TaskRunStatus(StrEnum):
    """Where one attempt at one visit of a task stands."""

    RUNNING = "running"
    """A worker executes it. Set by the claim or by the step before; left by its record,
    by a cancel, or by the rescue of a lost worker."""
    WAITING = "waiting"
    """It asked to be woken later, or waits for its turn under a limit, and holds no worker slot.
    Left when it is woken or called."""
    SUCCESS = "success"
    """It returned ``success: true``. Final."""
    FAILED = "failed"
    """It returned ``success: false`` or raised (then ``error`` is filled). Final."""
    CANCELLED = "cancelled"
    """It was stopped before it gave a result; ``reason`` says why. Final."""


class BranchState(StrEnum):
    """Where a branch, the unit of scheduling, stands."""

    READY = "ready"
    """Any worker may claim it. Set by submit, fork, release, wake and rescue; left by a claim."""
    RUNNING = "running"
    """One worker holds it under a claim number. Left by the record of its step, by a release
    or by a rescue."""
    WAITING = "waiting"
    """It waits at a join, until a time, for its next attempt, or for its turn under a limit. Left
    when the join is decided, the time has come, or it is called."""
    DONE = "done"
    """It ended, merged into another branch at a join, forked, or its run is over. Final."""


class Reason(StrEnum):
    """Why a task run did not simply succeed (the part before a colon where one follows)."""

    RETURNED_FAILURE = "returned_failure"
    RAISED = "raised"
    TIMED_OUT = "timed_out"
    EXPRESSION_FAILED = "expression_failed"
    RUN_CANCELLED = "run_cancelled"
    RUN_FINISHED = "run_finished"
    RUN_TIMED_OUT = "run_timed_out"
    SIBLING_FAILED = "sibling_failed"
    WORKER_LOST = "worker_lost"
    WORKER_STOPPED = "worker_stopped"
    LIMIT_PASSED = "limit_passed"
    CANCELLED_BY = "cancelled_by"
    JOIN_MET = "join_met"
    LIMIT = "limit"
    ITEMS_FAILED = "items_failed"
    CANCELLED_OTHERS = "cancelled_others"
    KEPT = "kept"


RUN_MOVES: dict[RunStatus, frozenset[RunStatus]] = {
    RunStatus.RUNNING: frozenset({RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED}),
    RunStatus.COMPLETED: frozenset(),
    RunStatus.FAILED: frozenset(),
    RunStatus.CANCELLED: frozenset(),
}
"""The legal moves of a run: out of ``running`` once, and never again."""

TASK_RUN_MOVES: dict[TaskRunStatus, frozenset[TaskRunStatus]] = {
    TaskRunStatus.RUNNING: frozenset(
        {
            TaskRunStatus.WAITING,
            TaskRunStatus.SUCCESS,
            TaskRunStatus.FAILED,
            TaskRunStatus.CANCELLED,
        }
    ),
    TaskRunStatus.WAITING: frozenset(
        {TaskRunStatus.RUNNING, TaskRunStatus.FAILED, TaskRunStatus.CANCELLED}
    ),
    TaskRunStatus.SUCCESS: frozenset(),
    TaskRunStatus.FAILED: frozenset(),
    TaskRunStatus.CANCELLED: frozenset(),
}
"""The legal moves of a task run: what is recorded as finished never changes."""

BRANCH_MOVES: dict[BranchState, frozenset[BranchState]] = {
    BranchState.READY: frozenset({BranchState.RUNNING, BranchState.DONE}),
    BranchState.RUNNING: frozenset({BranchState.READY, BranchState.WAITING, BranchState.DONE}),
    BranchState.WAITING: frozenset({BranchState.READY, BranchState.RUNNING, BranchState.DONE}),
    BranchState.DONE: frozenset(),
}
"""The legal moves of a branch."""


def is_terminal(status: RunStatus | TaskRunStatus) -> bool:
    """Whether nothing can follow ``status``."""
    if isinstance(status, RunStatus):
        return not RUN_MOVES[status]
    return not TASK_RUN_MOVES[status]
