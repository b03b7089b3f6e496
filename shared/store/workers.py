"""Workers: register them, keep their leases, and declare the silent ones lost."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson
from sqlalchemy import Connection, bindparam, delete, or_, select, update

from shared.ids import BranchId, WorkerId
from shared.models import Branch
from shared.models_workers import Lease, TaskType, WorkerRow
from shared.status import BranchState

workers = WorkerRow.__table__
task_types = TaskType.__table__
branches = Branch.__table__
leases = Lease.__table__

LEADER = "leader"


@dataclass(frozen=True, slots=True)
class AdvertisedType:
    """A task type that a worker can run."""

    name: str
    description: str
    params_schema: bytes | None
    source: str


@dataclass(frozen=True, slots=True)
class Registration:
    """A worker that starts."""

    worker_id: WorkerId
    host: str
    pid: int
    version: str
    queues: tuple[str, ...]
    concurrency: int
    task_types: tuple[AdvertisedType, ...]
    lease_now: float


def register_workers(connection: Connection, items: Sequence[Registration]) -> list[None]:
    """Make workers known, with what they can run. Once more changes nothing."""
    now = datetime.now(UTC)
    for item in items:
        # Who did not hear of a commit tries again.
        connection.execute(task_types.delete().where(task_types.c.worker_id == item.worker_id))
        connection.execute(workers.delete().where(workers.c.id == item.worker_id))
        connection.execute(
            workers.insert(),
            {
                "id": item.worker_id,
                "host": item.host,
                "pid": item.pid,
                "version": item.version,
                "queues": orjson.dumps(item.queues),
                "concurrency": item.concurrency,
                "state": "live",
                "heartbeat": item.lease_now,
                "started_at": now,
                "seen_at": now,
            },
        )
        if item.task_types:
            connection.execute(
                task_types.insert(),
                [
                    {
                        "worker_id": item.worker_id,
                        "name": kind.name,
                        "description": kind.description,
                        "params_schema": kind.params_schema,
                        "source": kind.source,
                    }
                    for kind in item.task_types
                ],
            )
    return [None] * len(items)


def beat(connection: Connection, worker_id: WorkerId, lease_now: float) -> bool:
    """Renew a worker's lease; False where it was declared lost in the meantime."""
    renewed = connection.execute(
        _BEAT, {"w_id": worker_id, "w_beat": lease_now, "w_seen": datetime.now(UTC)}
    )
    return renewed.rowcount == 1


def revive(connection: Connection, worker_id: WorkerId, lease_now: float) -> None:
    """Let a worker that was declared lost, and has dropped its work, take part again."""
    connection.execute(
        update(workers)
        .where(workers.c.id == worker_id, workers.c.state == "lost")
        .values(state="live", heartbeat=lease_now, stopped_at=None)
    )


def leave(connection: Connection, worker_id: WorkerId, state: str) -> None:
    """Note that a worker is ``stopping`` or has ``stopped``."""
    connection.execute(
        update(workers)
        .where(workers.c.id == worker_id, workers.c.state.in_(["live", "stopping"]))
        .values(state=state, stopped_at=datetime.now(UTC))
    )


def held_branches(connection: Connection, worker_id: WorkerId) -> dict[BranchId, int]:
    """The branches a worker holds, with their claims."""
    rows = connection.execute(_HELD, {"w_id": worker_id})
    return {row.id: row.claim for row in rows}


def declare_lost(connection: Connection, lease_now: float, lease_seconds: float) -> list[WorkerId]:
    """Declare the workers lost that were silent for a lease, and say which.

    A heartbeat in the future is from before a restart of the host, whose clock began anew.
    """
    silent = list(
        connection.execute(
            select(workers.c.id)
            .where(
                workers.c.state.in_(["live", "stopping"]),
                or_(
                    workers.c.heartbeat < lease_now - lease_seconds,
                    workers.c.heartbeat > lease_now + lease_seconds,
                ),
            )
            .order_by(workers.c.id)
            .with_for_update(skip_locked=True)
        ).scalars()
    )
    return mark_lost(connection, silent)


def mark_lost(connection: Connection, worker_ids: Sequence[WorkerId]) -> list[WorkerId]:
    """Declare these workers lost, whoever knows that they are."""
    if worker_ids:
        connection.execute(
            update(workers)
            .where(workers.c.id.in_(worker_ids))
            .values(state="lost", stopped_at=datetime.now(UTC))
        )
    return list(worker_ids)


def live_process(connection: Connection, host: str, pid: int) -> list[WorkerId]:
    """The workers that are registered under a process and not known to have ended."""
    return list(
        connection.execute(
            select(workers.c.id).where(
                workers.c.host == host,
                workers.c.pid == pid,
                workers.c.state.in_(["live", "stopping"]),
            )
        ).scalars()
    )


def count_live(connection: Connection) -> int:
    """How many workers are live."""
    return len(connection.execute(_LIVE).all())


def try_lead(
    connection: Connection, worker_id: WorkerId, lease_now: float, lease_seconds: float
) -> bool:
    """Take or keep the lead: True for one worker at a time."""
    values = {"holder": worker_id, "expires": lease_now + lease_seconds}
    taken = connection.execute(
        update(leases)
        .where(
            leases.c.name == LEADER,
            or_(
                leases.c.holder == worker_id,
                leases.c.holder.is_(None),
                leases.c.expires < lease_now,
                leases.c.expires > lease_now + 2 * lease_seconds,
            ),
        )
        .values(**values)
    )
    return taken.rowcount == 1


def resign(connection: Connection, worker_id: WorkerId) -> None:
    """Give the lead back."""
    connection.execute(
        update(leases)
        .where(leases.c.name == LEADER, leases.c.holder == worker_id)
        .values(holder=None)
    )


def forget_workers(connection: Connection, before: datetime) -> int:
    """Delete workers that ended before a time, with what they advertised."""
    gone = list(
        connection.execute(
            select(workers.c.id).where(
                workers.c.state.in_(["stopped", "lost"]), workers.c.stopped_at < before
            )
        ).scalars()
    )
    if gone:
        connection.execute(delete(task_types).where(task_types.c.worker_id.in_(gone)))
        connection.execute(delete(workers).where(workers.c.id.in_(gone)))
    return len(gone)


_BEAT = (
    update(workers)
    .where(workers.c.id == bindparam("w_id"), workers.c.state.in_(["live", "stopping"]))
    .values(heartbeat=bindparam("w_beat"), seen_at=bindparam("w_seen"))
)

_HELD = select(branches.c.id, branches.c.claim).where(
    branches.c.worker_id == bindparam("w_id"), branches.c.state == BranchState.RUNNING
)

_LIVE = select(workers.c.id).where(workers.c.state == "live")
