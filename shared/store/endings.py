"""How runs end: their branches are over, a step broke or finished them, a limit was passed."""

import orjson
from sqlalchemy import Connection, bindparam, update

from shared.errors import ExpressionError
from shared.ids import FlowRunId
from shared.models import FlowRun
from shared.statements import Row, Statement
from shared.status import Outcome, Reason, RunStatus
from shared.store.books import Books, RunBooks
from shared.store.ending_steps import BegunHere, begin_ending
from shared.store.outputs import render_output
from shared.store.parents import wake_visit
from shared.store.step import Step
from shared.store.stopping import fail_run, stop_branches
from shared.store.undoing import conclude_ending, write_ending
from shared.undoing import Ending

runs = FlowRun.__table__


def close_runs(connection: Connection, books: Books) -> None:
    """Write the numbers of the runs that this transaction has locked, and end those that are
    over."""
    books.flush()
    changed: list[dict[str, object]] = []
    for flow_run_id, book in sorted(books.runs.items()):
        row = books.locked.get(flow_run_id)
        if row is None:
            continue
        if book.step.is_ending:
            if book.ends:
                book.results[-1].ended = conclude_ending(connection, flow_run_id, books.now)
            continue
        numbers = _close(connection, books, row, book)
        if numbers is not None:
            changed.append(numbers)
    if changed:
        _COUNT.write(connection, changed)
    if books.begins_endings:
        books.flush()
    _tell_parents(connection, books)


def _tell_parents(connection: Connection, books: Books) -> None:
    """Let those go on who wait for a run that has ended here."""
    for flow_run_id, book in books.runs.items():
        row, result = books.locked.get(flow_run_id), book.results[-1]
        if row is not None and row.parent_task_run_id is not None and result.ended is not None:
            woken = wake_visit(connection, row.parent_task_run_id, book.step.lease_now)
            for branch_id, queue in woken.items():
                result.ring_for(branch_id, queue)


def _close(
    connection: Connection, books: Books, row: Row, book: RunBooks
) -> dict[str, object] | None:
    """What is written to the run; None where it ended in another way than by its branches."""
    flow_run_id = row.id
    visits = row.task_runs + book.visits
    limit = book.step.flow.definition.max_task_runs
    if book.error is not None:
        _fail(connection, books, flow_run_id, book, book.error)
    elif book.unmet is not None:
        _fail_unmet(connection, books, flow_run_id, book, book.unmet)
    elif book.finish is None and book.step.flow.is_counted and visits > limit:
        _pass_limit(connection, books, flow_run_id, book, limit)
    else:
        return _numbers(connection, books, row, book, visits)
    return None


def _numbers(
    connection: Connection, books: Books, row: Row, book: RunBooks, visits: int
) -> dict[str, object] | None:
    """The numbers of a run, and how it ended where its branches are over; None where that has
    another consequence."""
    active, failed = row.active + book.active, row.failed + book.failed
    if book.finish is not None:
        # Those that still run are no longer asked.
        stop_branches(connection, row.id, f"{Reason.RUN_FINISHED}:{book.finish.task}", books.now)
        _take_back(book)
        active = 0
    over = active == 0
    output, outcome = None, Outcome.SUCCESS
    if over:
        try:
            output = _output(connection, books, row.id, book)
        except ExpressionError as error:
            _break_off(connection, books, row.id, book, error)
            return None
        book.results[-1].stops_others = book.finish is not None
        outcome = Outcome.FAILURE if failed else Outcome.SUCCESS
        if book.step.flow.undoing is not None:
            ending = Ending(RunStatus.COMPLETED, outcome)
            if _begin_ending(connection, books, book, ending, output):
                return None
        book.results[-1].ended = RunStatus.COMPLETED
    return {
        "r_id": row.id,
        "r_active": active,
        "r_failed": failed,
        "r_visits": visits,
        "r_status": (RunStatus.COMPLETED if over else RunStatus.RUNNING).value,
        "r_outcome": outcome.value if over else None,
        "r_output": output,
        "r_at": books.now if over else None,
    }


def _begin_ending(
    connection: Connection, books: Books, book: RunBooks, ending: Ending, output: bytes | None
) -> bool:
    """Let a run of which no branch is open undo what it did, where there is something to do."""
    step, undoing = book.step, book.step.flow.undoing
    assert undoing is not None
    first = write_ending(connection, step.flow_run_id, undoing, ending, output)
    if first is not None:
        begin_ending(books, step, first)
    return first is not None


def _output(
    connection: Connection, books: Books, flow_run_id: FlowRunId, book: RunBooks
) -> bytes | None:
    if book.step.flow.data.output is None:
        return (book.finish or book.step).data
    return render_output(connection, book.step.flow, flow_run_id, books.now)


def _break_off(
    connection: Connection,
    books: Books,
    flow_run_id: FlowRunId,
    book: RunBooks,
    error: ExpressionError,
) -> None:
    told = {"task": None, "type": "ExpressionError", "message": error.message, "traceback": None}
    _end_failed(connection, books, flow_run_id, book, orjson.dumps(told), Reason.EXPRESSION_FAILED)


def _fail(
    connection: Connection, books: Books, flow_run_id: FlowRunId, book: RunBooks, step: Step
) -> None:
    error = orjson.dumps({"task": step.task, **orjson.loads(step.error or b"{}")})
    reason = f"{Reason.SIBLING_FAILED}:{step.task}"
    _end_failed(connection, books, flow_run_id, book, error, reason)


def _fail_unmet(
    connection: Connection, books: Books, flow_run_id: FlowRunId, book: RunBooks, join: str
) -> None:
    error = {
        "task": join,
        "type": "JoinUnmet",
        "message": f"too few branches came to {join!r}, and nobody else can",
        "traceback": None,
    }
    reason = f"{Reason.SIBLING_FAILED}:{join}"
    _end_failed(connection, books, flow_run_id, book, orjson.dumps(error), reason)


def _pass_limit(
    connection: Connection, books: Books, flow_run_id: FlowRunId, book: RunBooks, limit: int
) -> None:
    error = {
        "task": book.step.task,
        "type": "TaskRunLimit",
        "message": f"the run passed its limit of {limit} task runs (max_task_runs)",
        "traceback": None,
    }
    _end_failed(connection, books, flow_run_id, book, orjson.dumps(error), Reason.LIMIT_PASSED)


def _end_failed(
    connection: Connection,
    books: Books,
    flow_run_id: FlowRunId,
    book: RunBooks,
    error: bytes,
    reason: str,
) -> None:
    _take_back(book)
    begun, undoing = BegunHere(books, book.step), book.step.flow.undoing
    is_final = fail_run(connection, flow_run_id, error, reason, books.now, undoing, begun)
    book.results[-1].ended = RunStatus.FAILED if is_final else None
    book.results[-1].stops_others = True


def _take_back(book: RunBooks) -> None:
    """Forget what the steps began: it was stopped again in this same transaction."""
    for result in book.results:
        result.started.clear()
        result.ready.clear()


_COUNT = Statement(
    update(runs)
    .where(runs.c.id == bindparam("r_id"), runs.c.status == RunStatus.RUNNING)
    .values(
        active=bindparam("r_active"),
        failed=bindparam("r_failed"),
        task_runs=bindparam("r_visits"),
        status=bindparam("r_status"),
        outcome=bindparam("r_outcome"),
        output=bindparam("r_output"),
        finished_at=bindparam("r_at"),
    )
)
