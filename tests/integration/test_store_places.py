"""Places of visits in the store: had under a claim, kept through losses, handed on at once."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar

import pytest

from shared.afterwards import finish
from shared.durations import Rate
from shared.expressions import Scope
from shared.flow import Flow
from shared.ids import BranchId
from shared.limits import Bounds
from shared.models import Branch
from shared.models_limits import Limiter, LimitPlace, LimitStart, PlaceState
from shared.status import BranchState, RunStatus, TaskRunStatus
from shared.store.branches import Visit
from shared.store.freeing import Release, release_branches, rescue_branches
from shared.store.limit_upkeep import LimitRound, tend_limits
from shared.store.places import PlaceWish, Taken, take_places
from shared.store.steps import record_steps
from shared.store.stopping import Cancel, cancel_runs
from shared.store.upkeep import give_up
from shared.validation import validate_definition
from tests.integration.store_rig import (
    DATABASES,
    LEASE_NOW,
    MAX_LOSSES,
    NOW,
    TYPE,
    Begun,
    Store,
    at_once,
    opened_for_module,
)

T = TypeVar("T")


@pytest.fixture(scope="module", params=DATABASES)
def shared_store(request: pytest.FixtureRequest) -> Iterator[Store]:
    with opened_for_module(request) as store:
        yield store


@pytest.fixture
def store(shared_store: Store) -> Store:
    return shared_store.empty()


def _flow(**limit: Any) -> Flow:
    judged = validate_definition(
        {
            "id": "limited",
            "start_task": "first",
            "tasks": [
                {"name": "first", "type": TYPE, "limit": {"key": "k", "concurrency": 1, **limit}}
            ],
        },
        task_types={TYPE},
    )
    assert judged.flow is not None, judged.errors
    return judged.flow


ONE = _flow()


def _wish(begun: Begun, visit: Visit | None = None, **bounds: Any) -> PlaceWish:
    limit = begun.flow.limits["first"]
    chosen = Bounds(**bounds) if bounds else limit.bounds
    return PlaceWish(visit or begun.visit, limit.key_in(Scope()), chosen, LEASE_NOW)


def _finished(store: Store, work: Callable[..., T], *arguments: Any) -> tuple[T, list[BranchId]]:
    """What a function gives in a transaction that ends as the writer's do; who is rung for."""
    with store.database.write() as connection:
        result = work(connection, *arguments)
        return result, list(finish(connection))


def _take(store: Store, *begun: Begun, **bounds: Any) -> list[Taken]:
    return _finished(store, take_places, [_wish(one, **bounds) for one in begun])[0]


def _line(store: Store, count: int = 2) -> list[Begun]:
    """Visits of which the first has the only place."""
    line = [store.begin(ONE) for _ in range(count)]
    assert _take(store, *line) == ["begin"] + ["parked"] * (count - 1)
    return line


def _states(store: Store) -> list[str]:
    return [place.state for place in sorted(store.rows(LimitPlace), key=lambda row: row.number)]


def _claimed(store: Store, begun: Begun) -> Visit:
    """The branch of a visit, claimed again."""
    (claimed,) = store.claim(begun.visit.branch_id)
    return claimed.visit


def test_who_must_wait_is_parked_in_the_same_transaction(store: Store) -> None:
    first, second = _line(store)
    branch, task_run = store.branch(second.visit.branch_id), store.task_run(second.visit)
    assert (branch.state, branch.worker_id, branch.wake_at) == (BranchState.WAITING, None, None)
    assert branch.task_run_id == second.visit.task_run_id
    assert (task_run.status, task_run.reason) == (TaskRunStatus.WAITING, "limit:k")
    assert store.branch(first.visit.branch_id).state == BranchState.RUNNING
    assert _states(store) == [PlaceState.RUNNING, PlaceState.WAITING]


def test_the_line_is_in_the_order_of_becoming_ready_and_not_of_asking(store: Store) -> None:
    """Workers race to ask."""
    (first,) = _line(store, 1)
    ready = {seconds: store.begin(ONE, ready_at=LEASE_NOW - seconds) for seconds in (1, 9, 5)}
    for begun in ready.values():
        assert _take(store, begun) == ["parked"]
    _, rung = _finished(store, record_steps, [store.step(ONE, first.visit)])
    assert rung == [ready[9].visit.branch_id]
    line = sorted(store.rows(LimitPlace, state=PlaceState.WAITING), key=lambda row: row.arrived_at)
    assert [row.holder for row in line] == [ready[n].visit.branch_id for n in (5, 1)]


def test_without_the_claim_there_is_no_place(store: Store) -> None:
    begun = store.begin(ONE)
    _finished(store, rescue_branches, [store.worker], LEASE_NOW)
    assert _take(store, begun) == ["lost"]
    assert store.rows(LimitPlace) == store.rows(Limiter) == []


def test_to_ask_again_gives_the_same_answer(store: Store) -> None:
    """The answer to the first time may have been lost."""
    first, second = _line(store)
    assert _take(store, first, second) == ["begin", "lost"]
    assert _states(store) == [PlaceState.RUNNING, PlaceState.WAITING]


@pytest.mark.parametrize("kind", ["success", "failure", "error", "retry", "finish"])
def test_the_transaction_that_records_an_attempt_calls_the_next(store: Store, kind: str) -> None:
    first, second, third = _line(store, 3)
    changes: dict[str, Any] = {"kind": kind}
    if kind == "retry":
        changes["wake_at"] = datetime.now(UTC)
    if kind == "error":
        changes |= {"error": b"{}", "targets": None}
    step = store.step(ONE, first.visit, **changes)
    (recorded,), rung = _finished(store, record_steps, [step])
    assert recorded.accepted
    assert rung == [second.visit.branch_id]
    assert store.branch(second.visit.branch_id).state == BranchState.READY
    assert store.branch(third.visit.branch_id).state == BranchState.WAITING
    assert _states(store) == [PlaceState.CALLED, PlaceState.WAITING]


def test_who_was_called_begins_its_attempt_and_not_its_wake_up(store: Store) -> None:
    first, second = _line(store)
    _finished(store, record_steps, [store.step(ONE, first.visit)])
    before = datetime.now(UTC)
    visit = _claimed(store, second)
    assert visit.resumed
    assert _finished(store, take_places, [_wish(second, visit)])[0] == ["begin"]
    task_run = store.task_run(visit)
    assert (task_run.status, task_run.reason) == (TaskRunStatus.RUNNING, None)
    assert task_run.started_at >= before
    assert _states(store) == [PlaceState.RUNNING]


def test_a_visit_that_sleeps_keeps_its_place_and_is_resumed(store: Store) -> None:
    first, _ = _line(store)
    step = store.step(ONE, first.visit, kind="suspended", data=None, wake_at=NOW)
    assert _finished(store, record_steps, [step])[1] == []
    assert _states(store) == [PlaceState.ASLEEP, PlaceState.WAITING]
    store.set(Branch, first.visit.branch_id, state=BranchState.READY)
    visit = _claimed(store, first)
    assert _finished(store, take_places, [_wish(first, visit)])[0] == ["resume"]
    assert _finished(store, record_steps, [store.step(ONE, visit)])[1] != []


@pytest.mark.parametrize("how", ["rescue", "release"])
def test_a_place_outlives_the_worker_of_its_visit(store: Store, how: str) -> None:
    first, second = _line(store)
    if how == "rescue":
        _, rung = _finished(store, rescue_branches, [store.worker], LEASE_NOW)
    else:
        visit = first.visit
        release = Release(visit.branch_id, visit.claim, visit.task_run_id, LEASE_NOW)
        _, rung = _finished(store, release_branches, [release])
    assert rung == []
    assert _states(store) == [PlaceState.RUNNING, PlaceState.WAITING]
    assert _tend(store).given_back == 0
    visit = _claimed(store, first)
    assert visit.attempt == 2
    assert _finished(store, take_places, [_wish(first, visit)])[0] == ["begin"]
    assert store.branch(second.visit.branch_id).state == BranchState.WAITING


def _tend(store: Store) -> Any:
    (report,), _ = _finished(store, tend_limits, [LimitRound(looks_at_places=True)])
    return report


def test_a_place_that_was_left_at_a_task_before_is_given_back(store: Store) -> None:
    first, second = _line(store)
    _finished(store, rescue_branches, [store.worker], LEASE_NOW)
    places = LimitPlace.__table__
    with store.database.write() as connection:
        # As if the branch had been led on past its steps.
        connection.execute(
            places.update()
            .where(places.c.holder == first.visit.branch_id)
            .values(task="before", concurrency=9)
        )
    taken, rung = _finished(store, take_places, [_wish(first, _claimed(store, first))])
    # Who was in line already comes first.
    assert (taken, rung) == (["parked"], [second.visit.branch_id])
    assert _states(store) == [PlaceState.CALLED, PlaceState.WAITING]


def test_the_transaction_that_cancels_a_run_calls_the_next(store: Store) -> None:
    first, second, third = _line(store, 3)
    assert _finished(store, cancel_runs, [Cancel(second.run, NOW)])[1] == []
    assert _states(store) == [PlaceState.RUNNING, PlaceState.WAITING]
    rung = _finished(store, cancel_runs, [Cancel(first.run, NOW)])[1]
    assert rung == [third.visit.branch_id]


def test_who_is_called_is_rung_for_in_its_queue(store: Store) -> None:
    first, second = _line(store)
    store.set(Branch, second.visit.branch_id, queue="gpu")
    with store.database.write() as connection:
        record_steps(connection, [store.step(ONE, first.visit)])
        assert finish(connection) == {second.visit.branch_id: "gpu"}


def test_a_visit_that_is_given_up_gives_its_place_back(store: Store) -> None:
    first, second = _line(store)
    values = {"state": BranchState.READY, "worker_id": None, "losses": MAX_LOSSES}
    store.set(Branch, first.visit.branch_id, **values)
    failed, rung = _finished(store, give_up, MAX_LOSSES)
    assert failed == [first.run]
    assert rung == [second.visit.branch_id]
    assert store.run(first.run).status == RunStatus.FAILED


def test_who_is_being_stopped_is_passed_over(store: Store) -> None:
    """Its branch is locked by others, for whom nobody may wait who has locked the key."""
    if store.database.is_sqlite:
        pytest.skip("on SQLite one writes at a time")
    first, second, third = _line(store, 3)
    with store.database.write() as stopping:
        cancel_runs(stopping, [Cancel(second.run, NOW)])
        rung = _finished(store, record_steps, [store.step(ONE, first.visit)])[1]
        assert rung == [third.visit.branch_id]
        assert finish(stopping) == {}
    assert _states(store) == [PlaceState.CALLED]


@pytest.mark.parametrize("at_a_time", [1, 3])
def test_visits_that_come_at_once_get_no_more_places_than_there_are(
    store: Store, at_a_time: int
) -> None:
    begun = [store.begin(ONE) for _ in range(12)]
    groups = [begun[start : start + at_a_time] for start in range(0, 12, at_a_time)]
    taken = at_once(*(partial(_take, store, *group, concurrency=4) for group in groups))
    flat = [one for group in taken for one in group]
    assert (flat.count("begin"), flat.count("parked")) == (4, 8)
    numbers = [place.number for place in store.rows(LimitPlace)]
    assert sorted(numbers) == list(range(1, 13))


def _wishes(store: Store, count: int, rate: Rate) -> Sequence[PlaceWish]:
    bounds = Bounds(None, rate)
    return [replace(_wish(store.begin(ONE)), bounds=bounds) for _ in range(count)]


def test_a_rate_is_used_up_by_starts_and_not_by_who_waits(store: Store) -> None:
    taken, _ = _finished(store, take_places, _wishes(store, 5, Rate(2, 60.0)))
    assert taken == ["begin", "begin", "parked", "parked", "parked"]
    limiter = store.row(Limiter)
    first = store.rows(LimitStart)[0]
    assert (limiter.starts, limiter.next_at) == (2, first.at + timedelta(seconds=60))
    _make_older(store, timedelta(seconds=60))
    report = _tend(store)
    # Both of the first two are a minute ago now, and only two may be called ahead.
    assert _states(store).count(PlaceState.CALLED) == 2
    assert report.next_in_seconds is None


def _make_older(store: Store, by: timedelta) -> None:
    """Let all starts have been so much earlier."""
    for row in store.rows(LimitStart):
        table = LimitStart.__table__
        with store.database.write() as connection:
            connection.execute(
                table.update().where(table.c.number == row.number).values(at=row.at - by)
            )
    limiter = store.row(Limiter)
    store.set(Limiter, limiter.id, next_at=limiter.next_at - by, last_start=limiter.last_start - by)


def test_a_clock_that_was_set_back_holds_nobody_longer_than_the_period(store: Store) -> None:
    _finished(store, take_places, _wishes(store, 2, Rate(1, 60.0)))
    _make_older(store, -timedelta(days=1))
    before = datetime.now(UTC)
    for _ in range(2):
        _finished(store, take_places, _wishes(store, 1, Rate(1, 60.0)))
        # Looked at again, it is the same time and not a further minute.
        due = store.row(Limiter).next_at
        assert before < due - timedelta(seconds=60) < before + timedelta(seconds=5)
        assert store.row(LimitStart).at == due - timedelta(seconds=60)


def test_only_starts_that_a_rate_can_look_back_to_are_kept(store: Store) -> None:
    for count in (3, 2):
        for wish in _wishes(store, 4, Rate(count, 0.000_001)):
            _finished(store, take_places, [wish])
    assert [row.number for row in store.rows(LimitStart)] == [6, 7, 8]
