"""The places of visits: take one before an attempt, and give it back when it is over.

A visit of a limited task begins only with a place under its key. Without one its branch is parked
in the same transaction, its task run open and waiting, and its worker is free. The place is kept
while the visit sleeps, and when its worker stops or is lost; it is given back in the transaction
that records an attempt or ends the branch, and that transaction calls the next in line.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, TypeAlias

from sqlalchemy import Connection, bindparam, delete, or_, select, update

from shared.afterwards import Ready, at_the_end, ring_for
from shared.ids import BranchId
from shared.limits import Bounds, LimitKey
from shared.models import Branch, FlowRun, TaskRun
from shared.models_limits import LimitPlace, PlaceState
from shared.statements import Row, Statement
from shared.status import BranchState, Reason, TaskRunStatus
from shared.store.branches import Visit
from shared.store.ledger import Arrival, Ledger, Verdict, bounds_of
from shared.store.limiters import call_next, lock_ledgers, open_ledgers
from shared.writer import apart

branches = Branch.__table__
runs = FlowRun.__table__
task_runs = TaskRun.__table__
places = LimitPlace.__table__

_LONGEST_SECONDS = 86_400.0
"""A branch counts as ready for no longer than this: its time may be from before a reboot."""

Taken: TypeAlias = Literal["begin", "resume", "parked", "lost"]
"""``begin`` the attempt or ``resume`` it after its sleep, with a place; or the branch is no
longer the worker's: it was ``parked``, or its claim was taken away."""


@dataclass(frozen=True, slots=True)
class PlaceWish:
    """A visit that needs a place to go on."""

    visit: Visit
    key: LimitKey
    bounds: Bounds
    lease_now: float


@apart
def take_places(connection: Connection, items: Sequence[PlaceWish]) -> list[Taken]:
    """Give each visit a place, or park its branch until its turn comes."""
    locked = _LOCK.all(connection, {"ids": sorted(item.visit.branch_id for item in items)})
    held = {row.id: row for row in locked if row.state == BranchState.RUNNING}
    asks = [item for item in items if _is_held(item.visit, held)]
    # Those that were ready at one moment, as the items of a list are, go in their own order.
    asks.sort(key=lambda item: (held[item.visit.branch_id].ready_at, item.visit.branch_id))
    lease_now = max((item.lease_now for item in asks), default=0.0)
    known, left_behind = _read_places(connection, asks)
    # Who has a place and has begun asks for nothing more.
    wanted = [key for item in asks if (key := _wanted(item, known.get(item.visit.branch_id)))]
    wanted += [LimitKey(limiter_id, "") for limiter_id in left_behind]
    ledgers = open_ledgers(connection, wanted)
    results: dict[BranchId, Taken] = {}
    for item in asks:
        branch_id = item.visit.branch_id
        place = known.get(branch_id)
        if place is None:
            ready_for = lease_now - held[branch_id].ready_at
            results[branch_id] = _ask(connection, item, ledgers[item.key.id], ready_for)
        else:
            results[branch_id] = _go_on(connection, item, place, ledgers)
    ring_for(connection, call_next(ledgers.values()))
    return [results.get(item.visit.branch_id, "lost") for item in items]


def _read_places(
    connection: Connection, asks: Sequence[PlaceWish]
) -> tuple[dict[str, Row], set[str]]:
    """The places that visits have or wait for; the keys of those that were given back now,
    because their branches had left them at a task before."""
    if not asks:
        return {}, set()
    tasks = {str(item.visit.branch_id): item.visit.task for item in asks}
    found = _KNOWN.all(connection, {"ids": sorted(tasks)})
    old = [row.holder for row in found if row.task != tasks[row.holder]]
    left = {row.limiter_id for row in _GIVE_BACK.all(connection, {"ids": old})} if old else set()
    return {row.holder: row for row in found if row.holder not in old}, left


def _is_held(visit: Visit, held: Mapping[BranchId, Row]) -> bool:
    row = held.get(visit.branch_id)
    return row is not None and (row.claim, row.task_run_id) == (visit.claim, visit.task_run_id)


def _wanted(item: PlaceWish, place: Row | None) -> LimitKey | None:
    """The key whose line it stands in, or is to enter; None where it has begun already."""
    if place is None:
        return item.key
    if place.state in (PlaceState.WAITING, PlaceState.CALLED):
        # It asked once: a key that comes to something else by now changes nothing.
        return LimitKey(place.limiter_id, item.key.shown)
    return None


def _ask(connection: Connection, item: PlaceWish, ledger: Ledger, ready_for: float) -> Taken:
    """Let a visit have a place or, where it must wait, stand in line; its branch has been ready
    for so many seconds."""
    visit = item.visit
    waited = min(max(0.0, ready_for), _LONGEST_SECONDS)
    arrival = Arrival(
        holder=visit.branch_id,
        branch_id=visit.branch_id,
        flow_run_id=visit.flow_run_id,
        task=visit.task,
        bounds=item.bounds,
        arrived_at=ledger.now - timedelta(seconds=waited),
    )
    if ledger.has_line or ledger.judge(item.bounds) is not Verdict.GO:
        ledger.enter(arrival, PlaceState.WAITING)
        return _park(connection, item)
    if visit.resumed:
        # It slept through the loss of its place, which nothing but a mistake can bring about.
        ledger.enter(arrival, PlaceState.ASLEEP)
        return "resume"
    ledger.enter(arrival, PlaceState.RUNNING)
    _BEGIN.run(connection, {"t_id": visit.task_run_id, "t_at": ledger.now})
    return "begin"


def _go_on(
    connection: Connection, item: PlaceWish, place: Row, ledgers: Mapping[str, Ledger]
) -> Taken:
    """What a visit does that has asked before."""
    match place.state:
        case PlaceState.WAITING:
            return _park(connection, item)
        case PlaceState.CALLED:
            ledger = ledgers[place.limiter_id]
            ledger.called -= 1
            ledger.note_start(bounds_of(place).rate)
            holder = item.visit.branch_id
            _SET.run(connection, {"p_holder": holder, "p_state": PlaceState.RUNNING.value})
            _BEGIN.run(connection, {"t_id": item.visit.task_run_id, "t_at": ledger.now})
        case PlaceState.ASLEEP:
            return "resume"
    return "begin"


def _park(connection: Connection, item: PlaceWish) -> Taken:
    """Let the branch wait in line, its task run open: its worker is free."""
    reason = f"{Reason.LIMIT}:{item.key.shown}"
    _PARK.run(connection, {"b_id": item.visit.branch_id})
    _WAIT.run(connection, {"t_id": item.visit.task_run_id, "t_reason": reason})
    return "parked"


# What gives places back. It is noted, and carried out at the end of the transaction.

Freed: TypeAlias = tuple[Literal["holder", "run"], str]
"""Whose places are to be looked at: one holder's, or all that belong to a run."""


def free_holders(connection: Connection, holders: Iterable[str]) -> None:
    """Give back what these branches have or wait for: their attempts are over."""
    at_the_end(connection, settle, [("holder", holder) for holder in holders])


def free_runs(connection: Connection, flow_run_ids: Iterable[str]) -> None:
    """Give back what these runs and their branches have or wait for, as far as they are over."""
    at_the_end(connection, settle, [("run", flow_run_id) for flow_run_id in flow_run_ids])


def keep_asleep(connection: Connection, holders: Sequence[str]) -> None:
    """Note that these visits sleep from now on, and keep their places."""
    _SET.write(
        connection,
        [{"p_holder": holder, "p_state": PlaceState.ASLEEP.value} for holder in sorted(holders)],
    )


def settle(connection: Connection, items: Sequence[Freed]) -> Ready:
    """Give places back and call who comes next; the branches to ring for."""
    holders = sorted(freed for kind, freed in items if kind == "holder")
    run_ids = sorted(freed for kind, freed in items if kind == "run")
    freed: set[str] = set()
    if holders:
        freed |= {row.limiter_id for row in _GIVE_BACK.all(connection, {"ids": holders})}
    if run_ids:
        freed |= {row.limiter_id for row in _GIVE_BACK_RUNS.all(connection, {"ids": run_ids})}
    return call_next(lock_ledgers(connection, freed).values()) if freed else {}


_LOCK = Statement(
    select(
        branches.c.id,
        branches.c.claim,
        branches.c.state,
        branches.c.task_run_id,
        branches.c.ready_at,
    )
    .where(branches.c.id.in_(bindparam("ids", expanding=True)))
    .order_by(branches.c.id)
    .with_for_update()
)

_KNOWN = Statement(
    select(
        places.c.holder,
        places.c.limiter_id,
        places.c.state,
        places.c.task,
        places.c.concurrency,
        places.c.rate_count,
        places.c.rate_seconds,
    ).where(places.c.holder.in_(bindparam("ids", expanding=True)))
)

_SET = Statement(
    update(places)
    .where(places.c.holder == bindparam("p_holder"))
    .values(state=bindparam("p_state"))
)

# Begun is a visit when it has its place: what it waited for is no part of it.
_BEGIN = Statement(
    update(task_runs)
    .where(task_runs.c.id == bindparam("t_id"))
    .values(started_at=bindparam("t_at"), reason=None)
)

_PARK = Statement(
    update(branches)
    .where(branches.c.id == bindparam("b_id"))
    .values(state=BranchState.WAITING.value, worker_id=None, wake_at=None)
)

_WAIT = Statement(
    update(task_runs)
    .where(task_runs.c.id == bindparam("t_id"), task_runs.c.status == TaskRunStatus.RUNNING)
    .values(status=TaskRunStatus.WAITING.value, reason=bindparam("t_reason"))
)

_GIVE_BACK = Statement(
    delete(places)
    .where(places.c.holder.in_(bindparam("ids", expanding=True)))
    .returning(places.c.limiter_id)
)

_GIVE_BACK_RUNS = Statement(
    delete(places)
    .where(
        places.c.flow_run_id.in_(bindparam("ids", expanding=True)),
        or_(
            select(branches.c.id)
            .where(branches.c.id == places.c.holder, branches.c.state == BranchState.DONE)
            .exists(),
            select(runs.c.id)
            .where(runs.c.id == places.c.holder, runs.c.finished_at.is_not(None))
            .exists(),
        ),
    )
    .returning(places.c.limiter_id)
)
