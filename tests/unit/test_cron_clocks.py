"""Ticks where clocks change, against a clock that is watched minute by minute."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.cron import (
    Cron,
    Schedule,
    newest_tick,
    next_tick,
    parse_schedule,
    ticks_between,
)
from tests.unit.cron_strategies import CHANGES, MINUTE, Field, any_field

EXPRESSIONS = st.tuples(any_field(59), any_field(23), st.just(Field("*", frozenset(range(1, 32)))))
Expression = tuple[Field, Field, Field]
HOURS = st.tuples(
    any_field(59),
    st.frozensets(st.integers(0, 4), min_size=1).map(
        lambda hours: Field(",".join(map(str, sorted(hours))), hours)
    ),
    st.just(Field("*", frozenset(range(1, 32)))),
)


def _watch(fields: Expression, zone: str, start: datetime, end: datetime) -> list[datetime]:
    """The ticks that somebody sees who watches the clock from ``start`` to ``end``."""

    def fits(wall: datetime) -> bool:
        minute, hour, day = fields
        return wall.minute in minute.values and wall.hour in hour.values and wall.day in day.values

    count = int((end - start) / MINUTE) + 1
    moments = [start + number * MINUTE for number in range(count)]
    walls = [moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None) for moment in moments]
    if fields[0].text.startswith("*") or fields[1].text.startswith("*"):
        return [moment for moment, wall in zip(moments, walls, strict=True) if fits(wall)]
    # A fixed time comes when the clock reaches it, or passes over it.
    ticks = []
    latest = walls[0] - MINUTE
    for moment, wall in zip(moments, walls, strict=True):
        if wall > latest:
            passed = int((wall - latest) / MINUTE)
            if any(fits(wall - number * MINUTE) for number in range(passed)):
                ticks.append(moment)
            latest = wall
    return ticks


def _window(change: tuple[str, date]) -> tuple[datetime, datetime]:
    noon = datetime(change[1].year, change[1].month, change[1].day, 12, tzinfo=UTC)
    return noon - timedelta(days=2), noon + timedelta(days=2)


def _cron(fields: Expression, zone: str) -> Schedule:
    expression = f"{fields[0].text} {fields[1].text} {fields[2].text} * *"
    return parse_schedule({"cron": expression, "time_zone": zone})


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: f"{change[0]}-{change[1]}")
@given(fields=HOURS | EXPRESSIONS, seconds=st.integers(0, 3 * 86_400))
@settings(max_examples=25, deadline=None)
def test_ticks_are_those_that_a_watcher_of_the_clock_sees(
    change: tuple[str, date], fields: Expression, seconds: int
) -> None:
    start, end = _window(change)
    schedule = _cron(fields, change[0])
    seen = _watch(fields, change[0], start, end)
    assert ticks_between(schedule, start - MINUTE / 2, end, 10_000) == seen
    # From any moment on, the next one is the first that is still to come.
    after = start + timedelta(seconds=seconds)
    coming = next((tick for tick in seen if tick > after), None)
    found = next_tick(schedule, after)
    assert found == coming or (coming is None and (found is None or found > end))
    gone = [tick for tick in seen if after < tick <= end]
    assert newest_tick(schedule, after, end) == (gone[-1] if gone else None)


@pytest.mark.parametrize(
    ("expression", "day", "hours"),
    [
        # The night in which Berlin has no time from 2:00 to 3:00: 1:00 UTC is 3:00.
        ("30 2 * * *", date(2026, 3, 29), ["01:00"]),
        ("0,30 2 * * *", date(2026, 3, 29), ["01:00"]),
        ("*/30 2 * * *", date(2026, 3, 29), []),
        ("0 * * * *", date(2026, 3, 29), ["00:00", "01:00", "02:00"]),
        # The night in which it has that hour twice, from 0:00 and from 1:00 UTC.
        ("30 2 * * *", date(2026, 10, 25), ["00:30"]),
        ("*/30 2 * * *", date(2026, 10, 25), ["00:00", "00:30", "01:00", "01:30"]),
        ("30 * * * *", date(2026, 10, 25), ["00:30", "01:30", "02:30"]),
    ],
)
def test_berlin_changes_its_clocks_as_the_module_says(
    expression: str, day: date, hours: list[str]
) -> None:
    schedule = Cron(expression, "Europe/Berlin")
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    ticks = ticks_between(schedule, midnight - MINUTE, midnight + timedelta(hours=2.9), 99)
    assert [tick.strftime("%H:%M") for tick in ticks] == hours


def test_no_tick_is_lost_where_clocks_change_by_half_an_hour() -> None:
    schedule = Cron("*/15 3 * * *", "Australia/Lord_Howe")
    before = datetime(2026, 10, 3, 15, tzinfo=UTC)
    ticks = ticks_between(schedule, before, before + timedelta(hours=3), 99)
    assert [tick.strftime("%H:%M") for tick in ticks] == ["16:00", "16:15", "16:30", "16:45"]
