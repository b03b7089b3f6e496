"""Signals: send one to a run, and let whoever waits for it go on.

A signal that comes before anybody waits for it is kept. Both sides hold the lock of the run,
so that a signal and a wait that begin at the same moment find each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import Connection, bindparam, select, update

from shared.ids import BranchId, FlowRunId, new_id
from shared.models import Branch, SignalRow
from shared.pools import DEFAULT_QUEUE
from shared.statements import Statement
from shared.status import BranchState, RunStatus
from shared.store.step import Step
from shared.store.stopping import lock_runs

branches = Branch.__table__
signals = SignalRow.__table__

Sent = Literal["sent", "again", "over", "unknown"]


@dataclass(frozen=True, slots=True)
class NewSignal:
    """A signal that somebody sends."""

    flow_run_id: FlowRunId
    name: str
    data: bytes
    """JSON."""
    received_at: datetime
    ready_at: float
    """Lease time."""
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class SentSignal:
    """What became of it."""

    result: Sent
    """``again``: one with its key was sent before, and counts."""
    branch_id: BranchId | None = None
    """The branch that goes on, to ring for."""
    queue: str = DEFAULT_QUEUE
    """Where it waits for a worker."""


def send_signals(connection: Connection, items: Sequence[NewSignal]) -> list[SentSignal]:
    """Store signals for runs that are not over, each idempotency key of a run once."""
    known = lock_runs(connection, sorted({item.flow_run_id for item in items}))
    results = []
    for item in items:
        run = known.get(item.flow_run_id)
        if run is None:
            results.append(SentSignal("unknown"))
        elif run.status != RunStatus.RUNNING:
            results.append(SentSignal("over"))
        elif item.idempotency_key is not None and _was_sent(connection, item):
            results.append(SentSignal("again"))
        else:
            results.append(_send(connection, item))
    return results


def _was_sent(connection: Connection, item: NewSignal) -> bool:
    parameters = {"run": item.flow_run_id, "key": item.idempotency_key}
    return bool(_BY_KEY.all(connection, parameters))


def _send(connection: Connection, item: NewSignal) -> SentSignal:
    waiting = _WAITING.all(connection, {"run": item.flow_run_id, "name": item.name})
    branch = waiting[0] if waiting else None
    _INSERT.write(
        connection,
        [
            {
                "id": new_id(),
                "flow_run_id": item.flow_run_id,
                "name": item.name,
                "data": item.data,
                "idempotency_key": item.idempotency_key,
                "received_at": item.received_at,
                "task_run_id": None if branch is None else branch.task_run_id,
            }
        ],
    )
    if branch is None:
        return SentSignal("sent")
    _LET_GO.run(connection, {"b_id": branch.id, "b_ready_at": item.ready_at})
    return SentSignal("sent", BranchId(branch.id), branch.queue)


def take_kept_signal(connection: Connection, step: Step) -> bool:
    """Give the oldest signal that was kept to a step that waits for it; whether there was one."""
    kept = _KEPT.all(connection, {"run": step.flow_run_id, "name": step.signal})
    if not kept:
        return False
    _TAKE.run(connection, {"s_id": kept[0].id, "s_task_run": step.visit.task_run_id})
    return True


_BY_KEY = Statement(
    select(signals.c.id).where(
        signals.c.flow_run_id == bindparam("run"), signals.c.idempotency_key == bindparam("key")
    )
)

_WAITING = Statement(
    select(branches.c.id, branches.c.task_run_id, branches.c.queue)
    .where(
        branches.c.flow_run_id == bindparam("run"),
        branches.c.signal == bindparam("name"),
        branches.c.state == BranchState.WAITING,
    )
    .order_by(branches.c.ready_at, branches.c.id)
    .limit(1)
    .with_for_update()
)

_LET_GO = Statement(
    update(branches)
    .where(branches.c.id == bindparam("b_id"), branches.c.state == BranchState.WAITING)
    .values(state=BranchState.READY.value, ready_at=bindparam("b_ready_at"))
)

_INSERT = Statement(
    signals.insert(),
    columns=(
        "id",
        "flow_run_id",
        "name",
        "data",
        "idempotency_key",
        "received_at",
        "task_run_id",
    ),
)

_KEPT = Statement(
    select(signals.c.id)
    .where(
        signals.c.flow_run_id == bindparam("run"),
        signals.c.name == bindparam("name"),
        signals.c.task_run_id.is_(None),
    )
    .order_by(signals.c.id)
    .limit(1)
)

_TAKE = Statement(
    update(signals)
    .where(signals.c.id == bindparam("s_id"))
    .values(task_run_id=bindparam("s_task_run"))
)
