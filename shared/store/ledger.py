"""Who may go on under the keys of limits: one set of rules, for visits and for runs.

Under the lock of its limiter, whoever asks for a place gets it or stands in line, in the order of
arrival; whenever something changes, those at the head of the line are called who may go on.

- *Concurrency*: the places in use are counted, those of who was called and has not begun included.
- *Rate*: every start is noted with its time. The start that would be one too many for a rate of N
  in T waits until T after the N-th before it, so that no stretch of T ever sees more than N. What
  counts is when a visit begins, not when it was called; so at most N are called ahead.

Where several who ask under one key allow different things, each is judged by its own. The line is
not overtaken: whoever stands behind one that must wait waits, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum

from sqlalchemy import Connection, bindparam, select, update

from shared.durations import Rate
from shared.ids import BranchId, FlowRunId
from shared.limits import Bounds
from shared.models import Branch
from shared.models_limits import Limiter, LimitPlace, LimitStart, PlaceState
from shared.statements import Row, Statement
from shared.status import BranchState

branches = Branch.__table__
limiters = Limiter.__table__
places = LimitPlace.__table__
starts = LimitStart.__table__

CALLED_AT_ONCE = 500
"""How many are called in one transaction; the upkeep goes on with the rest."""
KEPT = timedelta(minutes=10)
"""How long a key without places is kept: most come again."""
_READ_AHEAD = 20
"""Starts that are read at a time: who is called after another one looks at the next."""


class Verdict(Enum):
    """What becomes of one who is next, where it is no matter of time."""

    GO = "go"
    FULL = "full"
    """A place must be given back first, or somebody who was called begin."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One who asks for a place."""

    holder: str
    branch_id: BranchId
    flow_run_id: FlowRunId
    task: str | None
    bounds: Bounds
    arrived_at: datetime


@dataclass(slots=True)
class Ledger:
    """One key whose limiter is locked by this transaction."""

    connection: Connection
    row: Row
    now: datetime
    called: int
    in_use: int
    """Places in all, those of who was called included."""
    has_line: bool
    """Whether anybody waits."""
    arrivals: int
    starts: int
    kept_starts: int
    last_start: datetime | None
    next_at: datetime | None
    expires_at: datetime
    times: dict[int, datetime] = field(default_factory=dict)
    """Starts that were read or noted here, by number."""

    def judge(self, bounds: Bounds) -> Verdict | datetime:
        """Whether one with these bounds may go on now; else when, where that is known."""
        if bounds.concurrency is not None and self.in_use >= bounds.concurrency:
            return Verdict.FULL
        if bounds.rate is None:
            return Verdict.GO
        count, length = bounds.rate.count, timedelta(seconds=bounds.rate.per_seconds)
        if self.called >= count:
            return Verdict.FULL
        before = self._time_of(self.starts + self.called + 1 - count)
        if before is None or before + length <= self.now:
            return Verdict.GO
        return before + length

    def _time_of(self, number: int) -> datetime | None:
        """When the start of that number was; None before the first one that is known."""
        if number < 1:
            return None
        if number not in self.times:
            wanted = {"limiter": self.row.id, "low": number, "high": number + _READ_AHEAD}
            for row in _STARTS.all(self.connection, wanted):
                self.times[row.number] = row.at
        return self.times.get(number)

    def enter(self, arrival: Arrival, state: PlaceState) -> None:
        """Let one who asks have a place, or stand in line."""
        self.arrivals += 1
        rate = arrival.bounds.rate
        _ENTER.write(
            self.connection,
            [
                {
                    "holder": arrival.holder,
                    "limiter_id": self.row.id,
                    "number": self.arrivals,
                    "arrived_at": arrival.arrived_at,
                    "state": state.value,
                    "branch_id": arrival.branch_id,
                    "flow_run_id": arrival.flow_run_id,
                    "task": arrival.task,
                    "concurrency": arrival.bounds.concurrency,
                    "rate_count": None if rate is None else rate.count,
                    "rate_seconds": None if rate is None else rate.per_seconds,
                }
            ],
        )
        if state is PlaceState.WAITING:
            self.has_line = True
            return
        self.in_use += 1
        self.note_start(rate)

    def note_start(self, rate: Rate | None) -> None:
        """Note that one with this rate begins now."""
        if rate is None:
            return
        # Clocks of several hosts differ: what is noted never goes back.
        at = self.last_start = max(self.now, self.last_start or self.now)
        self.starts += 1
        self.kept_starts = max(self.kept_starts, rate.count)
        self.times[self.starts] = at
        self.expires_at = max(self.expires_at, at + timedelta(seconds=rate.per_seconds))
        key = {"limiter_id": self.row.id}
        _NOTE.write(self.connection, [{**key, "number": self.starts, "at": at}])
        _FORGET.run(
            self.connection, {"limiter": self.row.id, "number": self.starts - self.kept_starts}
        )

    def call(self) -> dict[BranchId, str]:
        """Call those at the head of the line who may go on; their branches, which are ready
        then, with their queues."""
        called: dict[BranchId, str] = {}
        passed, most, self.next_at = 0, 1, None
        while self.has_line and len(called) < CALLED_AT_ONCE:
            heads = self._heads(passed, most)
            if not heads:
                self.has_line = passed > 0
                return called
            free: dict[BranchId, str] | None = None
            for head in heads:
                verdict = self.judge(bounds_of(head))
                if verdict is not Verdict.GO:
                    self.next_at = verdict if isinstance(verdict, datetime) else None
                    return called
                free = self._lock(heads) if free is None else free
                if head.branch_id in free:
                    self._call(head)
                    called[head.branch_id] = free[head.branch_id]
                else:
                    passed += 1
            # Mostly the first alone may go on.
            most = min(most * 4, 64)
        if self.has_line:
            self.next_at = self.now
        return called

    def _heads(self, passed: int, most: int) -> list[Row]:
        wanted = {"limiter": self.row.id, "passed": passed, "most": most}
        return _HEADS.all(self.connection, wanted)

    def _lock(self, heads: Sequence[Row]) -> dict[BranchId, str]:
        """Lock who waits, but for those that others have locked: they are being stopped. To wait
        for them here would be against the order of locks."""
        rows = _LOCK_WAITING.all(self.connection, {"ids": [head.branch_id for head in heads]})
        return {row.id: row.queue for row in rows}

    def _call(self, head: Row) -> None:
        self.in_use += 1
        self.called += 1
        _CALL.run(self.connection, {"p_holder": head.holder})
        _MAKE_READY.run(self.connection, {"b_id": head.branch_id})

    def save(self) -> None:
        """Write what changed of the limiter itself."""
        _SAVE.run(
            self.connection,
            {
                "l_id": self.row.id,
                "l_arrivals": self.arrivals,
                "l_starts": self.starts,
                "l_kept": self.kept_starts,
                "l_last": self.last_start,
                "l_next": self.next_at,
                "l_expires": max(self.expires_at, self.now + KEPT),
            },
        )


def bounds_of(place: Row) -> Bounds:
    """What the one who asked for a place allows."""
    if place.rate_count is None:
        return Bounds(place.concurrency)
    return Bounds(place.concurrency, Rate(place.rate_count, place.rate_seconds))


_HEADS = Statement(
    select(
        places.c.holder,
        places.c.branch_id,
        places.c.concurrency,
        places.c.rate_count,
        places.c.rate_seconds,
    )
    .where(
        places.c.limiter_id == bindparam("limiter"),
        places.c.state == PlaceState.WAITING.value,
    )
    .order_by(places.c.arrived_at, places.c.number)
    .limit(bindparam("most"))
    .offset(bindparam("passed"))
)

_STARTS = Statement(
    select(starts.c.number, starts.c.at).where(
        starts.c.limiter_id == bindparam("limiter"),
        starts.c.number >= bindparam("low"),
        starts.c.number <= bindparam("high"),
    )
)

_ENTER = Statement(places.insert(), columns=tuple(column.name for column in places.columns))

_NOTE = Statement(starts.insert(), columns=("limiter_id", "number", "at"))

_FORGET = Statement(
    starts.delete().where(
        starts.c.limiter_id == bindparam("limiter"), starts.c.number <= bindparam("number")
    )
)

_LOCK_WAITING = Statement(
    select(branches.c.id, branches.c.queue)
    .where(
        branches.c.id.in_(bindparam("ids", expanding=True)),
        branches.c.state == BranchState.WAITING,
    )
    .order_by(branches.c.id)
    .with_for_update(skip_locked=True)
)

_CALL = Statement(
    update(places)
    .where(places.c.holder == bindparam("p_holder"))
    .values(state=PlaceState.CALLED.value)
)

# Since when it is ready is left as it was: it has waited since then.
_MAKE_READY = Statement(
    update(branches)
    .where(branches.c.id == bindparam("b_id"), branches.c.state == BranchState.WAITING)
    .values(state=BranchState.READY.value)
)

_SAVE = Statement(
    update(limiters)
    .where(limiters.c.id == bindparam("l_id"))
    .values(
        arrivals=bindparam("l_arrivals"),
        starts=bindparam("l_starts"),
        kept_starts=bindparam("l_kept"),
        last_start=bindparam("l_last"),
        next_at=bindparam("l_next"),
        expires_at=bindparam("l_expires"),
    )
)
