"""Limits of tasks: so many at once, so many a time, in the order of arrival."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import select

from shared.ids import FlowRunId, new_id
from shared.models import TaskRun
from shared.models_limits import Limiter, LimitPlace, LimitStart, PlaceState
from shared.status import RunStatus, TaskRunStatus
from tests.integration import limit_tasks
from tests.integration.limit_rig import LimitRig, crowd, fresh_stays, limits, restarted, single
from tests.integration.limit_tasks import INSIDE, STAYS, most_at_once
from tests.waiting import wait_until

__all__ = ["crowd", "fresh_stays", "limits"]

ONE = {"key": "k", "concurrency": 1}


def _stays_on(**limit: Any) -> dict[str, Any]:
    return single({**ONE, **limit}, type="stays_on")


async def _hold(rig: LimitRig, flow: dict[str, Any] | None = None) -> FlowRunId:
    """A run that has a place until the test says that it may leave."""
    run_id = await rig.start(flow or _stays_on())
    await wait_until(lambda: run_id in INSIDE, description="the first is in")
    return run_id


async def _line_up(rig: LimitRig, flow: dict[str, Any], count: int) -> list[FlowRunId]:
    """So many runs, each of which stands in line before the next one comes."""
    line = []
    for _ in range(count):
        line.append(await rig.start(flow))
        await rig.stands_in_line(line[-1])
    return line


def _task_runs(rig: LimitRig, run_id: FlowRunId) -> list[Any]:
    table = TaskRun.__table__
    query = select(table).where(table.c.flow_run_id == run_id).order_by(table.c.id)
    with rig.engine.database.read() as connection:
        return list(connection.execute(query))


# So many at once.


async def test_no_more_run_at_once_than_the_limit_says(limits: LimitRig) -> None:
    flow = single({"key": "k", "concurrency": 2})
    runs = [await limits.start(flow) for _ in range(8)]
    ended = await limits.all_ended(runs)
    assert {run.status for run in ended} == {RunStatus.COMPLETED}
    assert len(STAYS) == 8
    assert most_at_once(STAYS) <= 2


async def test_engines_that_race_for_one_key_never_pass_it(crowd: LimitRig) -> None:
    flow = single({"key": "k", "concurrency": 3}, params={"seconds": 0.01})
    runs = [await crowd.start(flow) for _ in range(60)]
    ended = await crowd.all_ended(runs)
    assert {run.status for run in ended} == {RunStatus.COMPLETED}
    assert len(STAYS) == 60
    assert most_at_once(STAYS) <= 3


async def test_what_is_recorded_of_the_visits_does_not_overlap(limits: LimitRig) -> None:
    runs = [await limits.start(single(ONE)) for _ in range(5)]
    await limits.all_ended(runs)
    rows = sorted((row for run in runs for row in _task_runs(limits, run)), key=_started)
    assert all(one.finished_at <= two.started_at for one, two in pairwise(rows))
    assert {(row.status, row.reason) for row in rows} == {(TaskRunStatus.SUCCESS, None)}


def _started(row: Any) -> datetime:
    started: datetime = row.started_at
    return started


async def test_turns_come_in_the_order_of_arrival(crowd: LimitRig) -> None:
    first = await _hold(crowd)
    line = await _line_up(crowd, single(ONE), 6)
    limit_tasks.LEAVE.set()
    await crowd.all_ended([first, *line])
    assert [stay.run_id for stay in STAYS] == [first, *line]


async def test_who_waits_says_so_and_holds_no_slot(database_url: str, redis_url: str) -> None:
    async with restarted(database_url, redis_url, worker_concurrency=2) as rig:
        first = await _hold(rig)
        line = await _line_up(rig, single({"key": "k", "concurrency": 1}), 4)
        (waiting,) = _task_runs(rig, line[0])
        assert (waiting.status, waiting.reason) == (TaskRunStatus.WAITING, "limit:k")
        other = await rig.start(single())
        assert (await rig.ended(other)).status == RunStatus.COMPLETED
        limit_tasks.LEAVE.set()
        await rig.all_ended([first, *line])


async def test_keys_that_differ_do_not_wait_for_each_other(limits: LimitRig) -> None:
    flow = single({"key": "customer ${input.customer}", "concurrency": 1}, type="stays_on")
    long = "x" * 300
    held = [await limits.start(flow, {"customer": one}) for one in (1, "a", long, long + "y")]
    await wait_until(lambda: len(INSIDE) == 4, description="all are in")
    second = await limits.start(flow, {"customer": "1"})
    await limits.stands_in_line(second)
    limit_tasks.LEAVE.set()
    await limits.all_ended([*held, second])


async def test_without_a_key_the_tasks_of_one_type_count_together(limits: LimitRig) -> None:
    first = await _hold(limits, single({"concurrency": 1}, type="stays_on"))
    other = {**single({"concurrency": 1}, type="stays_on"), "id": "another flow"}
    second = await limits.start(other)
    await limits.stands_in_line(second)
    limit_tasks.LEAVE.set()
    await limits.all_ended([first, second])


async def test_each_is_judged_by_the_bounds_that_it_gives_itself(limits: LimitRig) -> None:
    first = await _hold(limits)
    second = await _hold(limits, _stays_on(concurrency=2))
    third = await limits.start(single({"key": "k", "concurrency": 2}))
    await limits.stands_in_line(third)
    # It could go on by its own bounds, but nobody overtakes.
    fourth = await limits.start(single({"key": "k", "concurrency": 9}))
    await limits.stands_in_line(fourth)
    limit_tasks.LEAVE.set()
    await limits.all_ended([first, second, third, fourth])


async def test_the_items_of_a_list_count_singly(limits: LimitRig) -> None:
    each = {"for_each": "[0, 1, 2, 3, 4, 5]", "params": {"seconds": 0.02}}
    run_id = await limits.start(single({"key": "${item % 2}", "concurrency": 1}, **each))
    (run,) = await limits.all_ended([run_id])
    assert run.status == RunStatus.COMPLETED
    assert len(STAYS) == 6
    assert most_at_once(STAYS) <= 2


async def test_the_items_of_a_list_go_in_their_order(limits: LimitRig) -> None:
    first = await _hold(limits)
    run_id = await limits.start(single(ONE, for_each="[0, 1, 2, 3, 4, 5, 6, 7]"))
    await wait_until(
        lambda: len(limits.places(flow_run_id=run_id)) == 8, description="all stand in line"
    )
    limit_tasks.LEAVE.set()
    await limits.all_ended([first, run_id])
    items = [row for row in _task_runs(limits, run_id) if row.item_index >= 0]
    assert [row.item_index for row in sorted(items, key=_started)] == list(range(8))


async def test_a_key_that_cannot_be_worked_out_is_an_error_of_the_task(limits: LimitRig) -> None:
    flow = single({"key": "${input.customer}", "concurrency": 1}, retry=3)
    for given in ({}, {"customer": [1]}):
        (run,) = await limits.all_ended([await limits.start(flow, given)])
        assert run.status == RunStatus.FAILED
        (row,) = _task_runs(limits, run.id)
        assert row.reason == "expression_failed"
        assert b"limit.key" in row.error


# What gives a place back.


async def test_a_place_is_given_back_between_two_attempts(limits: LimitRig) -> None:
    retry = {"max_attempts": 2, "delay": 0.2, "jitter": False}
    flow = single(ONE, type="stays_on", retry=retry, params={"fails_until": 2})
    first = await _hold(limits, flow)
    (second,) = await _line_up(limits, single(ONE), 1)
    limit_tasks.LEAVE.set()
    ended = await limits.all_ended([first, second])
    assert {run.status for run in ended} == {RunStatus.COMPLETED}
    assert [stay.run_id for stay in STAYS] == [first, second, first]


async def test_who_sleeps_keeps_its_place_and_is_begun_once(limits: LimitRig) -> None:
    runs = [await limits.start(single(ONE, type="stays_asleep")) for _ in range(3)]
    ended = await limits.all_ended(runs)
    assert {run.status for run in ended} == {RunStatus.COMPLETED}
    assert len(STAYS) == 3
    assert most_at_once(STAYS) == 1


async def test_an_error_of_one_lets_the_next_go_on(limits: LimitRig) -> None:
    first = await _hold(limits, single(ONE, type="stays_on", params={"fails_until": 9}))
    (second,) = await _line_up(limits, single(ONE), 1)
    limit_tasks.LEAVE.set()
    failed, completed = await limits.all_ended([first, second])
    assert (failed.status, completed.status) == (RunStatus.FAILED, RunStatus.COMPLETED)


async def test_a_cancel_lets_the_next_go_on(limits: LimitRig) -> None:
    first = await _hold(limits)
    gone, last = await _line_up(limits, single(ONE), 2)
    assert await limits.cancel(gone) == "cancelled"
    await wait_until(lambda: len(limits.places()) == 2, description="its place is given back")
    assert [place.flow_run_id for place in limits.places()] == [first, last]
    assert await limits.cancel(first) == "cancelled"
    assert (await limits.all_ended([last]))[0].status == RunStatus.COMPLETED
    assert [stay.run_id for stay in STAYS] == [last]
    assert {row.status for row in _task_runs(limits, gone)} == {TaskRunStatus.CANCELLED}


async def test_a_join_that_goes_on_early_takes_others_out_of_the_line(limits: LimitRig) -> None:
    holder = await _hold(limits)
    run_id = await limits.start(
        {
            "id": "race",
            "start_task": "split",
            "tasks": [
                {"name": "split", "type": "noop"},
                {"name": "slow", "type": "stays", "limit": ONE},
                {"name": "nap", "type": "stays_on", "params": {"leaves": "LEAVE_TOO"}},
                {"name": "meet", "type": "noop", "join": "any"},
            ],
            "conditions": [
                {"source_task": "split", "target_task_success": ["slow", "nap"]},
                {"source_task": "slow", "target_task_success": "meet"},
                {"source_task": "nap", "target_task_success": "meet"},
            ],
        }
    )
    await limits.stands_in_line(run_id)
    limit_tasks.LEAVE_TOO.set()
    assert (await limits.ended(run_id)).status == RunStatus.COMPLETED
    await wait_until(lambda: len(limits.places()) == 1, description="only the holder has one")
    limit_tasks.LEAVE.set()
    await limits.all_ended([holder])
    assert [stay.name for stay in STAYS] == ["nap", "stay"]


async def test_items_that_are_stopped_leave_the_line(limits: LimitRig) -> None:
    each = {"for_each": "[0, 0, 0, 0]", "params": {"seconds": 0.05, "fails_until": 9}}
    run_id = await limits.start(single(ONE, **each))
    (run,) = await limits.all_ended([run_id])
    assert run.status == RunStatus.FAILED
    assert len(STAYS) == 1


# So many a time.


async def test_no_stretch_of_time_sees_more_starts_than_the_rate_says(crowd: LimitRig) -> None:
    flow = single({"key": "k", "rate": "4/300ms"}, params={"seconds": 0})
    runs = [await crowd.start(flow) for _ in range(14)]
    await crowd.all_ended(runs)
    started = sorted(row.started_at for run in runs for row in _task_runs(crowd, run))
    gaps = [two - one for one, two in zip(started, started[4:], strict=False)]
    assert len(started) == 14
    assert min(gaps) >= timedelta(milliseconds=300)


async def test_a_rate_keeps_the_order_of_arrival(limits: LimitRig) -> None:
    both = {"key": "k", "concurrency": 1, "rate": "1/50ms"}
    first = await _hold(limits, single(both, type="stays_on"))
    line = await _line_up(limits, single(both), 4)
    limit_tasks.LEAVE.set()
    await limits.all_ended([first, *line])
    assert [stay.run_id for stay in STAYS] == [first, *line]


async def test_every_attempt_is_a_start(limits: LimitRig) -> None:
    retry = {"max_attempts": 3, "delay": 0}
    limit = {"key": "k", "rate": "1/200ms"}
    run_id = await limits.start(single(limit, retry=retry, params={"fails_until": 3}))
    await limits.all_ended([run_id])
    started = [row.started_at for row in _task_runs(limits, run_id)]
    assert len(started) == 3
    assert all(two - one >= timedelta(milliseconds=200) for one, two in pairwise(started))


# What is left behind.


async def test_a_line_survives_a_restart(database_url: str, redis_url: str) -> None:
    async with restarted(database_url, redis_url) as rig:
        first = await _hold(rig)
        line = await _line_up(rig, single(ONE), 3)
    limit_tasks.LEAVE.set()
    async with restarted(database_url, redis_url) as rig:
        await rig.all_ended([first, *line])
    assert [stay.run_id for stay in STAYS] == [first, *line]


def _place(rig: LimitRig, **values: Any) -> None:
    """Put a place into the table that nobody gives back."""
    limiters, places = Limiter.__table__, LimitPlace.__table__
    with rig.engine.database.write() as connection:
        known = connection.execute(select(limiters.c.id)).scalar_one()
        row = {"holder": new_id(), "limiter_id": known, "number": 0, "state": PlaceState.RUNNING}
        row["arrived_at"] = datetime.now(UTC)
        row |= {"branch_id": new_id(), "flow_run_id": new_id(), "task": "stay"}
        connection.execute(places.insert(), row | values)


async def test_places_that_are_nobodys_are_given_back(limits: LimitRig) -> None:
    done = await limits.start(single(ONE))
    await limits.all_ended([done])
    (row,) = _task_runs(limits, done)
    _place(limits)
    _place(limits, holder=row.branch_id, branch_id=row.branch_id, flow_run_id=done)
    last = await limits.start(single(ONE))
    assert (await limits.all_ended([last]))[0].status == RunStatus.COMPLETED


async def test_a_line_that_nobody_calls_on_is_called_by_the_upkeep(limits: LimitRig) -> None:
    first = await _hold(limits)
    (second,) = await _line_up(limits, single(ONE), 1)
    places = LimitPlace.__table__
    with limits.engine.database.write() as connection:
        connection.execute(places.delete().where(places.c.flow_run_id == first))
    await wait_until(lambda: bool(STAYS), description="the second goes on")
    assert STAYS[0].run_id == second
    limit_tasks.LEAVE.set()
    await limits.all_ended([first, second])


async def test_keys_that_nobody_asks_for_are_forgotten(limits: LimitRig) -> None:
    run_id = await limits.start(single({"key": "k", "rate": "5/s"}))
    await limits.all_ended([run_id])
    limiters, starts = Limiter.__table__, LimitStart.__table__

    def left() -> int:
        with limits.engine.database.read() as connection:
            tables = (limiters, starts)
            return sum(len(connection.execute(select(table)).all()) for table in tables)

    assert left() == 2
    with limits.engine.database.write() as connection:
        past = datetime.now(UTC) - timedelta(seconds=1)
        connection.execute(limiters.update().values(expires_at=past))
    await wait_until(lambda: left() == 0, description="the key is forgotten")


@pytest.mark.parametrize("bounds", [{"concurrency": 1}, {"rate": "1/100ms"}])
async def test_a_run_that_is_cancelled_right_after_its_call_leaves_nothing(
    limits: LimitRig, bounds: dict[str, Any]
) -> None:
    flow = single({"key": "k", **bounds})
    runs = [await limits.start(flow) for _ in range(6)]
    for run_id in runs[::2]:
        await limits.cancel(run_id)
    await limits.all_ended(runs)
