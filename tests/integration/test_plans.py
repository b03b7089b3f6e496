"""The plans of what is really sent: whatever runs often finds its rows by an index.

A test calls public functions on a database of some thousand rows, notes the statements that
reach the driver, and asks the database how it runs them.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, text

from shared.definition import FlowDefinition
from shared.durations import Rate
from shared.flow import prepare_flow
from shared.ids import FlowRunId, TaskRunId, new_id
from shared.limits import Bounds, LimitKey
from shared.models_limits import Limiter, LimitPlace, LimitStart
from shared.models_webhooks import WebhookDelivery
from shared.queries import runs as run_queries
from shared.queries.endings import undone_visit
from shared.queries.runs import RunFilters
from shared.queries.schedules import due_schedules, running_schedules
from shared.status import RunStatus
from shared.store.branches import claim_branches
from shared.store.freeing import (
    Orphans,
    Release,
    free_orphans,
    free_stray,
    release_branches,
    rescue_branches,
)
from shared.store.limit_upkeep import LimitRound, tend_limits
from shared.store.places import PlaceWish, settle, take_places
from shared.store.runs import create_runs
from shared.store.steps import record_steps
from shared.store.stopping import Cancel, cancel_runs
from shared.store.sub_flows import cancel_abandoned
from shared.store.upkeep import prune_runs, wake_due
from shared.store.webhooks import Look, look_for_deliveries
from shared.store.workers import beat, held_branches
from tests.integration.store_rig import (
    DATABASES,
    LEASE_NOW,
    NOW,
    OF_A_RUN,
    Begun,
    Store,
    flow_of,
    new_run,
    opened_for_module,
)

RUNS = 2_000
FLOW = flow_of(("split", ["a", "b"], "end"), ("a", "meet", "end"), ("b", "meet", "end"))
LARGE = {
    str(model.__tablename__)
    for model in (*OF_A_RUN, WebhookDelivery, Limiter, LimitPlace, LimitStart)
}
"""The tables that grow with the number of runs."""
LINE = 300
"""Visits that came to one limit."""
SAGA = prepare_flow(
    FlowDefinition.model_validate(
        {
            "id": "saga",
            "start_task": "a",
            "tasks": [
                {"name": "a", "type": "noop", "compensate": "una"},
                {"name": "b", "type": "noop"},
                {"name": "una", "type": "noop"},
                {"name": "tidy", "type": "noop"},
            ],
            "conditions": [{"source_task": "a", "target_task_success": "b"}],
            "finally": "tidy",
        }
    ),
    "5a6a",
)


@dataclass
class Filled:
    """A store with many runs, some of them on their way."""

    store: Store
    ready: list[Any]
    begun: Begun
    asleep: Begun
    placed: str
    """A branch that has a place under the limit."""
    saga: Begun
    """It has something to undo."""
    undoing: Any
    """The first visit of an ending."""


@pytest.fixture(scope="module", params=DATABASES)
def filled(request: pytest.FixtureRequest) -> Iterator[Filled]:
    with opened_for_module(request) as store:
        created = store.batch(create_runs, *(new_run(FLOW) for _ in range(RUNS)))
        store.claim(*(one.branch_id for one in created[:200]), limit=200)
        store.batch(cancel_runs, *(Cancel(one.flow_run_id, NOW) for one in created[200:220]))
        begun, asleep = store.begin(FLOW), store.begin(FLOW)
        store.record(FLOW, asleep.visit, kind="suspended", data=None, wake_at=NOW)
        store.fork(FLOW)
        line = [_wish_place(store.begin(FLOW)) for _ in range(LINE)]
        store.batch(take_places, *line)
        placed = line[0].visit.branch_id
        sagas = [store.begin(SAGA) for _ in range(50)]
        sagas = [replace(s, visit=store.record(SAGA, s.visit).started[0]) for s in sagas]
        failed = store.record(SAGA, sagas[0].visit, kind="error", error=b"{}", targets=None)
        if not store.database.is_sqlite:
            with store.database.write() as connection:
                connection.execute(text("ANALYZE"))
        yield Filled(store, created[300:], begun, asleep, placed, sagas[1], failed.started[0])


def _wish_place(begun: Begun) -> PlaceWish:
    bounds = Bounds(concurrency=20, rate=Rate(40, 60.0))
    return PlaceWish(begun.visit, LimitKey("limited", "limited"), bounds, LEASE_NOW)


Work = Callable[[Filled, Connection], object]


def _wish(filled: Filled, **changes: object) -> Any:
    return filled.store.wish(*(one.branch_id for one in filled.ready[:20]), **changes)


def _release(filled: Filled) -> Release:
    visit = filled.begun.visit
    return Release(visit.branch_id, visit.claim, visit.task_run_id, LEASE_NOW)


def _orphans(filled: Filled) -> Orphans:
    return Orphans({filled.begun.visit.branch_id: filled.begun.visit.claim}, LEASE_NOW)


OFTEN: Mapping[str, Work] = {
    "schedules that are due": lambda f, c: due_schedules(c, NOW, 100),
    "schedules of which a run goes on": lambda f, c: running_schedules(c, ["a", "b"]),
    "claim what was rung": lambda f, c: claim_branches(c, [_wish(f)]),
    "claim what is late": lambda f, c: claim_branches(c, [f.store.wish(limit=10)]),
    "claim from every queue": lambda f, c: claim_branches(
        c, [f.store.wish(queues=("*",), limit=10)]
    ),
    "claim what was rung in any queue": lambda f, c: claim_branches(c, [_wish(f, queues=("*",))]),
    "claim a suspect": lambda f, c: claim_branches(c, [f.store.wish(suspects=True)]),
    "record a fork": lambda f, c: record_steps(c, [f.store.step(FLOW, f.begun.visit)]),
    "release": lambda f, c: release_branches(c, [_release(f)]),
    "rescue": lambda f, c: rescue_branches(c, [f.store.worker], LEASE_NOW),
    "free strays": lambda f, c: free_stray(c, LEASE_NOW),
    "cancel what nobody waits for": lambda f, c: cancel_abandoned(c, NOW),
    "free orphans": lambda f, c: free_orphans(c, [_orphans(f)]),
    "held by a worker": lambda f, c: held_branches(c, f.store.worker),
    "beat": lambda f, c: beat(c, f.store.worker, LEASE_NOW),
    "wake what is due": lambda f, c: wake_due(c, LEASE_NOW),
    "take a place": lambda f, c: take_places(c, [_wish_place(f.begun)]),
    "give a place back": lambda f, c: settle(c, [("holder", f.placed)]),
    "give the places of a run back": lambda f, c: settle(c, [("run", f.begun.run)]),
    "tend the limits": lambda f, c: tend_limits(c, [LimitRound(looks_at_places=False)]),
    "submit": lambda f, c: create_runs(c, [new_run(FLOW), new_run(FLOW, idempotency_key="k")]),
    "cancel": lambda f, c: cancel_runs(c, [Cancel(f.begun.run, NOW)]),
    "look for what to tell": lambda f, c: look_for_deliveries(
        c, [Look({"a": "a.example"}, {"a": 8}, "", NOW, NOW)]
    ),
    "prune": lambda f, c: prune_runs(c, NOW + timedelta(hours=1)),
    "a run": lambda f, c: run_queries.get_run(c, f.begun.run),
    "the version of a run": lambda f, c: run_queries.run_version(c, f.begun.run),
    "the statuses of runs": lambda f, c: run_queries.run_statuses(c, [f.begun.run] * 3),
    "begin an ending": lambda f, c: cancel_runs(c, [Cancel(f.saga.run, NOW)]),
    "undo": lambda f, c: record_steps(c, [f.store.step(SAGA, f.undoing, targets=())]),
    "fail to undo": lambda f, c: record_steps(
        c, [f.store.step(SAGA, f.undoing, kind="failure", targets=())]
    ),
    "what is undone": lambda f, c: undone_visit(c, f.undoing.flow_run_id, f.undoing.previous_id),
    "the first task runs of a run": lambda f, c: run_queries.list_task_runs(
        c, f.begun.run, None, 10
    ),
    "more task runs of a run": lambda f, c: run_queries.list_task_runs(
        c, f.begun.run, TaskRunId(f.begun.visit.task_run_id), 10
    ),
}
"""What the service does all the time: it touches only the rows that it is about."""

LISTS: Mapping[str, RunFilters] = {
    "all": RunFilters(),
    "status": RunFilters(status=RunStatus.RUNNING),
    "flow": RunFilters(flow_id="intake"),
    "status and flow": RunFilters(status=RunStatus.RUNNING, flow_id="intake"),
    "schedule": RunFilters(schedule_id="s"),
    "tag": RunFilters(tag="a"),
    "text": RunFilters(text="pure"),
    "after": RunFilters(created_after=datetime.now(UTC) - timedelta(hours=1)),
    "before": RunFilters(created_before=datetime.now(UTC) + timedelta(hours=1)),
}


INDEXES = {
    "schedules that are due": "schedule_to_look_at",
    "schedules of which a run goes on": "flow_run_of_schedule",
    "claim what is late": "branch_ready",
    "claim from every queue": "branch_ready",
    "claim a suspect": "branch_ready",
    "rescue": "branch_held",
    "free strays": "branch_held",
    "cancel what nobody waits for": "flow_run_awaited",
    "held by a worker": "branch_held",
    "wake what is due": "branch_to_wake",
    "look for what to tell": "flow_run_to_announce",
    "take a place": "limit_place_in_line",
    "give a place back": "limit_place_in_line",
    "give the places of a run back": "limit_place_of_run",
    "tend the limits": "limiter_by_next_start",
    "prune": "flow_run_by_finish",
    "the first task runs of a run": "task_run_of_visit",
}
"""The index without which such a statement would look at every branch, or at every run."""


class _UndoError(Exception):
    """Ends a transaction without a trace."""


def _sent(filled: Filled, work: Work) -> "list[_Sent]":
    """What ``work`` sends; what it did is undone."""
    with (
        suppress(_UndoError),
        filled.store.database.write() as connection,
        _noted(connection) as statements,
    ):
        work(filled, connection)
        raise _UndoError
    return statements


def test_what_runs_often_finds_its_rows_by_an_index(filled: Filled) -> None:
    for name, work in OFTEN.items():
        plans = _plans(filled.store, _sent(filled, work))
        assert plans, f"{name} sent nothing"
        for statement, plan in plans.items():
            assert not _walks(plan, may_follow_an_index=False), f"{name}: {statement}\n{plan}"
        expected = INDEXES.get(name, "")
        assert expected in "".join(plans.values()), f"{name} without {expected}: {plans}"


def test_a_rung_claim_does_not_walk_through_all_that_is_ready(filled: Filled) -> None:
    for name in ("claim what was rung", "claim what was rung in any queue"):
        statement, parameters = _sent(filled, OFTEN[name])[0]
        assert "branch_ready" not in _plan(filled.store, statement, parameters), name


def test_claims_are_in_the_order_of_the_index(filled: Filled) -> None:
    for name in ("claim what is late", "claim from every queue"):
        plans = _plans(filled.store, _sent(filled, OFTEN[name]))
        ordered = [plan for query, plan in plans.items() if "ORDER BY branch.priority" in query]
        assert ordered, plans
        for plan in ordered:
            assert "TEMP B-TREE" not in plan, f"{name}: {plan}"
            assert "Sort" not in plan, f"{name}: {plan}"


def _listing(filters: RunFilters, after: FlowRunId | None) -> Work:
    return lambda _, connection: run_queries.list_runs(connection, filters, after, 50)


def test_lists_are_read_in_the_order_of_an_index(filled: Filled) -> None:
    for name, filters in LISTS.items():
        for after in (None, FlowRunId(new_id())):
            plans = _plans(filled.store, _sent(filled, _listing(filters, after)))
            assert plans, f"{name} sent nothing"
            for statement, plan in plans.items():
                assert not _walks(plan, may_follow_an_index=True), f"{name}: {statement}\n{plan}"
                assert "TEMP B-TREE" not in plan, f"{name}: {statement}\n{plan}"


def test_a_statement_without_an_index_is_found_out(filled: Filled) -> None:
    """What these tests look for must be seen where it is."""
    query = text("SELECT id FROM task_run WHERE reason = 'none'")
    (plan,) = _plans(filled.store, _sent(filled, lambda _, c: c.execute(query))).values()
    assert _walks(plan, may_follow_an_index=False)
    assert _walks(plan, may_follow_an_index=True)


def _walks(plan: str, *, may_follow_an_index: bool) -> list[str]:
    """The lines of a plan that walk through all of a large table."""
    tables = "|".join(LARGE)
    if "QUERY PLAN ON" not in plan:
        pattern = rf"Seq Scan on \"?({tables})\b"
    elif may_follow_an_index:
        pattern = rf"SCAN ({tables})$"
    else:
        pattern = rf"SCAN ({tables})\b"
    return [line for line in plan.splitlines() if re.search(pattern, line)]


# Noting and asking.

_Sent = tuple[str, Any]


@contextmanager
def _noted(connection: Connection) -> Iterator[list[_Sent]]:
    """Every statement that reaches the driver of ``connection``, with its parameters."""
    sent: list[_Sent] = []
    driver: Any = connection.connection.dbapi_connection
    if connection.dialect.name == "sqlite":
        # It tells the text with the parameters in it.
        driver.set_trace_callback(lambda statement: sent.append((statement, None)))
        try:
            yield sent
        finally:
            driver.set_trace_callback(None)
    else:
        before = driver.cursor_factory
        driver.cursor_factory = _noting_cursor(sent)
        try:
            yield sent
        finally:
            driver.cursor_factory = before


def _noting_cursor(sent: list[_Sent]) -> type["psycopg.Cursor[Any]"]:
    class NotingCursor(psycopg.Cursor[Any]):
        def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
            sent.append((query, params))
            return super().execute(query, params, **options)

        def executemany(self, query: Any, params_seq: Any, **options: Any) -> None:
            rows = list(params_seq)
            sent.append((query, rows[0]))
            super().executemany(query, rows, **options)

    return NotingCursor


def _plans(store: Store, statements: Sequence[_Sent]) -> dict[str, str]:
    """How the database runs each of these statements."""
    plans = {}
    for statement, parameters in statements:
        if re.match(r"\s*(SELECT|UPDATE|DELETE)", statement):
            plans[statement] = _plan(store, statement, parameters)
    return plans


def _plan(store: Store, statement: str, parameters: Any) -> str:
    with store.database.read() as connection:
        driver: Any = connection.connection.dbapi_connection
        if store.database.is_sqlite:
            rows = driver.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()
            return "\n".join(["QUERY PLAN ON SQLITE", *(str(row[-1]) for row in rows)])
        # So few rows are read faster whole: the question is whether there is an index at all.
        driver.execute("SET LOCAL enable_seqscan = off")
        rows = driver.execute(f"EXPLAIN {statement}", parameters).fetchall()
        return "\n".join(str(row[0]) for row in rows)
