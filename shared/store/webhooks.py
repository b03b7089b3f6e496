"""Webhooks: put the ends of runs into the outbox, take what is due, record what came of it.

A run that is to be told of carries a mark from its beginning. Whoever looks takes the marks of
the runs that have ended and fills the outbox in one transaction: so every end is in there once,
whichever way the run ended, and whatever died meanwhile. Nothing is asked of the transactions
that end runs, and nothing is kept where no receiver is configured.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, bindparam, literal_column, select, update

from shared.ids import new_id
from shared.models import FlowRun
from shared.models_webhooks import DeliveryState, WebhookDelivery
from shared.run_events import EndedRun, event_type, run_event
from shared.statements import Row, Statement

runs = FlowRun.__table__
deliveries = WebhookDelivery.__table__

_MOST_ENDED = 200
"""Runs that are put into the outbox at a time: some milliseconds, for which others wait."""


@dataclass(frozen=True, slots=True)
class Look:
    """A look at what there is to tell."""

    hosts: Mapping[str, str]
    """The configured receivers: digest -> host."""
    room: Mapping[str, int]
    """How many deliveries may be begun, by receiver."""
    public_url: str
    now: datetime
    due_again: datetime
    """When the deliveries that are taken are due again, should nothing be recorded of them."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event that is to be delivered now."""

    id: str
    event_id: str
    endpoint: str
    body: bytes
    attempt: int


@dataclass(frozen=True, slots=True)
class Looked:
    """What a look found."""

    taken: Sequence[Delivery]
    has_more: bool
    """Whether there is reason to look again as soon as there is room."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """What came of one attempt."""

    delivery: Delivery
    state: DeliveryState
    at: datetime
    status_code: int | None
    error: str | None
    next_at: datetime


def look_for_deliveries(connection: Connection, items: Sequence[Look]) -> list[Looked]:
    """Fill the outbox, and take from it what is due."""
    return [_look(connection, item) for item in items]


def _look(connection: Connection, look: Look) -> Looked:
    ended = _ENDED.all(connection, {"most": _MOST_ENDED})
    if ended:
        rows = [_delivery_row(run, endpoint, look) for run in map(_event, ended)
                for endpoint in look.hosts]  # fmt: skip
        _INSERT.write(connection, rows)
        _UNMARK.write(connection, [{"r_id": row.id} for row in ended])
    taken: list[Delivery] = []
    has_more = len(ended) == _MOST_ENDED
    for endpoint, room in look.room.items():
        wish = {"endpoint": endpoint, "now": look.now, "most": room}
        due = _DUE.all(connection, wish) if room else []
        has_more |= len(due) == room
        taken += [Delivery(r.id, r.event_id, endpoint, r.body, r.attempts + 1) for r in due]
    if taken:
        _TAKE.write(
            connection,
            [{"d_id": one.id, "d_attempt": one.attempt, "d_next": look.due_again} for one in taken],
        )
    return Looked(taken, has_more)


def _event(row: Row) -> tuple[str, EndedRun]:
    run = EndedRun(
        flow_run_id=row.id,
        flow_id=row.flow_id,
        name=row.name,
        status=row.status,
        outcome=row.outcome,
        tags=row.tags,
        error=row.error,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        parent_flow_run_id=row.parent_flow_run_id,
    )
    return new_id(), run


def _delivery_row(event: tuple[str, EndedRun], endpoint: str, look: Look) -> dict[str, object]:
    event_id, run = event
    return {
        "id": new_id(),
        "event_id": event_id,
        "flow_run_id": run.flow_run_id,
        "event_type": event_type(run.status),
        "endpoint": endpoint,
        "host": look.hosts[endpoint],
        "body": run_event(event_id, run, look.public_url),
        "state": DeliveryState.PENDING.value,
        "attempts": 0,
        "next_at": look.now,
        "created_at": look.now,
    }


def record_deliveries(connection: Connection, items: Sequence[Delivered]) -> list[None]:
    """Record attempts. One that somebody else has begun again in the meantime is passed over."""
    _RECORD.write(
        connection,
        [
            {
                "d_id": item.delivery.id,
                "d_attempt": item.delivery.attempt,
                "d_state": item.state.value,
                "d_status": item.status_code,
                "d_error": item.error,
                "d_next": item.next_at,
                "d_ended": None if item.state is DeliveryState.PENDING else item.at,
            }
            for item in items
        ],
    )
    return [None] * len(items)


# Literals, because SQLite does not use a partial index for a parameter.
_ENDED = Statement(
    select(
        runs.c.id,
        runs.c.flow_id,
        runs.c.name,
        runs.c.status,
        runs.c.outcome,
        runs.c.tags,
        runs.c.error,
        runs.c.created_at,
        runs.c.started_at,
        runs.c.finished_at,
        runs.c.parent_flow_run_id,
    )
    .where(runs.c.to_announce == literal_column("1"), runs.c.finished_at.is_not(None))
    .order_by(runs.c.finished_at)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)
)

_UNMARK = Statement(
    update(runs).where(runs.c.id == bindparam("r_id")).values(to_announce=literal_column("0"))
)

_INSERT = Statement(
    deliveries.insert(),
    columns=(
        "id",
        "event_id",
        "flow_run_id",
        "event_type",
        "endpoint",
        "host",
        "body",
        "state",
        "attempts",
        "next_at",
        "created_at",
    ),
)

_DUE = Statement(
    select(deliveries.c.id, deliveries.c.event_id, deliveries.c.body, deliveries.c.attempts)
    .where(
        deliveries.c.endpoint == bindparam("endpoint"),
        deliveries.c.state == literal_column("'pending'"),
        deliveries.c.next_at <= bindparam("now"),
    )
    .order_by(deliveries.c.next_at)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)
)

_TAKE = Statement(
    update(deliveries)
    .where(deliveries.c.id == bindparam("d_id"))
    .values(attempts=bindparam("d_attempt"), next_at=bindparam("d_next"))
)

_RECORD = Statement(
    update(deliveries)
    .where(
        deliveries.c.id == bindparam("d_id"),
        deliveries.c.attempts == bindparam("d_attempt"),
        deliveries.c.state == DeliveryState.PENDING.value,
    )
    .values(
        state=bindparam("d_state"),
        status_code=bindparam("d_status"),
        error=bindparam("d_error"),
        next_at=bindparam("d_next"),
        ended_at=bindparam("d_ended"),
    )
)
