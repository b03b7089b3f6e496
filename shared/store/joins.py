"""Joins: keep their books, and carry out what the decider says of them."""

from collections.abc import Mapping

from sqlalchemy import Connection, bindparam, select, update

from shared.decider import JoinCount, Settlement, Verdict
from shared.flow import Flow
from shared.ids import FlowRunId, TaskRunId, new_id
from shared.models import Branch, Join
from shared.paths import merged_path
from shared.statements import Statement
from shared.status import BranchState
from shared.store.books import Books
from shared.store.branches import Visit
from shared.store.cancelling import cancel_rest
from shared.store.step import Step

branches = Branch.__table__
joins = Join.__table__


def settle_joins(connection: Connection, books: Books) -> None:
    """Write the changes of the joins and decide every one that is complete."""
    for flow_run_id, book in sorted(books.runs.items()):
        pending = dict(book.changes)
        # Where a join may cancel branches, one after another: what one does may take away what
        # another one has.
        at_once = not book.step.flow.graph.early
        while pending and book.error is None and book.unmet is None:
            taken = pending if at_once else dict([pending.popitem()])
            if at_once:
                pending = {}
            counts = _apply(connection, flow_run_id, taken)
            for settlement in _decide(book.step.flow, counts):
                book.active += settlement.active
                book.failed += settlement.failed
                for changes in _carry_out(connection, books, book.step, settlement):
                    for join, change in changes.items():
                        present = pending.get(join)
                        pending[join] = change if present is None else present.plus(change)


def _decide(flow: Flow, counts: Mapping[str, JoinCount]) -> list[Settlement]:
    """What becomes of the joins at zero; nothing where the books are back at zero already."""
    decided = []
    for join, count in counts.items():
        if count == JoinCount():
            continue
        settlement = flow.decider.settle(join, count)
        if settlement is not None:
            decided.append(settlement)
    return decided


def _apply(
    connection: Connection, flow_run_id: FlowRunId, changes: Mapping[str, JoinCount]
) -> dict[str, JoinCount]:
    """Add ``changes`` to the books of a run that this transaction has locked."""
    found = _READ.all(connection, {"run": flow_run_id, "tasks": sorted(changes)})
    present = {
        row.task: JoinCount(row.upstream, row.arrived, row.missed, row.fired) for row in found
    }
    counts = {task: present.get(task, JoinCount()).plus(c) for task, c in changes.items()}
    rows = [
        {
            "j_run": flow_run_id,
            "j_task": task,
            "j_upstream": counts[task].upstream,
            "j_arrived": counts[task].arrived,
            "j_missed": counts[task].missed,
            "j_fired": counts[task].fired,
        }
        for task in sorted(counts)
    ]
    known = [row for row in rows if row["j_task"] in present]
    if known:
        _UPDATE.write(connection, known)
    if len(known) < len(rows):
        _INSERT.write(connection, [row for row in rows if row["j_task"] not in present])
    return counts


def _carry_out(
    connection: Connection, books: Books, step: Step, settlement: Settlement
) -> list[Mapping[str, JoinCount]]:
    """Do what was decided; all that it changes."""
    where = {"w_run": step.flow_run_id, "w_task": settlement.join}
    match settlement.verdict:
        case Verdict.RESET:
            pass
        case Verdict.CLOSE | Verdict.ABSORB:
            _END_WAITING.run(connection, {**where, "w_joined": None, "w_chosen": []})
        case Verdict.UNMET:
            books.runs[step.flow_run_id].unmet = settlement.join
        case Verdict.FIRE:
            left = []
            if settlement.cancels:
                left = cancel_rest(connection, books, step, settlement)
            _fire(connection, books, step, settlement.join)
            return [settlement.changes, *left]
    return [settlement.changes]


def _fire(connection: Connection, books: Books, step: Step, join: str) -> None:
    """Merge the branches that wait at ``join`` into one, which begins its task."""
    where = {"w_run": step.flow_run_id, "w_task": join}
    waiting = _WAITING.all(connection, where)
    # One that this worker brought here itself goes on in place.
    here = [row for row in waiting if row.id in books.results]
    chosen = here[-1] if here else waiting[0]
    path = merged_path([row.path for row in waiting])
    iteration = 1
    if step.flow.graph.may_revisit:
        iteration = books.next_iteration(step.flow_run_id, join)
    visit = Visit(
        branch_id=chosen.id,
        claim=chosen.claim + 1,
        flow_run_id=step.flow_run_id,
        path=path,
        task=join,
        task_type=step.flow.tasks[join].task_type,
        iteration=iteration,
        attempt=1,
        task_run_id=TaskRunId(new_id()),
        previous_id=chosen.previous_id,
        joined_by=TaskRunId(new_id()),
        tracked=True,
    )
    visit = visit._replace(joined_by=visit.task_run_id)
    _END_WAITING.run(connection, {**where, "w_joined": visit.joined_by, "w_chosen": [chosen.id]})
    books.runs[step.flow_run_id].visits += 1
    runs_here = step.begins(join)
    _FIRE.run(
        connection,
        {
            "b_id": chosen.id,
            "b_state": (BranchState.RUNNING if runs_here else BranchState.READY).value,
            "b_path": path,
            "b_iteration": iteration,
            "b_attempt": 1 if runs_here else 0,
            "b_task_run": visit.task_run_id if runs_here else None,
            "b_joined": visit.joined_by,
            "b_claim": visit.claim,
            "b_worker": step.worker_id if runs_here else None,
            "b_ready_at": step.lease_now,
        },
    )
    if runs_here:
        books.begin(step, visit)
    else:
        books.results[step.branch_id].hand_over(visit.branch_id, step.flow.tasks[join])


_READ = Statement(
    select(joins.c.task, joins.c.upstream, joins.c.arrived, joins.c.missed, joins.c.fired).where(
        joins.c.flow_run_id == bindparam("run"),
        joins.c.task.in_(bindparam("tasks", expanding=True)),
    )
)

_INSERT = Statement(
    joins.insert().values(
        flow_run_id=bindparam("j_run"),
        task=bindparam("j_task"),
        upstream=bindparam("j_upstream"),
        arrived=bindparam("j_arrived"),
        missed=bindparam("j_missed"),
        fired=bindparam("j_fired"),
    )
)

_UPDATE = Statement(
    update(joins)
    .where(joins.c.flow_run_id == bindparam("j_run"), joins.c.task == bindparam("j_task"))
    .values(
        upstream=bindparam("j_upstream"),
        arrived=bindparam("j_arrived"),
        missed=bindparam("j_missed"),
        fired=bindparam("j_fired"),
    )
)

# Who waits at a join has no open task run, as who sleeps inside a visit has, and no time at
# which it is woken, as who waits for its next attempt has; the items of a list have a parent.
_AT_JOIN = (
    branches.c.flow_run_id == bindparam("w_run"),
    branches.c.task == bindparam("w_task"),
    branches.c.state == BranchState.WAITING,
    branches.c.task_run_id.is_(None),
    branches.c.wake_at.is_(None),
    branches.c.parent_id.is_(None),
)

_WAITING = Statement(
    select(branches.c.id, branches.c.path, branches.c.claim, branches.c.previous_id)
    .where(*_AT_JOIN)
    .order_by(branches.c.id)
    .with_for_update()
)

_END_WAITING = Statement(
    update(branches)
    .where(*_AT_JOIN, branches.c.id.not_in(bindparam("w_chosen", expanding=True)))
    .values(state=BranchState.DONE, joined_by=bindparam("w_joined"))
)

_FIRE = Statement(
    update(branches)
    .where(branches.c.id == bindparam("b_id"), branches.c.state == BranchState.WAITING)
    .values(
        state=bindparam("b_state"),
        path=bindparam("b_path"),
        iteration=bindparam("b_iteration"),
        attempt=bindparam("b_attempt"),
        task_run_id=bindparam("b_task_run"),
        failed_attempts=0,
        joined_by=bindparam("b_joined"),
        claim=bindparam("b_claim"),
        worker_id=bindparam("b_worker"),
        ready_at=bindparam("b_ready_at"),
    )
)
