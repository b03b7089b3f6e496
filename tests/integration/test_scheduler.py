"""The scheduler of a running worker: it starts what is due, and what is broken stops nothing."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import JsonValue
from sqlalchemy import Connection, select

from shared.cron import Interval
from shared.models import FlowRun
from shared.models_schedules import ScheduleRow
from shared.status import RunStatus
from shared.store.definitions import NewVersion, put_versions
from shared.store.runs import CreatedRun
from shared.store.scheduled_starts import Verdict, carry_out
from shared.store.schedules import NewSchedule, create_schedules
from shared.store.stopping import Cancel, cancel_runs
from shared.validation import validate_definition
from tests.integration.engine_rig import Rig, open_rig
from tests.waiting import wait_until
from worker import scheduler


def _flow(flow_id: str, **task: JsonValue) -> JsonValue:
    return {"id": flow_id, "start_task": "a", "tasks": [{"name": "a", **task}]}


QUICK = _flow("quick", type="noop")
HELD = _flow("held", type="wait_for_signal", params={"signal": "go"})
LONG_AGO = timedelta(hours=1)
"""A schedule made so long ago has a tick that is due."""


@pytest.fixture
async def rig(database_url: str, redis_url: str) -> AsyncIterator[Rig]:
    async with open_rig(database_url, redis_url, ()) as rig:
        for definition in (QUICK, HELD):
            await _store(rig, definition)
        yield rig


async def _store(rig: Rig, definition: JsonValue) -> None:
    judged = validate_definition(definition)
    assert judged.flow is not None, judged.errors
    flow_id = judged.flow.definition.id
    item = NewVersion(flow_id, judged.flow.hash, judged.definition_json, datetime.now(UTC))
    await rig.engine.writer.call(put_versions, item)


async def _schedule(rig: Rig, schedule_id: str, flow_id: str, **changes: Any) -> None:
    values: dict[str, Any] = {
        "version": None,
        "input": b"{}",
        "timing": Interval(3_000.0),
        "overlap": "skip",
        "catch_up": True,
        "paused": None,
        "at": datetime.now(UTC) - LONG_AGO,
    }
    item = NewSchedule(id=schedule_id, flow_id=flow_id, **(values | changes))
    assert await rig.engine.writer.call(create_schedules, item)


def _runs(rig: Rig, schedule_id: str) -> list[Any]:
    table = FlowRun.__table__
    with rig.engine.database.read() as connection:
        query = select(table).where(table.c.schedule_id == schedule_id).order_by(table.c.id)
        return list(connection.execute(query))


def _row(rig: Rig, schedule_id: str) -> Any:
    table = ScheduleRow.__table__
    with rig.engine.database.read() as connection:
        return connection.execute(select(table).where(table.c.id == schedule_id)).one()


async def test_a_due_schedule_starts_a_run_that_ends(rig: Rig) -> None:
    await _schedule(rig, "due", "quick")
    await _schedule(rig, "not-yet", "quick", at=datetime.now(UTC))
    await wait_until(
        lambda: [run.status for run in _runs(rig, "due")] == [RunStatus.COMPLETED],
        description="the run of the schedule is over",
    )
    assert _runs(rig, "not-yet") == []


async def test_ticks_follow_each_other(rig: Rig) -> None:
    await _schedule(rig, "often", "quick", timing=Interval(1.0), overlap="allow")
    await wait_until(
        lambda: len(_runs(rig, "often")) >= 3, description="three ticks have come", timeout=10
    )
    keys = [run.idempotency_key for run in _runs(rig, "often")]
    assert len(set(keys)) == len(keys)


async def test_a_start_that_waits_goes_when_the_run_before_is_over(rig: Rig) -> None:
    await _schedule(rig, "queue", "held", timing=Interval(1.0), overlap="queue")
    await wait_until(lambda: _row(rig, "queue").waiting, description="a start waits", timeout=10)
    (first,) = _runs(rig, "queue")
    await rig.engine.writer.call(cancel_runs, Cancel(first.id, datetime.now(UTC)))
    await wait_until(lambda: len(_runs(rig, "queue")) == 2, description="it goes", timeout=10)


async def test_what_is_broken_stops_neither_the_others_nor_the_worker(rig: Rig) -> None:
    await _schedule(rig, "a-broken", "quick", at=datetime.now(UTC))
    table = ScheduleRow.__table__
    past = datetime.now(UTC) - LONG_AGO
    with rig.engine.database.write() as connection:
        connection.execute(
            table.update()
            .where(table.c.id == "a-broken")
            .values(
                cron="* * * * *",
                time_zone="Mars/Olympus",
                every_seconds=None,
                look_at=past,
            )
        )
    await _schedule(rig, "b-gone", "nothing")
    await _schedule(rig, "c-good", "quick")
    await wait_until(lambda: _runs(rig, "c-good"), description="the good one is started")
    await wait_until(
        lambda: all(_row(rig, one).error for one in ("a-broken", "b-gone")),
        description="the others say what is wrong",
    )
    assert "Mars/Olympus" in _row(rig, "a-broken").error
    assert _row(rig, "a-broken").look_at > datetime.now(UTC)
    assert "nothing" in _row(rig, "b-gone").error


async def test_a_start_that_cannot_be_written_stops_no_other(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(connection: Connection, items: Sequence[Verdict]) -> list[CreatedRun | None]:
        if any(item.run is not None and item.schedule_id == "a-broken" for item in items):
            raise ZeroDivisionError("on purpose")
        return carry_out(connection, items)

    monkeypatch.setattr(scheduler, "carry_out", fail)
    await _schedule(rig, "a-broken", "quick")
    await _schedule(rig, "b-good", "quick")
    await wait_until(lambda: _runs(rig, "b-good"), description="the good one is started")
    await wait_until(lambda: _row(rig, "a-broken").error, description="the other one says why")
    assert "on purpose" in _row(rig, "a-broken").error
    assert _runs(rig, "a-broken") == []


async def test_more_than_one_look_takes_are_all_started(rig: Rig) -> None:
    for number in range(120):
        await _schedule(rig, f"s{number:03}", "quick")
    await wait_until(
        lambda: sum(len(_runs(rig, f"s{number:03}")) for number in (0, 60, 119)) == 3,
        description="all of them have started",
        timeout=15,
    )
