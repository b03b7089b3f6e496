"""Steps of the branch that carries out a run's ending: one visit after another, then the end.

No condition is asked and no join is touched. Whatever a visit came to for good, the next one
follows; what failed is noted for how the run will have ended.
"""

import orjson
from sqlalchemy import Connection

from shared.ids import BranchId, FlowRunId, TaskRunId, new_id
from shared.models import NO_INDEX
from shared.store.books import Books
from shared.store.branches import Visit
from shared.store.compensations import Following, take_next
from shared.store.step import Step
from shared.store.undoing import Begun, note_failure, rename_branch
from shared.undoing import Undoing, without_result


def go_on(books: Books, step: Step) -> None:
    """Enter what follows a visit of an ending that is over. The run is locked."""
    undoing = step.flow.undoing
    assert undoing is not None, "the run of another definition has no ending"
    connection, visit = books.connection, step.visit
    if step.kind != "success":
        error = without_result(step.task) if step.error is None else orjson.loads(step.error)
        undoes = None if visit.previous_id is None else TaskRunId(visit.previous_id)
        note_failure(connection, step.flow_run_id, step.task, undoes, error)
    following = take_next(connection, step.flow_run_id, undoing, visit.path)
    if following is None:
        books.end(step)
        books.runs[step.flow_run_id].ends = True
        return
    rename_branch(connection, step.branch_id, undoing, following)
    books.visit_at_end(step, _visit(step, following), is_new=False)


class BegunHere(Begun):
    """The ending of one run that its last step begins, in place where that worker can."""

    def __init__(self, books: Books, step: Step) -> None:
        super().__init__(step.lease_now)
        self._books, self._step = books, step

    def start(
        self, connection: Connection, flow_run_id: FlowRunId, undoing: Undoing, first: Following
    ) -> None:
        """Add the branch of the ending to what the step writes."""
        begin_ending(self._books, self._step, first)


def begin_ending(books: Books, step: Step, first: Following) -> None:
    """Enter the branch of the ending of the step's run. No other one is open."""
    visit = _visit(step, first)._replace(branch_id=BranchId(new_id()), tracked=False)
    books.visit_at_end(step, visit, is_new=True)


def _visit(step: Step, following: Following) -> Visit:
    return step.visit._replace(
        path=following.path,
        task=following.task,
        task_type=step.flow.tasks[following.task].task_type,
        iteration=following.iteration,
        attempt=1,
        previous_id=following.undoes,
        joined_by=None,
        failed_attempts=0,
        resumed=False,
        parent_id=None,
        item_index=NO_INDEX,
        item=None,
        item_count=0,
        items_failed=0,
        signal=None,
    )
