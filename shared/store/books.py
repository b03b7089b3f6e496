"""What one transaction of steps changes, gathered so that every table is written once.

:class:`Books` turns the moves of branches into rows and keeps, for every run concerned, what
is added to its numbers. It decides nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy import BindParameter, Connection, bindparam, func, select, update

from shared.decider import Head, JoinCount
from shared.ids import BranchId, FlowRunId, TaskRunId, new_id
from shared.models import Branch, FlowRun, TaskRun
from shared.paths import head_path
from shared.statements import Row, Statement
from shared.status import BranchState, TaskRunStatus
from shared.store.branches import INSERT_TASK_RUN, Visit, task_run_row
from shared.store.logs import LoggedLine, insert_lines
from shared.store.new_branches import INSERT_BRANCH, INSERT_ITEM, branch_row
from shared.store.signals import take_kept_signal
from shared.store.step import Recorded, Step

branches = Branch.__table__
runs = FlowRun.__table__
task_runs = TaskRun.__table__


@dataclass(slots=True)
class RunBooks:
    """What is added to one run."""

    step: Step
    """The last step of the run in this transaction."""
    active: int = 0
    failed: int = 0
    visits: int = 0
    changes: dict[str, JoinCount] = field(default_factory=dict)
    error: Step | None = None
    """The step whose error ends the run."""
    finish: Step | None = None
    """The step that ends the run as completed, whatever still runs."""
    unmet: str | None = None
    """The join that too few can reach any more, which ends the run."""
    ends: bool = False
    """Whether its ending is over by these steps."""
    results: list[Recorded] = field(default_factory=list)


class Books:
    """The rows that a transaction of steps writes."""

    def __init__(
        self,
        connection: Connection,
        locked: Mapping[FlowRunId, Row],
        accepted: Sequence[Step],
    ) -> None:
        self.connection = connection
        self.results: dict[BranchId, Recorded] = {}
        self.runs: dict[FlowRunId, RunBooks] = {}
        self.now = datetime.now(UTC)
        self.locked = locked
        self.begins_endings = False
        """Whether there is more to write since the runs were closed."""
        self._finished: list[dict[str, object]] = []
        self._finished_in_order: list[dict[str, object]] = []
        self._suspended: list[dict[str, object]] = []
        self._begun: list[dict[str, object]] = []
        self._moved: list[dict[str, object]] = []
        self._new_branches: list[dict[str, object]] = []
        self._new_items: list[dict[str, object]] = []
        self._lines: list[LoggedLine] = []
        self._iterations: dict[tuple[FlowRunId, str], int] = {}
        for step in accepted:
            self._open(step)

    def _open(self, step: Step) -> None:
        result = self.results[step.branch_id] = Recorded(accepted=True)
        book = self.runs.get(step.flow_run_id)
        if book is None:
            book = self.runs[step.flow_run_id] = RunBooks(step)
        book.step = step
        book.results.append(result)
        self._lines.extend(step.logs)
        if step.kind not in ("suspended", "mapped"):
            success = step.kind in ("success", "finish")
            row: dict[str, object] = {
                "t_id": step.visit.task_run_id,
                "t_status": (TaskRunStatus.SUCCESS if success else TaskRunStatus.FAILED).value,
                "t_reason": step.reason,
                "t_data": step.data,
                "t_error": step.error,
                "t_at": self.now,
            }
            run = self.locked.get(step.flow_run_id) if step.flow.undoing else None
            if run is None:
                self._finished.append(row)
            else:
                # Whatever follows from it is counted from here on, before it can end.
                self._finished_in_order.append({**row, "t_position": run.task_runs})

    # What a step comes to, one method a way.

    def suspend(self, step: Step) -> None:
        """Put the branch to sleep, its task run waiting; where the signal that it waits for
        has come already, it may go on at once."""
        self._suspended.append({"t_id": step.visit.task_run_id})
        state = BranchState.WAITING
        if step.signal is not None and take_kept_signal(self.connection, step):
            state = BranchState.READY
            self._hand_over(step, step.visit)
        awaited = 0 if step.sub_flow is None else 1
        self._move(step, state, step.visit, wake_at=step.wake_at, signal=step.signal, items=awaited)

    def wait_for_items(self, step: Step, items: int) -> None:
        """Let the visit wait for so many branches, each of which runs one of its items."""
        self._suspended.append({"t_id": step.visit.task_run_id})
        self.runs[step.flow_run_id].visits += items
        self._move(step, BranchState.WAITING, step.visit, items=items)

    def begin_item(self, step: Step, visit: Visit, state: BranchState) -> None:
        """Add the branch of one item: running here, ready for anybody, or held back."""
        if state is BranchState.RUNNING:
            self.begin(step, visit)
        elif state is BranchState.READY:
            self._hand_over(step, visit)
        row = branch_row(step, visit, state)
        row |= {
            "joined_by": visit.joined_by,
            "parent_id": visit.parent_id,
            "item_index": visit.item_index,
            "item": visit.item,
        }
        self._new_items.append(row)
        if len(self._new_items) >= _ROWS_KEPT:
            self._write(INSERT_ITEM, self._new_items)

    def try_again(self, step: Step) -> None:
        """Let the branch wait for the next attempt at the same visit."""
        self.runs[step.flow_run_id].visits += 1
        visit = step.visit._replace(
            task_run_id=_NO_TASK_RUN, failed_attempts=step.visit.failed_attempts + 1
        )
        self._move(step, BranchState.WAITING, visit, wake_at=step.wake_at)

    def fail(self, step: Step) -> None:
        """Note that the step's error ends the run."""
        self.runs[step.flow_run_id].error = step

    def finish(self, step: Step) -> None:
        """Note that the step ends the run as completed."""
        self.runs[step.flow_run_id].finish = step

    def count(
        self, step: Step, *, active: int, failed: int, changes: Mapping[str, JoinCount]
    ) -> None:
        """Add a move's changes to the books of its run."""
        book = self.runs[step.flow_run_id]
        book.active += active
        book.failed += failed
        for join, change in changes.items():
            present = book.changes.get(join)
            book.changes[join] = change if present is None else present.plus(change)

    def end(self, step: Step) -> None:
        """End the branch."""
        self._move(step, BranchState.DONE, step.visit)

    def go_on(self, step: Step, head: Head) -> None:
        """Move the branch on: to wait at a join, or to begin the next visit in place."""
        state = self._state_at(step, head, may_begin=True)
        visit = self._next_visit(step, head, step.visit, state)
        self._move(step, state, visit)
        if state is BranchState.RUNNING:
            self.begin(step, visit)
        elif state is BranchState.READY:
            self._hand_over(step, visit)

    def fork(self, step: Step, heads: Sequence[Head]) -> None:
        """End the branch in new ones, one a head; some begin here, the others are anybody's."""
        self._move(step, BranchState.DONE, step.visit)
        keep = max(step.keep, 1)
        for head in heads:
            state = self._state_at(step, head, may_begin=keep > 0)
            visit = self._next_visit(step, head, None, state)
            if state is BranchState.RUNNING:
                keep -= 1
                self.begin(step, visit)
            elif state is BranchState.READY:
                self._hand_over(step, visit)
            self._new_branches.append(branch_row(step, visit, state))
            if len(self._new_branches) >= _ROWS_KEPT:
                self._write(INSERT_BRANCH, self._new_branches)

    def visit_at_end(self, step: Step, visit: Visit, *, is_new: bool) -> None:
        """Let the branch of a run's ending, or a new one, make a visit that no condition leads
        to: here, where this worker can, else it is anybody's."""
        state = self._state_at(step, Head(visit.task, waits=False), may_begin=True)
        begins = state is BranchState.RUNNING
        visit = visit._replace(task_run_id=TaskRunId(new_id()) if begins else _NO_TASK_RUN)
        if is_new:
            self.begins_endings = True
            visit = visit._replace(claim=int(begins))
            self._new_branches.append(branch_row(step, visit, state))
        else:
            self._move(step, state, visit)
        if begins:
            self.begin(step, visit)
        else:
            self._hand_over(step, visit)

    def begin(self, step: Step, visit: Visit) -> None:
        """Begin a visit on the step's worker."""
        self._begun.append(task_run_row(visit, step.worker_id, self.now))
        self.results[step.branch_id].started.append(visit)

    def _hand_over(self, step: Step, visit: Visit) -> None:
        self.results[step.branch_id].hand_over(visit.branch_id, step.flow.tasks[visit.task])

    def _state_at(self, step: Step, head: Head, *, may_begin: bool) -> BranchState:
        """What a branch does that came to ``head``."""
        if head.waits:
            return BranchState.WAITING
        runs_here = may_begin and step.begins(head.task)
        return BranchState.RUNNING if runs_here else BranchState.READY

    def _next_visit(self, step: Step, head: Head, at: Visit | None, state: BranchState) -> Visit:
        """The visit at ``head`` of the branch that made the step, or of a new one."""
        begins = state is BranchState.RUNNING
        iteration = 1
        if step.flow.graph.may_revisit:
            iteration = 0 if head.waits else self.next_iteration(step.flow_run_id, head.task)
        if not head.waits:
            self.runs[step.flow_run_id].visits += 1
        before = step.visit
        return Visit(
            branch_id=at.branch_id if at else BranchId(new_id()),
            claim=at.claim if at else int(begins),
            flow_run_id=before.flow_run_id,
            path=before.path if at else head_path(before.path, before.task, head.task),
            task=head.task,
            task_type=step.flow.tasks[head.task].task_type,
            iteration=iteration,
            attempt=1,
            # Only a visit that begins has a task run.
            task_run_id=TaskRunId(new_id()) if begins else _NO_TASK_RUN,
            previous_id=before.task_run_id,
            joined_by=None,
            tracked=before.tracked if at else True,
        )

    def next_iteration(self, flow_run_id: FlowRunId, task: str) -> int:
        """The number of the next visit of a task that a loop leads to again."""
        key = (flow_run_id, task)
        last = self._iterations.get(key)
        if last is None:
            parameters = {"run": flow_run_id, "task": task}
            visited = _LAST_VISIT.all(self.connection, parameters)[0][0] or 0
            announced = _LAST_ANNOUNCED.all(self.connection, parameters)[0][0] or 0
            last = max(visited, announced)
        self._iterations[key] = last + 1
        return last + 1

    def _move(
        self,
        step: Step,
        state: BranchState,
        visit: Visit,
        *,
        wake_at: datetime | None = None,
        items: int = 0,
        signal: str | None = None,
    ) -> None:
        running = state is BranchState.RUNNING
        # A visit that waits goes on where it stands.
        waits = wake_at is not None or signal is not None or items > 0
        stays = state is BranchState.DONE or waits
        has_run = running or (stays and state is not BranchState.DONE)
        task = step.flow.tasks[visit.task]
        self._moved.append(
            {
                "b_id": step.branch_id,
                "b_state": state.value,
                "b_task": visit.task,
                "b_type": visit.task_type,
                "b_queue": task.queue,
                "b_priority": task.priority,
                "b_iteration": visit.iteration,
                "b_attempt": visit.attempt if running or stays else 0,
                "b_previous": visit.previous_id,
                "b_task_run": (visit.task_run_id or None) if has_run else None,
                "b_failed_attempts": visit.failed_attempts,
                "b_joined": visit.joined_by,
                "b_worker": step.worker_id if running else None,
                "b_claim": step.claim,
                "b_ready_at": step.lease_now,
                "b_wake_at": wake_at,
                "b_items": items,
                "b_signal": signal,
            }
        )

    # Writing it down.

    def flush(self) -> None:
        """Write every row gathered so far."""
        for statement, rows in (
            (_FINISH, self._finished),
            (_FINISH_IN_ORDER, self._finished_in_order),
            (_SUSPEND, self._suspended),
            (_MOVE, self._moved),
            (INSERT_BRANCH, self._new_branches),
            (INSERT_ITEM, self._new_items),
            (INSERT_TASK_RUN, self._begun),
        ):
            self._write(statement, rows)
        insert_lines(self.connection, self._lines)
        self._lines.clear()

    def _write(self, statement: Statement, rows: list[dict[str, object]]) -> None:
        if rows:
            statement.write(self.connection, rows)
            rows.clear()


_NO_TASK_RUN = TaskRunId("")
_ROWS_KEPT = 1_000
"""New branches gathered before they are written: a wide fork shall not cost its width in memory."""


_RESULT: dict[str, BindParameter[object]] = {
    "status": bindparam("t_status"),
    "reason": bindparam("t_reason"),
    "data": bindparam("t_data"),
    "error": bindparam("t_error"),
    "finished_at": bindparam("t_at"),
}

_FINISH = Statement(
    update(task_runs)
    .where(task_runs.c.id == bindparam("t_id"), task_runs.c.status == TaskRunStatus.RUNNING)
    .values(**_RESULT)
)

_FINISH_IN_ORDER = Statement(
    update(task_runs)
    .where(task_runs.c.id == bindparam("t_id"), task_runs.c.status == TaskRunStatus.RUNNING)
    .values(**_RESULT, position=bindparam("t_position"))
)

_SUSPEND = Statement(
    update(task_runs)
    .where(task_runs.c.id == bindparam("t_id"), task_runs.c.status == TaskRunStatus.RUNNING)
    .values(status=TaskRunStatus.WAITING)
)

_MOVE = Statement(
    update(branches)
    .where(branches.c.id == bindparam("b_id"), branches.c.claim == bindparam("b_claim"))
    .values(
        state=bindparam("b_state"),
        task=bindparam("b_task"),
        task_type=bindparam("b_type"),
        queue=bindparam("b_queue"),
        priority=bindparam("b_priority"),
        iteration=bindparam("b_iteration"),
        attempt=bindparam("b_attempt"),
        previous_id=bindparam("b_previous"),
        task_run_id=bindparam("b_task_run"),
        failed_attempts=bindparam("b_failed_attempts"),
        joined_by=bindparam("b_joined"),
        worker_id=bindparam("b_worker"),
        losses=0,
        ready_at=bindparam("b_ready_at"),
        wake_at=bindparam("b_wake_at"),
        item_count=bindparam("b_items"),
        signal=bindparam("b_signal"),
        items_left=bindparam("b_items"),
        items_failed=0,
    )
)

_LAST_VISIT = Statement(
    select(func.max(task_runs.c.iteration)).where(
        task_runs.c.flow_run_id == bindparam("run"), task_runs.c.task == bindparam("task")
    )
)

_LAST_ANNOUNCED = Statement(
    select(func.max(branches.c.iteration)).where(
        branches.c.flow_run_id == bindparam("run"),
        branches.c.task == bindparam("task"),
        branches.c.state != BranchState.DONE,
    )
)
