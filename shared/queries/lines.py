"""Who waits for a turn under a limit, behind whom, and who has the places."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, and_, func, or_, select

from shared.durations import Rate
from shared.explanation import NAMED
from shared.models_limits import Limiter, LimitPlace, PlaceState
from shared.queries.rows import AnyRow
from shared.standing import InLine, Place

limiters = Limiter.__table__
places = LimitPlace.__table__

_MAX_AHEAD = 10_000
"""A line that is longer is told to be as long as this."""
_IN_USE = places.c.state.in_([PlaceState.CALLED, PlaceState.RUNNING, PlaceState.ASLEEP])


def read_lines(
    connection: Connection, branches: Sequence[AnyRow], now: datetime
) -> dict[str, InLine]:
    """What those of the branches wait for that stand in line, by branch."""
    waiting = connection.execute(
        select(
            places.c.holder,
            places.c.limiter_id,
            places.c.number,
            places.c.arrived_at,
            places.c.branch_id,
            places.c.task,
            places.c.concurrency,
            places.c.rate_count,
            places.c.rate_seconds,
            limiters.c.key,
            limiters.c.next_at,
        )
        .join(limiters, limiters.c.id == places.c.limiter_id)
        .where(
            places.c.branch_id.in_([row.id for row in branches]),
            places.c.state == PlaceState.WAITING,
        )
    ).all()
    by_branch = {row.id: row for row in branches}
    keys = sorted({row.limiter_id for row in waiting})
    in_use = _in_use(connection, keys)
    holders = {key: _holders(connection, key) for key in keys}
    return {
        row.branch_id: InLine(
            place=Place(by_branch[row.branch_id].path, by_branch[row.branch_id].task),
            key=row.key,
            ahead=_ahead(connection, row),
            in_use=in_use.get(row.limiter_id, 0),
            concurrency=row.concurrency,
            rate=None if row.rate_count is None else Rate(row.rate_count, row.rate_seconds),
            next_seconds=None if row.next_at is None else (row.next_at - now).total_seconds(),
            holders=holders[row.limiter_id],
            is_run=row.task is None,
        )
        for row in waiting
    }


def _in_use(connection: Connection, limiter_ids: Sequence[str]) -> dict[str, int]:
    counted = connection.execute(
        select(places.c.limiter_id, func.count(places.c.number).label("places"))
        .where(places.c.limiter_id.in_(limiter_ids), _IN_USE)
        .group_by(places.c.limiter_id)
    )
    return {row.limiter_id: row.places for row in counted}


def _ahead(connection: Connection, row: AnyRow) -> int:
    before = (
        select(places.c.number)
        .where(
            places.c.limiter_id == row.limiter_id,
            places.c.state == PlaceState.WAITING,
            or_(
                places.c.arrived_at < row.arrived_at,
                and_(places.c.arrived_at == row.arrived_at, places.c.number < row.number),
            ),
        )
        .limit(_MAX_AHEAD)
        .subquery()
    )
    return int(connection.execute(select(func.count()).select_from(before)).scalar_one())


def _holders(connection: Connection, limiter_id: str) -> list[str]:
    found = connection.execute(
        select(places.c.flow_run_id)
        .where(places.c.limiter_id == limiter_id, _IN_USE)
        .order_by(places.c.arrived_at, places.c.number)
        .limit(NAMED)
    ).scalars()
    return list(dict.fromkeys(found))
