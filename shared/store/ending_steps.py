"""Steps of the branch that carries out a run's ending: one visit after another, then the end.

No condition is asked and no join is touched. Whatever a visit came to for good, the next one
follows; what failed is noted for how the run will have ended.
"""

import orjson

from shared.ids import TaskRunId
from shared.store.books import Books
from shared.store.compensations import take_next
from shared.store.step import Step
from shared.store.undoing import note_failure, rename_branch
from shared.undoing import without_result


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
    books.turn_to(
        step,
        following.task,
        path=following.path,
        iteration=following.iteration,
        previous_id=following.undoes,
    )
