"""The limiters: made, locked and read into ledgers, and their lines called on.

Locked after runs and branches, in the order of their ids, and once in a transaction wherever that
can be: so two transactions never wait for each other.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, bindparam, func, literal, select, update
from sqlalchemy.dialects import postgresql, sqlite

from shared.afterwards import Ready
from shared.ids import BranchId
from shared.limits import LimitKey
from shared.models_limits import Limiter, LimitPlace, LimitStart, PlaceState
from shared.statements import Row, Statement
from shared.store.ledger import KEPT, Ledger

limiters = Limiter.__table__
places = LimitPlace.__table__
starts = LimitStart.__table__

_TRIES = 5
_SKEW = timedelta(seconds=10)
"""How far the clocks of two hosts may be apart without anybody calling it a mistake."""


def open_ledgers(connection: Connection, keys: Iterable[LimitKey]) -> dict[str, Ledger]:
    """Lock the limiters of these keys, and make those that there are not, by their ids.

    Locked after runs and branches, and in the order of their ids.
    """
    wanted = {key.id: key for key in keys}
    if not wanted:
        return {}
    for _ in range(_TRIES):
        # Made before any is locked: to make one may mean to wait for whoever makes it, too.
        known = {row.id for row in _KNOWN.all(connection, {"ids": sorted(wanted)})}
        missing = [key for key in wanted.values() if key.id not in known]
        if missing:
            _make_limiters(connection, missing)
        found = lock_ledgers(connection, wanted)
        if len(found) == len(wanted):
            return found
    raise AssertionError("limiters that were made are not there")


def lock_ledgers(connection: Connection, ids: Iterable[str]) -> dict[str, Ledger]:
    """Lock these limiters, as far as there are such."""
    rows = _LOCK.all(connection, {"ids": sorted(ids)})
    if not rows:
        return {}
    # Only now: others may have had the lock until a moment ago.
    now = datetime.now(UTC)
    numbers: dict[str, dict[str, int]] = {row.id: {} for row in rows}
    for count in _COUNT.all(connection, {"ids": sorted(numbers)}):
        numbers[count.limiter_id][count.state] = count.places
    lines = {row.limiter_id for row in _LINES.all(connection, {"ids": sorted(numbers)})}
    return {
        row.id: Ledger(
            connection,
            row,
            now,
            called=numbers[row.id].get(PlaceState.CALLED.value, 0),
            in_use=sum(numbers[row.id].values()),
            has_line=row.id in lines,
            arrivals=row.arrivals,
            starts=row.starts,
            kept_starts=row.kept_starts,
            last_start=_last_start(connection, row, now),
            next_at=row.next_at,
            expires_at=row.expires_at,
        )
        for row in rows
    }


def _last_start(connection: Connection, row: Row, now: datetime) -> datetime | None:
    """When the last start was. Should it be far ahead, the clock was set back: what is noted for
    later counts as begun now then, so that nobody waits for that time to come again."""
    if row.last_start is None or row.last_start - now <= _SKEW:
        return row.last_start  # type: ignore[no-any-return]  # it is a time
    _BRING_BACK.run(connection, {"limiter": row.id, "now": now})
    return now


def call_next(ledgers: Iterable[Ledger]) -> Ready:
    """Call whoever may go on under these keys; the branches to ring for."""
    ready: dict[BranchId, str] = {}
    for ledger in ledgers:
        ready |= ledger.call()
        ledger.save()
    return ready


def _make_limiters(connection: Connection, keys: Sequence[LimitKey]) -> None:
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    connection.execute(
        dialect.insert(limiters).on_conflict_do_nothing(),
        [
            {
                "id": key.id,
                "key": key.shown,
                "arrivals": 0,
                "starts": 0,
                "kept_starts": 0,
                "expires_at": datetime.now(UTC) + KEPT,
            }
            for key in sorted(keys, key=lambda key: key.id)
        ],
    )


_LOCK = Statement(
    select(
        limiters.c.id,
        limiters.c.arrivals,
        limiters.c.starts,
        limiters.c.kept_starts,
        limiters.c.last_start,
        limiters.c.next_at,
        limiters.c.expires_at,
    )
    .where(limiters.c.id.in_(bindparam("ids", expanding=True)))
    .order_by(limiters.c.id)
    .with_for_update()
)

_KNOWN = Statement(select(limiters.c.id).where(limiters.c.id.in_(bindparam("ids", expanding=True))))

_COUNT = Statement(
    select(places.c.limiter_id, places.c.state, func.count(places.c.number).label("places"))
    .where(
        places.c.limiter_id.in_(bindparam("ids", expanding=True)),
        places.c.state.in_(
            [PlaceState.CALLED.value, PlaceState.RUNNING.value, PlaceState.ASLEEP.value]
        ),
    )
    .group_by(places.c.limiter_id, places.c.state)
)

_LINES = Statement(
    select(limiters.c.id.label("limiter_id")).where(
        limiters.c.id.in_(bindparam("ids", expanding=True)),
        select(literal(1))
        .where(places.c.limiter_id == limiters.c.id, places.c.state == PlaceState.WAITING.value)
        .exists(),
    )
)

_BRING_BACK = Statement(
    update(starts)
    .where(starts.c.limiter_id == bindparam("limiter"), starts.c.at > bindparam("now"))
    .values(at=bindparam("now"))
)
