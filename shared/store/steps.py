"""Steps: record what a visit came to and begin what follows, in one transaction.

The heart of the engine. The rules are ``shared.decider``'s; this module carries them out for
all the steps of a moment:

1. lock the runs whose books change, then the branches, and drop every step whose claim was
   taken away (the fence);
2. record the task runs;
3. move each branch: on in place, into a fork, to a join, to its end, or to sleep;
4. add up the changes of the joins, and decide those that nothing can reach any more
   (``shared.store.joins``);
5. end the runs that have no branch left, and those that an error or a limit ended; where
   something is to be undone first, or to run last, begin that (``shared.store.undoing``).
"""

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, select

from shared.decider import Move
from shared.ids import BranchId
from shared.models import Branch
from shared.statements import Statement
from shared.status import BranchState, Reason
from shared.store.books import Books
from shared.store.cancelling import cancel_at
from shared.store.ending_steps import go_on
from shared.store.endings import close_runs
from shared.store.items import begin_items, end_items
from shared.store.joins import settle_joins
from shared.store.places import free_holders, free_runs, keep_asleep
from shared.store.step import Recorded, Step
from shared.store.stopping import lock_runs
from shared.store.sub_flows import begin_sub_flows

branches = Branch.__table__


def record_steps(connection: Connection, items: Sequence[Step]) -> list[Recorded]:
    """Record finished visits, each once, and begin what follows them."""
    moves = {item.branch_id: _move(item) for item in items}
    locked = lock_runs(
        connection,
        list({i.flow_run_id for i in items if _touches_run(i, moves[i.branch_id])}),
    )
    accepted = _fence(connection, items)
    books = Books(connection, locked, accepted)
    for step in accepted:
        _enter(books, step, moves[step.branch_id])
    end_items(connection, books, [step for step in accepted if step.ends_item])
    _cancel(connection, books, accepted)
    books.flush()
    begin_sub_flows(connection, books, accepted)
    settle_joins(connection, books)
    close_runs(connection, books)
    _free_places(connection, books, accepted)
    return [books.results.get(item.branch_id, _REFUSED) for item in items]


_REFUSED = Recorded(accepted=False)
_ENDS_ATTEMPT = frozenset({"success", "failure", "error", "retry", "finish"})


def _free_places(connection: Connection, books: Books, steps: Sequence[Step]) -> None:
    """Give back the places of what is over; a visit that sleeps keeps its own."""
    limited = [step for step in steps if step.task in step.flow.limits]
    if limited:
        over = [step.branch_id for step in limited if step.kind in _ENDS_ATTEMPT]
        asleep = {step.branch_id for step in limited if step.kind != "mapped"}.difference(over)
        if asleep:
            keep_asleep(connection, sorted(asleep))
        free_holders(connection, over)
    free_runs(
        connection,
        [
            flow_run_id
            for flow_run_id, book in books.runs.items()
            if book.step.flow.definition.concurrency is not None
            and any(result.ended is not None for result in book.results)
        ],
    )


def _enter(books: Books, step: Step, move: Move | None) -> None:
    """Enter into the books what a step comes to."""
    if step.kind == "suspended":
        books.suspend(step)
    elif step.kind == "retry":
        books.try_again(step)
    elif step.kind == "mapped":
        begin_items(books, step)
    elif step.kind == "finish":
        books.finish(step)
    elif step.ends_item:
        books.end(step)
    elif step.is_ending:
        go_on(books, step)
    elif move is None:
        books.fail(step)
    else:
        _carry_out(books, step, move)


def _cancel(connection: Connection, books: Books, steps: Sequence[Step]) -> None:
    """End the branches that steps cancel."""
    for step in steps:
        if step.cancels:
            reason = f"{Reason.CANCELLED_BY}:{step.task}"
            for changes in cancel_at(connection, books, step, step.cancels, reason):
                books.count(step, active=0, failed=0, changes=changes)


def _move(step: Step) -> Move | None:
    """What follows, by the decider; None where no rule is asked."""
    if step.outcome is None or step.targets is None or step.ends_item or step.is_ending:
        return None
    decider = step.flow.decider
    return decider.move(step.task, step.outcome, step.targets, tracked=step.tracked)


def _touches_run(step: Step, move: Move | None) -> bool:
    """Whether more than this one branch is concerned."""
    if step.kind == "suspended":
        # A signal may be coming at this very moment.
        return step.signal is not None
    if step.kind in ("mapped", "finish") or step.ends_item or step.cancels:
        return True
    if step.kind == "retry" or step.flow.is_counted:
        return step.flow.is_counted
    return move is None or len(move.heads) != 1 or bool(move.changes)


def _fence(connection: Connection, items: Sequence[Step]) -> list[Step]:
    """The steps whose claim still holds. Their branches are locked until the commit."""
    rows = _LOCK.all(connection, {"ids": sorted(item.branch_id for item in items)})
    # The open task run, too: a step that was committed while its answer got lost is recorded,
    # and its branch has moved on under the same claim.
    held = {
        row.id: (row.claim, row.task_run_id) for row in rows if row.state == BranchState.RUNNING
    }
    return [
        item for item in items if held.get(item.branch_id) == (item.claim, item.visit.task_run_id)
    ]


_LOCK = Statement(
    select(branches.c.id, branches.c.claim, branches.c.state, branches.c.task_run_id)
    .where(branches.c.id.in_(bindparam("ids", expanding=True)))
    .order_by(branches.c.id)
    .with_for_update()
)


def _carry_out(books: Books, step: Step, move: Move) -> None:
    books.count(step, active=move.active, failed=move.failed, changes=move.changes)
    match move.heads:
        case ():
            books.end(step)
        case (head,):
            books.go_on(step, head)
        case heads:
            books.fork(step, heads)


__all__ = ["BranchId", "Recorded", "Step", "record_steps"]
