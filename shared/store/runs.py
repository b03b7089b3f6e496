"""Runs: create them, each with its first branch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection, bindparam, select
from sqlalchemy.dialects import postgresql, sqlite

from shared.afterwards import ring_for
from shared.database import announces
from shared.ids import BranchId, FlowRunId, TaskRunId
from shared.limits import RunLimit
from shared.models import Branch, FlowRun, StoredDefinition, TaskRun
from shared.pools import DEFAULT_QUEUE
from shared.statements import Statement
from shared.status import BranchState, RunStatus
from shared.store.admission import Admission, runs_to_cancel
from shared.store.places import settle
from shared.store.stopping import Cancel, cancel_runs
from shared.writer import apart

runs = FlowRun.__table__
branches = Branch.__table__
task_runs = TaskRun.__table__
definitions = StoredDefinition.__table__

_TRIES = 5
"""To make room for a run while others begin."""


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run as it is accepted, with its first branch."""

    flow_run_id: FlowRunId
    branch_id: BranchId
    flow_id: str
    name: str
    definition_hash: str
    definition_json: bytes
    input_json: bytes
    tags_json: bytes
    start_task: str
    start_type: str
    created_at: datetime
    ready_at: float
    """Lease time."""
    idempotency_key: str | None = None
    request_hash: str | None = None
    deadline: datetime | None = None
    """When it fails if it is not over by then."""
    start_queue: str = DEFAULT_QUEUE
    start_priority: int = 0
    parent: "ParentVisit | None" = None
    """Of a sub-flow's run."""
    schedule_id: str | None = None
    """The schedule that starts it, by an idempotency key."""
    limit: RunLimit | None = None
    """Of a flow with ``concurrency``: the place that it needs to begin."""


@dataclass(frozen=True, slots=True)
class ParentVisit:
    """The visit that waits for a sub-flow's run."""

    flow_run_id: FlowRunId
    task_run_id: TaskRunId
    depth: int
    """How many runs stand above the new one."""


@dataclass(frozen=True, slots=True)
class CreatedRun:
    """The run that a submit came to: a new one, or the one its key made before."""

    flow_run_id: FlowRunId
    branch_id: BranchId | None
    """The branch to ring for; None for a replay, and for a run that must wait its turn."""
    replayed: bool = False
    mismatch: bool = False
    """The key was used before, with another body."""
    refused_for: FlowRunId | None = None
    """Nothing was stored: this run has the place, and whoever comes meanwhile is refused."""
    cancelled: tuple[FlowRunId, ...] = ()
    """Runs that were cancelled for this one."""


@apart
def create_runs(connection: Connection, items: Sequence[NewRun]) -> list[CreatedRun]:
    """Store new runs and their first branches, each idempotency key once."""
    _store_definitions(connection, items)
    announced = announces(connection)
    results: dict[FlowRunId, CreatedRun] = {}
    plain = [item for item in items if item.idempotency_key is None and item.limit is None]
    accepted = list(plain)
    if plain:
        _INSERT_RUN.write(connection, [_run_row(item, announced) for item in plain])
    # By their keys, as every batch does it: who inserts a key waits for whoever inserts the same.
    for item in sorted(items, key=lambda one: one.idempotency_key or ""):
        if item.limit is not None:
            continue
        if item.idempotency_key is None:
            results[item.flow_run_id] = CreatedRun(item.flow_run_id, item.branch_id)
            continue
        created = _create_by_key(connection, item, announced)
        results[item.flow_run_id] = created
        if not created.replayed:
            accepted.append(item)
    if accepted:
        _INSERT_BRANCH.write(connection, [_branch_row(item) for item in accepted])
    limited = [(item, item.limit) for item in items if item.limit is not None]
    if limited:
        results |= _create_limited(connection, limited)
    return [results[item.flow_run_id] for item in items]


def _create_limited(
    connection: Connection, items: Sequence[tuple[NewRun, RunLimit]]
) -> dict[FlowRunId, CreatedRun]:
    """Store runs of flows with ``concurrency``, as far as they are not refused."""
    results: dict[FlowRunId, CreatedRun] = {}
    patient = [one for one in items if one[1].on_limit != "cancel_running"]
    admission = Admission(connection, [limit for _, limit in patient])
    for item, limit in patient:
        results[item.flow_run_id] = _admit(connection, item, limit, admission)
    admission.close()
    for item, limit in items:
        # One after another: the next may be meant to cancel the one before.
        if limit.on_limit == "cancel_running":
            results[item.flow_run_id] = _create_in_place(connection, item, limit)
    return results


def _create_in_place(connection: Connection, item: NewRun, limit: RunLimit) -> CreatedRun:
    """Store a run for which those that run are cancelled."""
    cancelled: tuple[FlowRunId, ...] = ()
    for tries_left in reversed(range(_TRIES)):
        if _replay(connection, item) is None:
            oldest = runs_to_cancel(connection, limit, cancelled)
            cancel_runs(connection, [Cancel(one, item.created_at) for one in oldest])
            cancelled += oldest
        # Keys are locked after runs: where another run has begun at this very moment, the key is
        # let go of again before that one is cancelled, too.
        with_key = connection.begin_nested()
        ready = settle(connection, [("run", flow_run_id) for flow_run_id in cancelled])
        admission = Admission(connection, [limit])
        if tries_left == 0 or admission.refusing(limit) is None:
            break
        with_key.rollback()
    ring_for(connection, ready)
    created = _admit(connection, item, limit, admission)
    admission.close()
    with_key.commit()
    return replace(created, cancelled=cancelled)


def _admit(
    connection: Connection,
    item: NewRun,
    limit: RunLimit,
    admission: Admission,
) -> CreatedRun:
    """Store one run with its place; not one that is refused, or was stored before."""
    replay = _replay(connection, item)
    if replay is not None:
        return replay
    refusing = admission.refusing(limit) if limit.on_limit == "refuse" else None
    if refusing is not None:
        return CreatedRun(item.flow_run_id, None, refused_for=refusing)
    created = _create_by_key(connection, item, announces(connection))
    if created.replayed:
        return created
    begins = admission.enter(item.flow_run_id, item.branch_id, limit, item.created_at)
    state = BranchState.READY if begins else BranchState.WAITING
    _INSERT_BRANCH.write(connection, [_branch_row(item) | {"state": state.value}])
    return CreatedRun(item.flow_run_id, item.branch_id if begins else None)


def _store_definitions(connection: Connection, items: Sequence[NewRun]) -> None:
    new = {item.definition_hash: item for item in items}
    for row in _KNOWN_DEFINITIONS.all(connection, {"hashes": sorted(new)}):
        del new[row.hash]
    if new:
        connection.execute(
            _insert(connection, definitions).on_conflict_do_nothing(),
            [
                {
                    "hash": definition_hash,
                    "content": item.definition_json,
                    "created_at": item.created_at,
                }
                for definition_hash, item in sorted(new.items())
            ],
        )


def _create_by_key(connection: Connection, item: NewRun, announced: bool) -> CreatedRun:
    statement = _insert(connection, runs).on_conflict_do_nothing(
        index_elements=[runs.c.idempotency_key]
    )
    # Not by the row count: drivers need not know it for an INSERT, and psycopg does not.
    row = _run_row(item, announced)
    if connection.execute(statement.returning(runs.c.id), row).first() is not None:
        return CreatedRun(item.flow_run_id, item.branch_id)
    replay = _replay(connection, item)
    assert replay is not None
    return replay


def _replay(connection: Connection, item: NewRun) -> CreatedRun | None:
    """The run that its idempotency key made before."""
    if item.idempotency_key is None:
        return None
    existing = connection.execute(
        select(runs.c.id, runs.c.request_hash).where(runs.c.idempotency_key == item.idempotency_key)
    ).one_or_none()
    if existing is None:
        return None
    return CreatedRun(
        FlowRunId(existing.id),
        None,
        replayed=True,
        mismatch=existing.request_hash != item.request_hash,
    )


def _insert(connection: Connection, table: object) -> "postgresql.Insert | sqlite.Insert":
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    return dialect.insert(table)  # type: ignore[no-any-return]  # the same for both


def _run_row(item: NewRun, announced: bool) -> dict[str, object]:
    return {
        "id": item.flow_run_id,
        "flow_id": item.flow_id,
        "name": item.name,
        "definition_hash": item.definition_hash,
        "status": RunStatus.RUNNING.value,
        "to_announce": int(announced),
        "input": item.input_json,
        "tags": item.tags_json,
        "active": 1,
        "failed": 0,
        "task_runs": 1,
        "idempotency_key": item.idempotency_key,
        "request_hash": item.request_hash,
        "schedule_id": item.schedule_id,
        "created_at": item.created_at,
        "deadline": item.deadline,
        "parent_flow_run_id": None if item.parent is None else item.parent.flow_run_id,
        "parent_task_run_id": None if item.parent is None else item.parent.task_run_id,
        "depth": 0 if item.parent is None else item.parent.depth,
        "concurrency_key": None if item.limit is None else item.limit.key.shown,
    }


def _branch_row(item: NewRun) -> dict[str, object]:
    return {
        "id": item.branch_id,
        "flow_run_id": item.flow_run_id,
        "path": "main",
        "state": BranchState.READY.value,
        "task": item.start_task,
        "task_type": item.start_type,
        "queue": item.start_queue,
        "priority": item.start_priority,
        "iteration": 1,
        "attempt": 0,
        "tracked": False,
        "claim": 0,
        "losses": 0,
        "ready_at": item.ready_at,
    }


# Locked against being pruned before the run that uses it is committed.
_KNOWN_DEFINITIONS = Statement(
    select(definitions.c.hash)
    .where(definitions.c.hash.in_(bindparam("hashes", expanding=True)))
    .order_by(definitions.c.hash)
    .with_for_update(read=True, key_share=True)
)

_INSERT_RUN = Statement(
    runs.insert(),
    columns=(
        "id",
        "flow_id",
        "name",
        "definition_hash",
        "status",
        "to_announce",
        "input",
        "tags",
        "active",
        "failed",
        "task_runs",
        "idempotency_key",
        "request_hash",
        "created_at",
        "deadline",
        "parent_flow_run_id",
        "parent_task_run_id",
        "depth",
    ),
)

_INSERT_BRANCH = Statement(
    branches.insert(),
    columns=(
        "id",
        "flow_run_id",
        "path",
        "state",
        "task",
        "task_type",
        "queue",
        "priority",
        "iteration",
        "attempt",
        "tracked",
        "claim",
        "losses",
        "ready_at",
    ),
)
