"""The places of runs: which of a limited flow's runs may begin, and who waits for them.

A run that must wait is stored like any other, its first branch parked; it is called in the order
of arrival, in the transaction that gives one before it its final status.
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, bindparam, select

from shared.ids import BranchId, FlowRunId
from shared.limits import RunLimit
from shared.models_limits import LimitPlace, PlaceState
from shared.statements import Statement
from shared.store.ledger import Arrival, Ledger, Verdict
from shared.store.limiters import call_next, open_ledgers

places = LimitPlace.__table__


def runs_to_cancel(
    connection: Connection, limit: RunLimit, cancelled: Sequence[FlowRunId]
) -> tuple[FlowRunId, ...]:
    """The oldest runs of a key, beside those that were cancelled already, that must be cancelled
    so that one more may begin. Nothing is locked.

    Those that stand in line count, too: where a run that was cancelled has yet to undo what it
    did, the next one would else wait for somebody whom nobody cancels any more.
    """
    assert limit.bounds.concurrency is not None
    ahead = [FlowRunId(row.holder) for row in _AHEAD.all(connection, {"limiter": limit.key.id})]
    oldest = ahead[: max(0, len(ahead) + 1 - limit.bounds.concurrency)]
    return tuple(one for one in oldest if one not in cancelled)


class Admission:
    """Gives places to the new runs of one transaction, under the locks of their keys."""

    def __init__(self, connection: Connection, limits: Sequence[RunLimit]) -> None:
        self._connection = connection
        self._ledgers = open_ledgers(connection, [limit.key for limit in limits])

    def refusing(self, limit: RunLimit) -> FlowRunId | None:
        """The run because of which another one could not begin at once."""
        if self._may_begin(limit):
            return None
        found = _FIRST.all(self._connection, {"limiter": limit.key.id})
        return FlowRunId(found[0].holder)

    def enter(
        self, flow_run_id: FlowRunId, branch_id: BranchId, limit: RunLimit, created_at: datetime
    ) -> bool:
        """Give a new run a place, or let it stand in line; whether it may begin."""
        begins = self._may_begin(limit)
        self._ledger(limit).enter(
            Arrival(flow_run_id, branch_id, flow_run_id, None, limit.bounds, created_at),
            PlaceState.RUNNING if begins else PlaceState.WAITING,
        )
        return begins

    def close(self) -> None:
        """Write the numbers of the keys; whoever else may go on is called."""
        call_next(self._ledgers.values())

    def _may_begin(self, limit: RunLimit) -> bool:
        ledger = self._ledger(limit)
        return not ledger.has_line and ledger.judge(limit.bounds) is Verdict.GO

    def _ledger(self, limit: RunLimit) -> Ledger:
        return self._ledgers[limit.key.id]


_AHEAD = Statement(
    select(places.c.holder)
    .where(places.c.limiter_id == bindparam("limiter"))
    .order_by(places.c.arrived_at, places.c.number)
)

_FIRST = Statement(
    select(places.c.holder)
    .where(places.c.limiter_id == bindparam("limiter"))
    .order_by(places.c.arrived_at, places.c.number)
    .limit(1)
)
