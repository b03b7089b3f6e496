"""What the leader does about schedules, on both databases: each start once, whatever happens."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha256
from typing import Any

import orjson
import pytest

from shared.cron import Cron, Interval
from shared.models import Branch, FlowRun
from shared.models_schedules import ScheduleRow
from shared.queries.schedules import due_schedules
from shared.store.definitions import NewVersion, delete_versions, put_version
from shared.store.runs import CreatedRun
from shared.store.scheduled_starts import Trigger, Verdict, carry_out, trigger_schedules
from shared.store.schedules import (
    NewSchedule,
    Pause,
    create_schedules,
    delete_schedules,
    pause_schedules,
    put_schedules,
)
from shared.store.stopping import Cancel, cancel_runs
from tests.integration.store_rig import (
    DATABASES,
    LEASE_NOW,
    NOW,
    SINGLE,
    Store,
    at_once,
    new_run,
    opened_for_module,
)
from worker.scheduled_runs import ScheduledRuns, broken

MINUTE = timedelta(minutes=1)
START = NOW.replace(second=0, microsecond=0)


@pytest.fixture(scope="module", params=DATABASES)
def shared_store(request: pytest.FixtureRequest) -> Iterator[Store]:
    with opened_for_module(request) as store:
        yield store


@pytest.fixture
def store(shared_store: Store) -> Store:
    store = shared_store.empty()
    _store(store, input_schema={"required": ["x"]})
    return store


def _store(store: Store, **others: object) -> None:
    definition = SINGLE.definition.model_dump(mode="json", exclude_unset=True) | others
    content = orjson.dumps(definition)
    item = NewVersion("intake", sha256(content).hexdigest(), content, NOW)
    store.do(put_version, item)


def _schedule(schedule_id: str = "s", **changes: Any) -> NewSchedule:
    values: dict[str, Any] = {
        "id": schedule_id,
        "flow_id": "intake",
        "version": None,
        "input": b'{"x":1}',
        "timing": Interval(60.0),
        "overlap": "allow",
        "catch_up": True,
        "paused": None,
        "at": START,
    }
    return NewSchedule(**(values | changes))


def _create(store: Store, schedule_id: str = "s", **changes: Any) -> None:
    assert store.batch(create_schedules, _schedule(schedule_id, **changes)) == [True]


def _judge(store: Store, now: datetime, limit: int = 100) -> list[Verdict]:
    with store.database.read() as connection:
        runs = ScheduledRuns()
        due = due_schedules(connection, now, limit)
        return [runs.judge(connection, one, now, LEASE_NOW) for one in due]


def _look(store: Store, now: datetime) -> list[CreatedRun]:
    """One look of a leader; the runs that it started."""
    created = store.batch(carry_out, *_judge(store, now))
    return [one for one in created if one is not None]


def _row(store: Store, schedule_id: str = "s") -> Any:
    return store.row(ScheduleRow, id=schedule_id)


def _end(store: Store, *started: CreatedRun) -> None:
    store.batch(cancel_runs, *(Cancel(one.flow_run_id, NOW) for one in started))


def test_a_tick_starts_a_run_of_the_newest_version_once(store: Store) -> None:
    _create(store)
    assert _look(store, START + MINUTE / 2) == []
    (started,) = _look(store, START + 1.5 * MINUTE)
    assert _look(store, START + 1.5 * MINUTE) == []
    run = store.run(started.flow_run_id)
    assert (run.flow_id, run.schedule_id, run.input, run.status) == (
        ("intake", "s", b'{"x":1}', "running")
    )
    assert run.idempotency_key == "schedule:s:2026-05-04T03:03:00Z"
    assert store.branch(started.branch_id).state == "ready"
    row = _row(store)
    assert (row.last_tick, row.started_tick) == (START + MINUTE, START + MINUTE)
    assert (row.run_id, row.error, row.next_tick) == (
        (started.flow_run_id, None, START + 2 * MINUTE)
    )
    assert row.look_at == row.next_tick


def test_two_leaders_that_decided_the_same_start_it_once(store: Store) -> None:
    for race in range(10):
        _create(store, f"s{race}")
        now = START + 1.5 * MINUTE
        one, other = (_judge(store, now) for _ in range(2))
        assert len(one) == len(other) == 1
        started = at_once(
            partial(store.batch, carry_out, *one), partial(store.batch, carry_out, *other)
        )
        assert sorted(each is None for (each,) in started) == [False, True]
    assert len(store.rows(FlowRun)) == len(store.rows(Branch)) == 10


def test_the_tick_is_the_key_even_where_the_revision_says_nothing(store: Store) -> None:
    _create(store)
    (verdict,) = _judge(store, START + 1.5 * MINUTE)
    (first,) = store.batch(carry_out, verdict)
    assert first is not None
    assert verdict.run is not None
    key = verdict.run.idempotency_key
    other_run = new_run(SINGLE, idempotency_key=key, request_hash=key)
    again = replace(verdict, revision=_row(store).revision, run=other_run)
    assert store.batch(carry_out, again) == [CreatedRun(first.flow_run_id, None, replayed=True)]
    assert _row(store).run_id == first.flow_run_id
    assert len(store.rows(FlowRun)) == 1


def test_nothing_is_started_by_a_decision_that_a_change_has_overtaken(store: Store) -> None:
    by_hand = new_run(SINGLE, idempotency_key="k", request_hash="k", schedule_id="triggered")
    changes: dict[str, tuple[Callable[..., Any], object]] = {
        "paused": (pause_schedules, Pause("paused", True, START)),
        "put": (put_schedules, _schedule("put", overlap="skip")),
        "deleted": (delete_schedules, "deleted"),
        "triggered": (trigger_schedules, Trigger("triggered", by_hand)),
    }
    for name, (change, item) in changes.items():
        _create(store, name)
        (verdict,) = (v for v in _judge(store, START + 1.5 * MINUTE) if v.schedule_id == name)
        store.batch(change, item)
        assert store.batch(carry_out, verdict) == [None]
    # But the start by hand.
    assert [row.schedule_id for row in store.rows(FlowRun)] == ["triggered"]


def test_what_was_missed_is_made_up_for_once_or_not_at_all(store: Store) -> None:
    _create(store, "made-up")
    _create(store, "left-out", catch_up=False)
    later = START + timedelta(hours=3) + 0.75 * MINUTE
    # A tick of half a minute ago is still on time.
    assert {store.run(one.flow_run_id).schedule_id for one in _look(store, later)} == {
        "made-up",
        "left-out",
    }
    _create(store, "slow", timing=Interval(3_600.0))
    _create(store, "slow-left-out", timing=Interval(3_600.0), catch_up=False)
    later = START + timedelta(days=2)
    started = {store.run(one.flow_run_id).schedule_id for one in _look(store, later)}
    assert started == {"made-up", "left-out", "slow"}
    row = _row(store, "slow-left-out")
    assert (row.left_out_reason, row.run_id, row.look_at > later) == ("late", None, True)
    assert _look(store, later) == []


def test_a_pause_starts_nothing_and_is_not_made_up_for(store: Store) -> None:
    _create(store)
    assert store.batch(pause_schedules, Pause("s", True, START)) == [True]
    assert _row(store).look_at is None
    assert _look(store, START + 10 * MINUTE) == []
    resumed = START + 10.5 * MINUTE
    assert store.batch(pause_schedules, Pause("s", False, resumed)) == [True]
    assert _look(store, resumed) == []
    assert len(_look(store, START + 11.25 * MINUTE)) == 1
    assert store.batch(pause_schedules, Pause("nobody", True, START)) == [False]


def test_a_clock_that_goes_back_starts_no_tick_twice(store: Store) -> None:
    _create(store)
    assert len(_look(store, START + 30.5 * MINUTE)) == 1
    store.batch(pause_schedules, Pause("s", True, START + MINUTE))
    store.batch(pause_schedules, Pause("s", False, START + MINUTE))
    assert _look(store, START + 20 * MINUTE) == []
    assert _look(store, START + 30.9 * MINUTE) == []
    assert len(_look(store, START + 31.1 * MINUTE)) == 1


def test_skip_leaves_out_what_comes_due_while_a_run_goes_on(store: Store) -> None:
    _create(store, overlap="skip")
    (first,) = _look(store, START + 1.5 * MINUTE)
    assert _look(store, START + 2.5 * MINUTE) == []
    row = _row(store)
    assert (row.left_out_reason, row.left_out_tick) == ("running", START + 2 * MINUTE)
    _end(store, first)
    assert _look(store, START + 2.6 * MINUTE) == []
    assert len(_look(store, START + 3.5 * MINUTE)) == 1


def test_queue_starts_one_when_the_run_before_is_over(store: Store) -> None:
    _create(store, overlap="queue")
    (first,) = _look(store, START + 1.5 * MINUTE)
    for minutes in (2.1, 2.2, 3.1, 4.1):
        assert _look(store, START + minutes * MINUTE) == []
    row = _row(store)
    assert (row.waiting, row.left_out_tick) == (START + 2 * MINUTE, START + 4 * MINUTE)
    _end(store, first)
    (second,) = _look(store, START + 4.2 * MINUTE)
    assert store.run(second.flow_run_id).idempotency_key.endswith("03:04:00Z")
    row = _row(store)
    assert (row.waiting, row.look_at) == (None, START + 5 * MINUTE)


def test_a_start_that_waits_survives_a_pause(store: Store) -> None:
    _create(store, overlap="queue")
    (first,) = _look(store, START + 1.5 * MINUTE)
    assert _look(store, START + 2.1 * MINUTE) == []
    store.batch(pause_schedules, Pause("s", True, START + 2.2 * MINUTE))
    _end(store, first)
    assert _look(store, START + 2.3 * MINUTE) == []
    store.batch(pause_schedules, Pause("s", False, START + 2.4 * MINUTE))
    assert len(_look(store, START + 2.5 * MINUTE)) == 1


def test_allow_starts_runs_side_by_side(store: Store) -> None:
    _create(store, overlap="allow")
    for minutes in (1.5, 2.5, 3.5):
        assert len(_look(store, START + minutes * MINUTE)) == 1
    assert len(store.rows(FlowRun, status="running")) == 3


def test_a_start_that_comes_to_nothing_is_told_and_stops_no_other(store: Store) -> None:
    _create(store, "no-flow", flow_id="gone")
    _create(store, "no-version", version=7)
    _create(store, "no-fit", input=b"{}")
    _create(store, "good")
    (started,) = _look(store, START + 1.5 * MINUTE)
    assert store.run(started.flow_run_id).schedule_id == "good"
    errors = {row.id: row.error for row in store.rows(ScheduleRow)}
    assert errors["good"] is None
    assert errors["no-flow"] == "no flow 'gone' is stored"
    assert errors["no-version"] == "no flow 'intake' is stored in version 7"
    assert errors["no-fit"] is not None
    assert "/input" in errors["no-fit"]
    # Its tick has been dealt with; the next one finds what has been mended.
    assert _look(store, START + 1.6 * MINUTE) == []
    _store(store, name="mended")
    assert len(_look(store, START + 2.5 * MINUTE)) == 2
    assert _row(store, "no-fit").error is None


def test_a_start_that_the_flow_refuses_is_told_and_stored_nowhere(store: Store) -> None:
    _store(store, concurrency={"limit": 1, "on_limit": "refuse"})
    _create(store)
    (first,) = _look(store, START + 1.5 * MINUTE)
    (second,) = _look(store, START + 2.5 * MINUTE)
    assert second.refused_for == first.flow_run_id
    row = _row(store)
    assert (row.run_id, row.started_tick) == (first.flow_run_id, START + MINUTE)
    assert f"{first.flow_run_id} goes on" in row.error
    assert len(store.rows(FlowRun)) == 1


def test_a_start_may_wait_its_turn_or_cancel_the_run_before(store: Store) -> None:
    _store(store, concurrency={"limit": 1, "on_limit": "wait"})
    _create(store, "waits")
    (first,) = _look(store, START + 1.5 * MINUTE)
    (second,) = _look(store, START + 2.5 * MINUTE)
    assert (first.branch_id is None, second.branch_id) == (False, None)
    _store(store, concurrency={"limit": 1, "on_limit": "cancel_running"})
    (third,) = _look(store, START + 3.5 * MINUTE)
    assert first.flow_run_id in third.cancelled
    assert _row(store, "waits").run_id == third.flow_run_id


def test_a_flow_that_is_deleted_ends_its_starts(store: Store) -> None:
    _create(store)
    store.do(delete_versions, "intake", NOW)
    assert _look(store, START + 1.5 * MINUTE) == []
    assert _row(store).error == "no flow 'intake' is stored"


def test_a_schedule_that_cannot_be_judged_is_left_for_a_while(store: Store) -> None:
    _create(store)
    with store.database.read() as connection:
        (due,) = due_schedules(connection, START + 2 * MINUTE, 10)
    now = START + 2 * MINUTE
    store.batch(carry_out, broken(due.row, now, KeyError("No time zone found")))
    row = _row(store)
    assert (row.look_at, row.last_tick) == (now + MINUTE, START)
    assert "No time zone found" in row.error


def test_a_look_is_bounded_and_takes_turns(store: Store) -> None:
    for number in range(5):
        _create(store, f"s{number}", overlap="queue")
        store.set(ScheduleRow, f"s{number}", waiting=START)
    now = START + 1.5 * MINUTE
    store.batch(carry_out, *_judge(store, now, limit=5))
    seen: list[str] = []
    for turn in range(1, 6):
        # Each waits, and is looked at again: nobody is passed over.
        verdicts = _judge(store, now + turn * timedelta(seconds=1), limit=1)
        seen += [one.schedule_id for one in verdicts]
        store.batch(carry_out, *verdicts)
    assert sorted(seen) == [f"s{number}" for number in range(5)]


def test_a_change_of_the_ticks_begins_anew_and_any_other_goes_on(store: Store) -> None:
    _create(store)
    at = START + 1.5 * MINUTE
    assert store.batch(put_schedules, _schedule(at=at, input=b'{"x":2}')) == [False]
    row = _row(store)
    assert (row.last_tick, row.look_at, row.created_at) == (START, START + MINUTE, START)
    (started,) = _look(store, at)
    assert store.run(started.flow_run_id).input == b'{"x":2}'
    cron = Cron("0 4 * * *", "Europe/Berlin")
    store.batch(put_schedules, _schedule(at=at + MINUTE, timing=cron))
    row = _row(store)
    assert (row.cron, row.every_seconds) == ("0 4 * * *", None)
    assert (row.last_tick, row.next_tick) == (at + MINUTE, START.replace(day=5, hour=2, minute=0))


def test_a_put_keeps_a_pause_unless_it_says_otherwise(store: Store) -> None:
    assert store.batch(put_schedules, _schedule(paused=True)) == [True]
    store.batch(put_schedules, _schedule(overlap="skip"))
    assert (_row(store).paused, _row(store).look_at) == (True, None)
    later = START + 5.5 * MINUTE
    store.batch(put_schedules, _schedule(paused=False, at=later))
    row = _row(store)
    assert (row.paused, row.last_tick, row.look_at) == (False, later, START + 6 * MINUTE)


def test_an_id_is_given_once(store: Store) -> None:
    for race in range(5):
        create = partial(store.batch, create_schedules, _schedule(f"s{race}"))
        assert sorted(made for (made,) in at_once(create, create)) == [False, True]
        put = partial(store.batch, put_schedules, _schedule(f"p{race}"))
        assert sorted(made for (made,) in at_once(put, put)) == [False, True]
    assert store.batch(delete_schedules, "s0", "s0") == [True, False]
