"""Ticks of schedules: in order, none lost, none twice, found at once."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.cron import (
    Cron,
    Interval,
    Schedule,
    newest_tick,
    next_tick,
    parse_schedule,
    start_key,
    ticks_between,
)
from tests.unit.cron_strategies import INTERVALS, MINUTE, MOMENTS, SCHEDULES


@given(SCHEDULES, MOMENTS)
@settings(deadline=None)
def test_ticks_come_one_after_the_other_in_utc(schedule: Schedule, after: datetime) -> None:
    ticks = ticks_between(schedule, after, datetime.max.replace(tzinfo=UTC), 5)
    assert all(earlier < later for earlier, later in pairwise([after, *ticks]))
    assert all(tick.tzinfo is UTC for tick in ticks)


@given(SCHEDULES, MOMENTS, st.floats(0, 1, exclude_max=True))
@settings(deadline=None)
def test_the_next_tick_is_the_same_until_it_comes(
    schedule: Schedule, after: datetime, part: float
) -> None:
    tick = next_tick(schedule, after)
    if tick is not None:
        between = after + (tick - after) * part
        assert next_tick(schedule, between) == tick or between == tick


@given(INTERVALS, MOMENTS)
def test_an_interval_counts_from_its_start(interval: Interval, after: datetime) -> None:
    tick = next_tick(interval, after)
    every = timedelta(seconds=interval.every_seconds)
    assert tick is not None
    assert (tick - interval.start) % every == timedelta(0)
    assert tick == interval.start or tick - every <= after


def test_there_are_no_ticks_after_the_last_year() -> None:
    end = datetime.max.replace(tzinfo=UTC)
    assert next_tick(Interval(3_600.0), end) is None
    for zone in ("UTC", "Asia/Tokyo", "America/New_York"):
        assert next_tick(Cron("0 0 1 1 *", zone), end) is None


def test_at_most_the_limit_of_ticks_is_listed() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    every = ticks_between(Interval(60.0), start, start + timedelta(days=400), 3)
    assert every == [start + MINUTE, start + 2 * MINUTE, start + 3 * MINUTE]


def test_the_newest_of_ten_million_ticks_is_found_at_once() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    until = start + timedelta(days=20 * 365, seconds=30)
    assert newest_tick(Cron("* * * * *", "Europe/Berlin"), start, until) == until.replace(second=0)
    dense = newest_tick(Cron("* * * 1 *", "UTC"), start, datetime(2030, 12, 1, tzinfo=UTC))
    assert dense == datetime(2030, 1, 31, 23, 59, tzinfo=UTC)


def test_a_leap_day_is_waited_for() -> None:
    schedule = parse_schedule({"cron": "0 12 29 2 *", "time_zone": "Europe/Berlin"})
    tick = next_tick(schedule, datetime(2026, 1, 1, tzinfo=UTC))
    assert tick == datetime(2028, 2, 29, 11, tzinfo=UTC)


def test_the_key_of_a_start_is_its_tick() -> None:
    tick = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert start_key("nightly", tick) == "schedule:nightly:2026-01-02T03:04:05Z"
    same = tick.astimezone(ZoneInfo("Asia/Tokyo"))
    assert start_key("nightly", same) == start_key("nightly", tick)
