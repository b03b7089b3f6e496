"""The upkeep of limits: call who is due, give back what is nobody's, forget idle keys.

Places are given back and lines called on in the transactions of those who are done. What is here
covers the rest: starts that only time holds back, and whatever a crash or a mistake left behind.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, and_, bindparam, delete, func, select

from shared.afterwards import ring_for
from shared.models import Branch, FlowRun
from shared.models_limits import Limiter, LimitPlace, LimitStart, PlaceState
from shared.statements import Row, Statement
from shared.status import BranchState
from shared.store.limiters import call_next, lock_ledgers

branches = Branch.__table__
runs = FlowRun.__table__
limiters = Limiter.__table__
places = LimitPlace.__table__
starts = LimitStart.__table__

_KEYS_AT_ONCE = 200
_PAGE = 500
"""Places that one round looks at. All have been looked at after so many rounds as there are
pages."""


@dataclass(frozen=True, slots=True)
class LimitRound:
    """One look at the limits."""

    looks_at_places: bool
    """Whether places are looked at too, a page of them; else only who is due is called."""
    after: str | None = None
    """Where the last page ended."""


@dataclass(frozen=True, slots=True)
class LimitReport:
    """What it found."""

    next_in_seconds: float | None
    """Until the next start that only time holds back."""
    after: str | None = None
    """Where the next page begins; None for the beginning."""
    given_back: int = 0


def tend_limits(connection: Connection, items: Sequence[LimitRound]) -> list[LimitReport]:
    """Look after the limits; who goes on is rung for by the writer."""
    return [_tend(connection, item) for item in items]


def _tend(connection: Connection, item: LimitRound) -> LimitReport:
    now = datetime.now(UTC)
    wanted = {row.id for row in _DUE.all(connection, {"now": now})}
    after, dead = None, list[Row]()
    if item.looks_at_places:
        page = _PAGE_OF_PLACES.all(connection, {"after": item.after or _LEAST})
        dead = [row for row in page if _is_dead(row)]
        if len(page) == _PAGE:
            after = page[-1].holder
        if dead:
            _GIVE_BACK.write(
                connection, [{"p_holder": row.holder, "p_number": row.number} for row in dead]
            )
        wanted |= {row.limiter_id for row in dead}
        wanted |= {row.limiter_id for row in page if row.is_stuck}
        _forget_idle(connection, now)
    if wanted:
        ring_for(connection, call_next(lock_ledgers(connection, wanted).values()))
    (first,) = _NEXT.all(connection, {})
    seconds = None if first.at is None else (first.at - now).total_seconds()
    return LimitReport(seconds, after, len(dead))


def _is_dead(row: Row) -> bool:
    """Whether a place belongs to nobody who could give it back."""
    if row.branch_state is None:
        return True
    if row.task is None:
        return row.finished_at is not None
    if row.branch_state == BranchState.DONE or row.branch_task != row.task:
        return True
    # Between two attempts, or at a join: a visit with a place has an open task run.
    return row.branch_state == BranchState.WAITING and row.task_run_id is None


def _forget_idle(connection: Connection, now: datetime) -> None:
    """Delete keys that nobody asked for lately."""
    idle = [row.id for row in _IDLE.all(connection, {"now": now})]
    if idle:
        connection.execute(delete(starts).where(starts.c.limiter_id.in_(idle)))
        connection.execute(delete(limiters).where(limiters.c.id.in_(idle)))


_LEAST = "00000000-0000-0000-0000-000000000000"

_DUE = Statement(
    select(limiters.c.id)
    .where(limiters.c.next_at <= bindparam("now"), limiters.c.next_at.is_not(None))
    .order_by(limiters.c.next_at)
    .limit(_KEYS_AT_ONCE)
)

_NEXT = Statement(
    select(func.min(limiters.c.next_at).label("at")).where(limiters.c.next_at.is_not(None))
)

_others = places.alias("others")

_PAGE_OF_PLACES = Statement(
    select(
        places.c.holder,
        places.c.number,
        places.c.limiter_id,
        places.c.task,
        branches.c.state.label("branch_state"),
        branches.c.task.label("branch_task"),
        branches.c.task_run_id,
        runs.c.finished_at,
        # Of a line behind places that are in use, one that is given back calls the next.
        and_(
            places.c.state == PlaceState.WAITING.value,
            limiters.c.next_at.is_(None),
            ~select(_others.c.holder)
            .where(
                _others.c.limiter_id == places.c.limiter_id,
                _others.c.state.in_(
                    [PlaceState.CALLED.value, PlaceState.RUNNING.value, PlaceState.ASLEEP.value]
                ),
            )
            .exists(),
        ).label("is_stuck"),
    )
    .select_from(places)
    .join(limiters, limiters.c.id == places.c.limiter_id)
    .outerjoin(branches, branches.c.id == places.c.branch_id)
    .outerjoin(runs, runs.c.id == places.c.flow_run_id)
    .where(places.c.holder > bindparam("after"))
    .order_by(places.c.holder)
    .limit(_PAGE)
)

_GIVE_BACK = Statement(
    delete(places).where(
        places.c.holder == bindparam("p_holder"), places.c.number == bindparam("p_number")
    )
)

_IDLE = Statement(
    select(limiters.c.id)
    .where(
        limiters.c.expires_at < bindparam("now"),
        ~select(places.c.holder).where(places.c.limiter_id == limiters.c.id).exists(),
    )
    .order_by(limiters.c.expires_at)
    .limit(_KEYS_AT_ONCE)
    .with_for_update(skip_locked=True)
)
