"""The concurrency of flows: which runs go on, wait, are refused, or cancelled for others."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from api import shapes
from shared.flow import Flow
from shared.ids import FlowRunId
from shared.limits import run_limit
from shared.models import Branch, FlowRun
from shared.models_limits import LimitPlace, PlaceState
from shared.queries.explain import Moment, read_standing
from shared.status import BranchState, RunStatus
from shared.store.runs import CreatedRun, NewRun, create_runs
from shared.store.signals import NewSignal, send_signals
from shared.validation import validate_definition
from tests.api_client import FLOW, open_client, settings_for
from tests.integration import limit_tasks
from tests.integration.limit_rig import LimitRig, crowd, fresh_stays, limits, restarted
from tests.integration.limit_tasks import INSIDE, STAYS, Stay, most_at_once
from tests.integration.store_rig import (
    DATABASES,
    Store,
    at_once,
    new_run,
    opened_for_module,
)
from tests.waiting import wait_until

__all__ = ["crowd", "fresh_stays", "limits"]

KEYED: dict[str, Any] = {"key": "${input.customer}"}


def _flow(task: dict[str, Any] | None = None, **concurrency: Any) -> dict[str, Any]:
    """Two tasks in a row."""
    return {
        "id": "exclusive",
        "start_task": "one",
        "tasks": [
            {"name": "one", "type": "stays", **(task or {})},
            {"name": "two", "type": "stays"},
        ],
        "conditions": [{"source_task": "one", "target_task_success": "two"}],
        "concurrency": concurrency,
    }


STAYING = {"type": "stays_on"}


def _whole_runs() -> list[Stay]:
    """What stayed where, a whole run counted as one stay."""
    by_run: dict[str, list[Stay]] = {}
    for stay in STAYS:
        by_run.setdefault(stay.run_id, []).append(stay)
    return [replace(stays[0], ended=stays[-1].ended) for stays in by_run.values()]


async def _hold(rig: LimitRig, definition: dict[str, Any], given: Any = None) -> FlowRunId:
    run_id = await rig.start(definition, given)
    await wait_until(lambda: run_id in INSIDE, description="the run has begun")
    return run_id


# Waiting.


async def test_no_more_runs_go_on_than_the_limit_says(crowd: LimitRig) -> None:
    flow = _flow({"params": {"seconds": 0.01}}, limit=2)
    runs = [await crowd.start(flow) for _ in range(20)]
    ended = await crowd.all_ended(runs)
    assert {run.status for run in ended} == {RunStatus.COMPLETED}
    assert len(STAYS) == 40
    assert most_at_once(_whole_runs()) <= 2


async def test_runs_begin_in_the_order_of_arrival(crowd: LimitRig) -> None:
    runs = [await crowd.start(_flow()) for _ in range(5)]
    await crowd.all_ended(runs)
    assert [stay.run_id for stay in STAYS] == [run for run in runs for _ in range(2)]


async def test_a_run_that_waits_is_running_and_has_not_started(limits: LimitRig) -> None:
    first = await _hold(limits, _flow(STAYING, **KEYED), {"customer": 7})
    created = await limits.create(_flow(**KEYED), {"customer": 7})
    assert created.branch_id is None
    run = limits.run(created.flow_run_id)
    assert (run.status, run.started_at, run.concurrency_key) == (RunStatus.RUNNING, None, "7")
    other = await limits.start(_flow(**KEYED), {"customer": 8})
    assert (await limits.ended(other)).status == RunStatus.COMPLETED
    limit_tasks.LEAVE.set()
    await limits.all_ended([first, created.flow_run_id])


async def test_the_runs_of_another_flow_do_not_count(limits: LimitRig) -> None:
    first = await _hold(limits, _flow(STAYING))
    other = await limits.start({**_flow(), "id": "another"})
    assert (await limits.ended(other)).status == RunStatus.COMPLETED
    limit_tasks.LEAVE.set()
    await limits.all_ended([first])


@pytest.mark.parametrize("how", ["failed", "cancelled"])
async def test_however_a_run_ends_the_next_one_begins(limits: LimitRig, how: str) -> None:
    first = await _hold(limits, _flow({**STAYING, "params": {"fails_until": 9}}))
    gone, last = [await limits.start(_flow()) for _ in range(2)]
    assert await limits.cancel(gone) == "cancelled"
    if how == "cancelled":
        assert await limits.cancel(first) == "cancelled"
    limit_tasks.LEAVE.set()
    rows = await limits.all_ended([first, gone, last])
    assert [row.status for row in rows] == [how, RunStatus.CANCELLED, RunStatus.COMPLETED]
    assert gone not in {stay.run_id for stay in STAYS}


async def test_a_timeout_ends_runs_that_wait_and_runs_that_go_on(limits: LimitRig) -> None:
    first = await _hold(limits, {**_flow(STAYING), "timeout": 60})
    late = await limits.start({**_flow(), "timeout": 0.2})
    assert (await limits.ended(late)).status == RunStatus.FAILED
    last = await limits.start(_flow())
    limit_tasks.LEAVE.set()
    await limits.all_ended([first, last])


async def test_runs_that_wait_survive_a_restart(database_url: str, redis_url: str) -> None:
    async with restarted(database_url, redis_url) as rig:
        first = await _hold(rig, _flow(STAYING))
        others = [await rig.start(_flow()) for _ in range(2)]
    limit_tasks.LEAVE.set()
    async with restarted(database_url, redis_url) as rig:
        ended = await rig.all_ended([first, *others])
    assert {run.status for run in ended} == {RunStatus.COMPLETED}


async def test_a_limited_task_can_be_the_first_of_a_limited_flow(limits: LimitRig) -> None:
    flow = _flow({"limit": {"key": "k", "concurrency": 1}}, limit=2)
    runs = [await limits.start(flow) for _ in range(6)]
    ended = await limits.all_ended(runs)
    assert {run.status for run in ended} == {RunStatus.COMPLETED}


async def test_a_place_of_a_run_that_is_over_is_given_back(limits: LimitRig) -> None:
    first = await _hold(limits, _flow(STAYING))
    second = await limits.start(_flow())
    runs, branches = FlowRun.__table__, Branch.__table__
    with limits.engine.database.write() as connection:
        # As no part of the service does it: past all that gives places back.
        ended = {"status": "cancelled", "finished_at": limits.run(first).created_at, "active": 0}
        connection.execute(runs.update().where(runs.c.id == first).values(**ended))
        connection.execute(
            branches.update()
            .where(branches.c.flow_run_id == first)
            .values(state=BranchState.DONE, worker_id=None, claim=99)
        )
    assert (await limits.ended(second)).status == RunStatus.COMPLETED


# Cancelling.


async def test_a_new_run_cancels_the_oldest_that_runs(limits: LimitRig) -> None:
    flow = _flow(STAYING, limit=2, on_limit="cancel_running")
    first, second = await _hold(limits, flow), await _hold(limits, flow)
    created = await limits.create(flow)
    assert created.cancelled == (first,)
    assert limits.run(first).status == RunStatus.CANCELLED
    await wait_until(lambda: created.flow_run_id in INSIDE, description="the third has begun")
    limit_tasks.LEAVE.set()
    second_row, third_row = await limits.all_ended([second, created.flow_run_id])
    assert (second_row.status, third_row.status) == (RunStatus.COMPLETED, RunStatus.COMPLETED)


async def test_the_newest_run_is_left_also_where_the_oldest_has_something_to_undo(
    limits: LimitRig,
) -> None:
    flow = _flow({"type": "noop", "compensate": "undo"}, on_limit="cancel_running")
    flow["tasks"][1] = {"name": "two", **STAYING}
    undo = {"name": "undo", "type": "wait_for_signal", "params": {"signal": "undone"}}
    flow["tasks"].append(undo)
    first = await _hold(limits, flow)
    second = await limits.create(flow)
    third = await limits.create(flow)
    assert (second.cancelled, third.cancelled) == ((first,), (first, second.flow_run_id))
    assert limits.run(second.flow_run_id).status == RunStatus.CANCELLED
    assert limits.visits(third.flow_run_id) == {}
    now = datetime.now(UTC)
    signal = NewSignal(first, "undone", b"null", now, limits.engine.clock.now())
    await limits.engine.writer.call(send_signals, signal)
    await wait_until(lambda: third.flow_run_id in INSIDE, description="the third has begun")
    limit_tasks.LEAVE.set()
    ended = await limits.all_ended([first, third.flow_run_id])
    assert [run.status for run in ended] == [RunStatus.CANCELLED, RunStatus.COMPLETED]


# The same without workers, in the store and over HTTP.


@pytest.fixture(scope="module", params=DATABASES)
def shared_store(request: pytest.FixtureRequest) -> Iterator[Store]:
    with opened_for_module(request) as store:
        yield store


@pytest.fixture
def store(shared_store: Store) -> Store:
    return shared_store.empty()


def _judged(**concurrency: Any) -> Flow:
    definition = {**FLOW, "concurrency": concurrency}
    judged = validate_definition(definition, task_types={"noop"})
    assert judged.flow is not None, judged.errors
    return judged.flow


def _new(flow: Flow, given: Any = None, **changes: Any) -> NewRun:
    return new_run(flow, limit=run_limit(flow.definition, given), **changes)


def _create(store: Store, *runs: NewRun) -> list[CreatedRun]:
    return store.batch(create_runs, *runs)


def test_of_runs_that_are_refused_nothing_is_stored(store: Store) -> None:
    flow = _judged(on_limit="refuse")
    first, second = _create(store, _new(flow), _new(flow))
    assert second.refused_for == first.flow_run_id
    assert [run.id for run in store.rows(FlowRun)] == [first.flow_run_id]
    assert len(store.rows(Branch)) == len(store.rows(LimitPlace)) == 1


def test_a_replay_is_neither_refused_nor_cancels(store: Store) -> None:
    for on_limit in ("refuse", "cancel_running", "wait"):
        flow = _judged(on_limit=on_limit, key=on_limit)
        keyed = partial(_new, flow, idempotency_key=on_limit, request_hash="1")
        (first,), (again,) = _create(store, keyed()), _create(store, keyed())
        assert not first.replayed
        assert (again.flow_run_id, again.replayed) == (first.flow_run_id, True)
        assert (again.refused_for, again.cancelled) == (None, ())
        twice = _create(
            store,
            *(
                _new(
                    _judged(key=f"2{on_limit}", on_limit=on_limit),
                    idempotency_key=f"2{on_limit}",
                    request_hash="1",
                )
                for _ in range(2)
            ),
        )
        assert [one.replayed for one in twice] == [False, True]
    places = store.rows(LimitPlace)
    assert len(places) == 6
    assert {place.state for place in places} == {PlaceState.RUNNING}


def test_of_many_that_cancel_each_other_the_last_is_left(store: Store) -> None:
    flow = _judged(on_limit="cancel_running")
    created = _create(store, *(_new(flow) for _ in range(4)))
    by_id = {run.id: run.status for run in store.rows(FlowRun)}
    assert [by_id[one.flow_run_id] for one in created] == [RunStatus.CANCELLED] * 3 + [
        RunStatus.RUNNING
    ]
    assert [one.cancelled for one in created[1:]] == [(one.flow_run_id,) for one in created[:-1]]


@pytest.mark.parametrize("on_limit", ["refuse", "wait", "cancel_running"])
def test_runs_that_come_at_once_get_no_more_places_than_there_are(
    store: Store, on_limit: str
) -> None:
    flow = _judged(on_limit=on_limit, limit=2)
    for _ in range(5):
        store.empty()
        at_once(*(partial(_create, store, _new(flow)) for _ in range(6)))
        states = [place.state for place in store.rows(LimitPlace)]
        assert states.count(PlaceState.RUNNING) == 2
        ready = [row for row in store.rows(Branch) if row.state == BranchState.READY]
        assert len(ready) == 2
        expected = {"refuse": 2, "wait": 6, "cancel_running": 6}[on_limit]
        assert len(store.rows(FlowRun)) == expected


@pytest.fixture
def client(database_url: str, tmp_path: Path) -> Iterator[TestClient]:
    with open_client(settings_for(database_url, tmp_path)) as client:
        yield client


def _post(client: TestClient, given: Any = None, **concurrency: Any) -> Any:
    body = {"flow": {**FLOW, "concurrency": concurrency}, "input": given}
    return client.post("/run-flow", json=body)


def test_a_refused_run_is_a_conflict_that_names_the_one_that_runs(client: TestClient) -> None:
    first = _post(client, {"customer": "a"}, on_limit="refuse", **KEYED)
    assert first.status_code == 202, first.text
    second = _post(client, {"customer": "a"}, on_limit="refuse", **KEYED)
    assert second.status_code == 409
    problem = shapes.Problem.model_validate_json(second.content)
    assert problem.type.endswith("concurrency-reached")
    assert problem.flow_run_id == first.json()["flow_run_id"]
    assert client.post(f"/flows/{problem.flow_run_id}/cancel").status_code == 202
    assert _post(client, {"customer": "a"}, on_limit="refuse", **KEYED).status_code == 202


@pytest.mark.parametrize("given", [None, {}, {"customer": []}])
def test_a_key_that_the_input_does_not_give_is_told_with_its_place(
    client: TestClient, given: Any
) -> None:
    answer = _post(client, given, **KEYED)
    assert answer.status_code == 422
    (finding,) = answer.json()["errors"]
    assert (finding["pointer"], finding["code"]) == ("/flow/concurrency/key", "bad_key")


def test_a_run_that_waits_is_explained_by_the_one_that_goes_on(client: TestClient) -> None:
    first = _post(client, {"customer": "a"}, **KEYED).json()["flow_run_id"]
    second = _post(client, {"customer": "a"}, **KEYED).json()["flow_run_id"]
    third = _post(client, {"customer": "a"}, **KEYED).json()["flow_run_id"]
    (reason,) = client.get(f"/flows/{second}/explain").json()["reasons"]
    assert reason["code"] == "waits_for_run"
    assert reason["data"]["held_by"] == [first]
    (reason,) = client.get(f"/flows/{third}/explain").json()["reasons"]
    assert (reason["data"]["ahead"], reason["data"]["in_use"]) == (1, 1)


async def test_a_visit_that_waits_is_explained_by_its_key(limits: LimitRig) -> None:
    limit = {"key": "k", "concurrency": 1, "rate": "1/1h"}
    held = {**_flow({**STAYING, "limit": limit}), "concurrency": None}
    first = await _hold(limits, held)
    second = await limits.start(held)
    await limits.stands_in_line(second)
    told = _told(limits, second)
    assert (told.key, told.ahead, told.in_use, told.holders) == ("k", 0, 1, [first])
    assert told.next_seconds is None
    limit_tasks.LEAVE.set()
    await limits.ended(first)
    await wait_until(
        lambda: _told(limits, second).next_seconds is not None, description="only time is left"
    )
    told = _told(limits, second)
    assert told.in_use == 0
    assert 3_000 < told.next_seconds <= 3_600
    await limits.cancel(second)


def _told(rig: LimitRig, run_id: FlowRunId) -> Any:
    moment = Moment(datetime.now(UTC), rig.engine.clock.now(), 4, 1, 3)
    with rig.engine.database.read() as connection:
        standing = read_standing(connection, run_id, moment)
    assert standing is not None
    (fact,) = standing.facts
    return fact
