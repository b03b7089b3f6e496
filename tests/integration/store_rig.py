"""What the tests of the store work with: a migrated database, and short ways to fill it.

A :class:`Store` calls the public functions of ``shared.store`` in transactions of their own, as
the writer does, and reads back plain rows. What a test does not care about has a default here.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import psycopg
import pytest
from pydantic import JsonValue
from sqlalchemy import Table, select
from sqlmodel import SQLModel

from shared.database import Database, create_database, upgrade
from shared.decider import Targets
from shared.flow import Flow
from shared.ids import BranchId, FlowRunId, WorkerId, new_id
from shared.models import Branch, FlowRun, Join, LogLine, TaskRun
from shared.models_workers import Lease
from shared.settings import Settings, load_settings
from shared.status import BranchState, Outcome
from shared.store.branches import Claim, Claimed, Visit, claim_branches
from shared.store.runs import CreatedRun, NewRun, create_runs
from shared.store.steps import Recorded, Step, record_steps
from shared.store.workers import LEADER, AdvertisedType, Registration, register_workers
from shared.validation import validate_definition

NOW = datetime(2026, 5, 4, 3, 2, 1, 123456, tzinfo=UTC)
TYPE = "noop"
MAX_LOSSES = 3
LEASE_NOW = 1_000.0
"""The lease time at which everything is ready, held and recorded, where a test names no other."""
OF_A_RUN = (FlowRun, Branch, Join, TaskRun, LogLine)
"""The tables that hold what belongs to one run."""

T = TypeVar("T")
Target = str | list[str]
Edge = tuple[str, Target, Target] | tuple[str, Target, Target, Target]
"""A task, and where it leads after a success, after a failure and, where that is handled, after
an error."""


def flow_of(
    *edges: Edge,
    others: Sequence[str] = (),
    joins: Mapping[str, JsonValue] | None = None,
    max_task_runs: int = 10_000,
) -> Flow:
    """A flow with these conditions, which starts at the first source; ``others`` are tasks that
    no condition names, ``joins`` the rules of those that do not wait for all."""
    names: dict[str, None] = {}
    for source, *targets in edges:
        names[source] = None
        for target in targets:
            names |= dict.fromkeys([target] if isinstance(target, str) else target)
    names |= dict.fromkeys(others)
    names.pop("end", None)
    judged = validate_definition(
        {
            "id": "intake",
            "start_task": next(iter(names)),
            "tasks": [
                {"name": name, "type": TYPE, "join": (joins or {}).get(name, "all")}
                for name in names
            ],
            "conditions": [_condition(edge) for edge in edges],
            "max_task_runs": max_task_runs,
        },
        task_types={TYPE},
    )
    assert judged.flow is not None, judged.errors
    return judged.flow


def _condition(edge: Edge) -> JsonValue:
    source, *targets = edge
    fields = ("target_task_success", "target_task_failure", "target_task_error")
    condition: dict[str, JsonValue] = {"source_task": source}
    for field, target in zip(fields, targets, strict=False):
        condition[field] = list(target) if isinstance(target, list) else target
    return condition


SINGLE = flow_of(others=["first"])
"""One task, and the run is over."""
CHAIN = flow_of(("first", "second", "end"))


@dataclass(frozen=True)
class Begun:
    """A run whose first visit has begun."""

    flow: Flow
    run: FlowRunId
    visit: Visit


class Store:
    """A database, and what the tests do with it."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self.database = database
        self.settings = settings
        self.worker = self.register()

    def batch(self, function: Callable[..., list[T]], *items: object) -> list[T]:
        """Call a function that takes items, in a transaction of its own."""
        with self.database.write() as connection:
            return function(connection, list(items))

    def do(self, function: Callable[..., T], *arguments: object) -> T:
        """Call a function that takes arguments, in a transaction of its own."""
        with self.database.write() as connection:
            return function(connection, *arguments)

    def empty(self) -> "Store":
        """Forget everything, as after the migrations, and let a worker register."""
        with self.database.write() as connection:
            for table in SQLModel.metadata.sorted_tables:
                connection.execute(table.delete())
            connection.execute(table_of(Lease).insert(), {"name": LEADER, "expires": 0})
        self.worker = self.register()
        return self

    # Filling it.

    def register(self, *types: str, lease_now: float = LEASE_NOW) -> WorkerId:
        """A live worker that can run ``types``."""
        worker = WorkerId(new_id())
        told = tuple(AdvertisedType(name, "", None, "test") for name in types or (TYPE,))
        registration = Registration(worker, "host", 1, "1", ("default",), 10, told, lease_now)
        self.batch(register_workers, registration)
        return worker

    def create(self, flow: Flow = SINGLE, **changes: object) -> CreatedRun:
        """A run of ``flow``."""
        return self.batch(create_runs, new_run(flow, **changes))[0]

    def batch_of_runs(self, count: int, flow: Flow = SINGLE) -> list[CreatedRun]:
        """Several runs, stored in one transaction."""
        return self.batch(create_runs, *(new_run(flow) for _ in range(count)))

    def wish(self, *branches: BranchId | None, **changes: object) -> Claim:
        """A claim of these branches or, where none is named, of whatever is ready."""
        ids = tuple(branch for branch in branches if branch is not None)
        values: dict[str, Any] = {
            "worker_id": self.worker,
            "queues": ("default",),
            "task_types": {TYPE},
            "limit": 100,
            "max_losses": MAX_LOSSES,
            "branch_ids": ids or None,
            "ready_before": None if ids else LEASE_NOW,
            "ready_after": None if ids else LEASE_NOW + 1,
        }
        return Claim(**(values | changes))

    def claim(self, *branches: BranchId | None, **changes: object) -> list[Claimed]:
        """What such a claim gets."""
        return self.batch(claim_branches, self.wish(*branches, **changes))[0]

    def begin(self, flow: Flow = SINGLE, **changes: object) -> Begun:
        """A run whose first visit this worker has begun."""
        created = self.create(flow, **changes)
        (claimed,) = self.claim(created.branch_id)
        return Begun(flow, created.flow_run_id, claimed.visit)

    def step(self, flow: Flow, visit: Visit, **changes: Any) -> Step:
        """The step that ends ``visit`` with a success, and leads where its conditions say."""
        kind = changes.get("kind", "success")
        values: dict[str, Any] = {
            "worker_id": self.worker,
            "kind": kind,
            "targets": _targets(flow, visit.task, kind),
            "task_types": {TYPE},
            "lease_now": LEASE_NOW,
            "data": b'{"n":1}',
        }
        return Step(visit=visit, flow=flow, **(values | changes))

    def record(self, flow: Flow, visit: Visit, **changes: Any) -> Recorded:
        """Record that step."""
        return self.batch(record_steps, self.step(flow, visit, **changes))[0]

    def fork(self, flow: Flow, *, keep: int = 100) -> tuple[FlowRunId, dict[str, Visit]]:
        """A run whose first task has ended, with the visits it forked into by their tasks."""
        begun = self.begin(flow)
        forked = self.record(flow, begun.visit, keep=keep)
        return begun.run, {visit.task: visit for visit in forked.started}

    # Looking into it.

    def rows(self, model: type[SQLModel], **where: object) -> list[Any]:
        """The rows of a table that have these values, in the order of their keys."""
        table = table_of(model)
        query = select(table).order_by(*table.primary_key)
        for column, value in where.items():
            query = query.where(table.c[column] == value)
        with self.database.read() as connection:
            return list(connection.execute(query))

    def row(self, model: type[SQLModel], **where: object) -> Any:
        """The only such row."""
        (row,) = self.rows(model, **where)
        return row

    def run(self, run: FlowRunId) -> Any:
        """A run's row."""
        return self.row(FlowRun, id=run)

    def branch(self, branch: BranchId | None) -> Any:
        """A branch's row."""
        return self.row(Branch, id=branch)

    def task_run(self, visit: Visit) -> Any:
        """The task run of a visit."""
        return self.row(TaskRun, id=visit.task_run_id)

    def states(self, run: FlowRunId) -> list[str]:
        """The states of a run's branches."""
        return sorted(row.state for row in self.rows(Branch, flow_run_id=run))

    def set(self, model: type[SQLModel], row_id: str | None, **values: object) -> None:
        """Change a row past the store, for a state that takes long to come about."""
        table = table_of(model)
        with self.database.write() as connection:
            connection.execute(table.update().where(table.c.id == row_id).values(**values))


def _targets(flow: Flow, task: str, kind: str) -> Targets | None:
    """Where a visit leads that came to ``kind``; None where it is not over."""
    if kind not in set(Outcome):
        return None
    return flow.decider.choose(task, Outcome(kind))


def table_of(model: type[SQLModel]) -> Table:
    """The table of a model."""
    table: Table = SQLModel.metadata.tables[str(model.__tablename__)]
    return table


def new_run(flow: Flow = SINGLE, **changes: object) -> NewRun:
    """A run of ``flow`` as the API would store it."""
    values: dict[str, Any] = {
        "flow_run_id": FlowRunId(new_id()),
        "branch_id": BranchId(new_id()),
        "flow_id": flow.definition.id,
        "name": "",
        "definition_hash": flow.hash,
        "definition_json": flow.definition.model_dump_json(by_alias=True).encode(),
        "input_json": b'{"x":1}',
        "tags_json": b"[]",
        "start_task": flow.definition.start_task,
        "start_type": TYPE,
        "start_queue": flow.tasks[flow.definition.start_task].queue,
        "start_priority": flow.tasks[flow.definition.start_task].priority,
        "created_at": NOW,
        "ready_at": LEASE_NOW,
    }
    return NewRun(**(values | changes))


def waits_at_join(row: Any) -> bool:
    """Whether a branch's row says that it waits at a join."""
    opened = (row.task_run_id, row.wake_at)
    return bool(row.state == BranchState.WAITING and opened == (None, None))


DATABASES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]
"""What a fixture of a store is parametrised with."""


@contextmanager
def opened(database_url: str) -> Iterator[Store]:
    """The store of a new database."""
    settings = load_settings(database_url=database_url, database_timeout_seconds=10)
    upgrade(settings)
    database = create_database(settings)
    try:
        yield Store(database, settings)
    finally:
        database.close()


@contextmanager
def opened_for_module(request: pytest.FixtureRequest) -> Iterator[Store]:
    """A store for all tests of a module, which each begin with :meth:`Store.empty`: to make a
    database takes longer than what most of them do with it."""
    if request.param == "sqlite":
        folders: pytest.TempPathFactory = request.getfixturevalue("tmp_path_factory")
        url = f"sqlite:///{folders.mktemp('store') / 'flow.db'}"
    else:
        server = request.getfixturevalue("_postgresql_server")
        name = f"store_{new_id()}"
        with psycopg.connect(
            host=server, user="postgres", dbname="postgres", autocommit=True
        ) as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        url = f"postgresql+psycopg://postgres@/{name}?host={server}"
    with opened(url) as store:
        yield store


def at_once(*works: Callable[[], T]) -> list[T]:
    """What several functions return that threads begin at the same moment."""
    barrier = threading.Barrier(len(works))

    def begin(work: Callable[[], T]) -> T:
        barrier.wait(10)
        return work()

    with ThreadPoolExecutor(len(works)) as threads:
        return list(threads.map(begin, works, timeout=20))
