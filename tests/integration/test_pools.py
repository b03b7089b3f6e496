"""Pools of workers and priorities: who runs what, and what goes first, on both databases."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pytest
from pydantic import JsonValue

from shared.flow import Flow
from shared.ids import FlowRunId
from shared.models import Branch
from shared.queries.workers import served_queues
from shared.status import RunStatus
from shared.store.branches import queues_of
from shared.validation import validate_definition
from tests.integration import pool_tasks
from tests.integration.engine_rig import Rig, open_rig
from tests.integration.store_rig import DATABASES, LEASE_NOW, TYPE, Store, opened_for_module
from tests.waiting import wait_until


def _definition(*tasks: dict[str, JsonValue], **conditions: JsonValue) -> dict[str, Any]:
    """A flow of these tasks that starts at the first one, with a condition a source."""
    return {
        "id": "pooled",
        "start_task": tasks[0]["name"],
        "tasks": [{"type": TYPE, **task} for task in tasks],
        "conditions": [
            {"source_task": source, "target_task_success": target}
            for source, target in conditions.items()
        ],
    }


def _flow(*tasks: dict[str, JsonValue], **conditions: JsonValue) -> Flow:
    judged = validate_definition(_definition(*tasks, **conditions), task_types={TYPE})
    assert judged.flow is not None, judged.errors
    return judged.flow


def _task(name: str, **fields: JsonValue) -> dict[str, JsonValue]:
    return {"name": name, **fields}


CHAIN = _flow(_task("a"), _task("b", queue="gpu", priority=7), _task("c"), a="b", b="c")
DIAMOND = _flow(
    _task("split"),
    _task("left", queue="gpu", priority=3),
    _task("right"),
    _task("meet", queue="slow", priority=-2),
    split=["left", "right"],
    left="meet",
    right="meet",
)


# What is stored.


@pytest.fixture(scope="module", params=DATABASES)
def shared_store(request: pytest.FixtureRequest) -> Iterator[Store]:
    with opened_for_module(request) as store:
        yield store


@pytest.fixture
def store(shared_store: Store) -> Store:
    return shared_store.empty()


def _at(store: Store, run: FlowRunId) -> dict[str, tuple[str, int, str]]:
    return {
        row.task: (row.queue, row.priority, row.state)
        for row in store.rows(Branch, flow_run_id=run)
    }


def test_a_run_begins_in_the_queue_of_its_first_task(store: Store) -> None:
    flow = _flow(_task("a", queue="gpu", priority=-1))
    created = store.create(flow)
    assert _at(store, created.flow_run_id) == {"a": ("gpu", -1, "ready")}
    assert store.claim(created.branch_id) == []
    (claimed,) = store.claim(created.branch_id, queues=("gpu",))
    assert claimed.visit.task == "a"


def test_a_task_of_another_queue_is_left_to_the_workers_of_that(store: Store) -> None:
    begun = store.begin(CHAIN)
    recorded = store.record(CHAIN, begun.visit)
    branch = begun.visit.branch_id
    assert (recorded.started, recorded.ready) == ([], [branch])
    assert recorded.queues == {branch: "gpu"}
    assert _at(store, begun.run) == {"b": ("gpu", 7, "ready")}
    (claimed,) = store.claim(branch, queues=("gpu",))
    back = store.record(CHAIN, claimed.visit, queues=("gpu",))
    assert (back.started, back.ready, back.queues) == ([], [branch], {})
    assert _at(store, begun.run) == {"c": ("default", 0, "ready")}


@pytest.mark.parametrize("queues", [("default", "gpu"), ("*",)])
def test_a_worker_of_both_queues_goes_on_in_place(store: Store, queues: tuple[str, ...]) -> None:
    begun = store.begin(CHAIN)
    recorded = store.record(CHAIN, begun.visit, queues=queues)
    assert [visit.task for visit in recorded.started] == ["b"]
    assert _at(store, begun.run) == {"b": ("gpu", 7, "running")}


def test_heads_and_joins_stand_in_the_queues_of_their_tasks(store: Store) -> None:
    begun = store.begin(DIAMOND)
    forked = store.record(DIAMOND, begun.visit, keep=2)
    (right,) = forked.started
    (left_id,) = forked.ready
    assert forked.queues == {left_id: "gpu"}
    store.record(DIAMOND, right)
    (left,) = store.claim(left_id, queues=("gpu",))
    met = store.record(DIAMOND, left.visit, queues=("gpu",))
    (meeting,) = met.ready
    assert (met.started, met.queues) == ([], {meeting: "slow"})
    row = store.branch(meeting)
    assert (row.task, row.queue, row.priority, row.state) == ("meet", "slow", -2, "ready")


def test_items_wait_in_the_queue_of_their_task(store: Store) -> None:
    flow = _flow(_task("each", queue="gpu", priority=4, for_each="[1, 2, 3]"))
    created = store.create(flow)
    (claimed,) = store.claim(created.branch_id, queues=("gpu",))
    mapped = store.record(
        flow, claimed.visit, kind="mapped", items=[b"1", b"2", b"3"], queues=("gpu",), keep=1
    )
    assert set(mapped.queues.values()) == {"gpu"}
    assert sorted(mapped.queues) == sorted(mapped.ready)
    rows = store.rows(Branch, flow_run_id=created.flow_run_id)
    assert {(row.queue, row.priority) for row in rows} == {("gpu", 4)}
    assert store.do(queues_of, mapped.ready) == mapped.queues


# What goes first.


def _create(store: Store, queue: str, priority: int, age: float) -> str:
    flow = _flow(_task("a", queue=queue, priority=priority))
    return str(store.create(flow, ready_at=LEASE_NOW - age).branch_id)


def _claimed(store: Store, **wish: object) -> list[str]:
    return [one.visit.branch_id for one in store.claim(**wish)]


def test_the_higher_priority_goes_first_and_then_the_older(store: Store) -> None:
    made = [_create(store, "default", *one) for one in ((0, 1), (5, 1), (0, 9), (5, 3), (-5, 99))]
    expected = [made[place] for place in (3, 1, 2, 0, 4)]
    assert _claimed(store, limit=3) == expected[:3]
    assert _claimed(store) == expected[3:]


@pytest.mark.parametrize("queues", [("gpu", "default", "empty"), ("*",)])
def test_a_worker_of_several_queues_takes_the_best_of_all(
    store: Store, queues: tuple[str, ...]
) -> None:
    kinds = (("default", 0, 1), ("gpu", 5, 1), ("gpu", 0, 9), ("default", 5, 3), ("gpu", -5, 1))
    made = [_create(store, *kind) for kind in kinds]
    expected = [made[place] for place in (3, 1, 2, 0, 4)]
    assert _claimed(store, queues=queues, limit=2) == expected[:2]
    assert _claimed(store, queues=queues) == expected[2:]
    assert _claimed(store, queues=queues) == []


def test_a_worker_of_every_queue_takes_what_it_was_rung_for(store: Store) -> None:
    created = store.create(_flow(_task("a", queue="gpu")))
    assert len(store.claim(created.branch_id, queues=("*",))) == 1


def test_the_queues_that_are_served_are_those_of_live_workers(store: Store) -> None:
    assert store.do(served_queues) == frozenset({"default"})


# Who runs it.


@pytest.fixture
async def two(database_url: str, redis_url: str) -> AsyncIterator[tuple[Rig, Rig]]:
    """A worker of the default queue, and one of another."""
    modules = (pool_tasks.__name__,)
    async with (
        open_rig(database_url, redis_url, modules) as plain,
        open_rig(database_url, redis_url, modules, worker_queues=("gpu",)) as gpu,
    ):
        yield plain, gpu


async def test_each_task_runs_on_a_worker_of_its_queue(two: tuple[Rig, Rig]) -> None:
    plain, gpu = two
    definition = _definition(
        _task("a", type="noted"),
        _task("b", type="noted", queue="gpu"),
        _task("c", type="noted"),
        a="b",
        b="c",
    )
    run_id = await plain.submit(definition)
    row = await plain.ended(run_id)
    assert row.status == RunStatus.COMPLETED
    workers = {name: task.worker_id for name, task in plain.tasks(run_id).items()}
    ids = (plain.engine.worker_id, gpu.engine.worker_id)
    assert workers == {"a": ids[0], "b": ids[1], "c": ids[0]}


async def test_what_is_urgent_overtakes_what_was_rung_before(
    database_url: str, redis_url: str
) -> None:
    pool_tasks.RAN.clear()
    pool_tasks.GATE = asyncio.Event()
    async with open_rig(
        database_url, redis_url, (pool_tasks.__name__,), worker_concurrency=1
    ) as rig:
        busy = await rig.submit(_definition(_task("hold", type="gated")))
        await wait_until(lambda: rig.tasks(busy), description="the only slot is taken")
        runs = [
            await rig.submit(_definition(_task(f"p{priority}", type="noted", priority=priority)))
            for priority in (0, -3, 0, 900, 2)
        ]
        assert pool_tasks.RAN == []
        pool_tasks.GATE.set()
        for run_id in (busy, *runs):
            await rig.ended(run_id)
    assert pool_tasks.RAN == ["p900", "p2", "p0", "p0", "p-3"]


async def test_what_is_urgent_overtakes_though_it_was_rung_for_nobody(
    database_url: str, redis_url: str
) -> None:
    """Its ring may still wait in Redis, behind those of which there is no room."""
    pool_tasks.RAN.clear()
    pool_tasks.GATE = asyncio.Event()
    async with open_rig(
        database_url, redis_url, (pool_tasks.__name__,), worker_concurrency=1
    ) as rig:
        busy = await rig.submit(_definition(_task("hold", type="gated")))
        await wait_until(lambda: rig.tasks(busy), description="the only slot is taken")
        low = await rig.submit(_definition(_task("low", type="noted")))
        lower = await rig.submit(_definition(_task("lower", type="noted", priority=-1)))
        hand_over, rig.engine.claimer.hand_over = rig.engine.claimer.hand_over, _ignore  # type: ignore[method-assign]  # a ring that is under way
        high = await rig.submit(_definition(_task("high", type="noted", priority=1)))
        rig.engine.claimer.hand_over = hand_over  # type: ignore[method-assign]  # as it was
        pool_tasks.GATE.set()
        for run_id in (low, lower, high):
            await rig.ended(run_id)
    assert pool_tasks.RAN == ["high", "low", "lower"]


async def _ignore(branch_ids: Sequence[str]) -> None:
    """Hear nothing."""


# What is told before it runs.


def test_a_queue_that_nobody_serves_is_warned_of_once() -> None:
    definition = _definition(
        _task("a"), _task("b", queue="gpus"), _task("c", queue="gpus"), a="b", b="c"
    )
    judged = validate_definition(definition, task_types={TYPE}, queues={"default", "gpu"})
    (warning,) = judged.warnings
    assert (warning.pointer, warning.code) == ("/tasks/1/queue", "queue_not_served")
    assert warning.suggestion == 'did you mean "gpu"?'
    assert judged.errors == ()
    for served in (None, {"*"}, {"default", "gpus"}):
        judged = validate_definition(definition, task_types={TYPE}, queues=served)
        assert judged.warnings == ()


@pytest.mark.parametrize("queue", ["", "*", "a,b", " gpu", "a:b", "-a", "x" * 101])
def test_what_cannot_be_a_queue_is_refused_with_its_place(queue: str) -> None:
    definition = _definition(_task("a", queue=queue))
    judged = validate_definition(definition, task_types={TYPE})
    assert [finding.pointer for finding in judged.errors] == ["/tasks/0/queue"]
