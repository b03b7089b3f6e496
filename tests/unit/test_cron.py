"""Schedules: their ticks against a clock that is watched minute by minute, and every decision."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.cron import (
    ON_TIME_SECONDS,
    Cron,
    Interval,
    OverlapPolicy,
    Schedule,
    StartDecision,
    decide_starts,
    newest_tick,
    next_tick,
    parse_schedule,
    start_key,
    ticks_between,
)
from shared.errors import InvalidSchedule

MINUTE = timedelta(minutes=1)

CHANGES = [
    ("Europe/Berlin", date(2026, 3, 29)),
    ("Europe/Berlin", date(2026, 10, 25)),
    ("America/New_York", date(2026, 3, 8)),
    ("America/New_York", date(2026, 11, 1)),
    # Half an hour.
    ("Australia/Lord_Howe", date(2026, 4, 5)),
    ("Australia/Lord_Howe", date(2026, 10, 4)),
    # Two hours.
    ("Antarctica/Troll", date(2026, 3, 29)),
    ("Antarctica/Troll", date(2026, 10, 25)),
    # At midnight.
    ("America/Havana", date(2025, 3, 9)),
    ("America/Havana", date(2025, 11, 2)),
    # A whole day was skipped.
    ("Pacific/Apia", date(2011, 12, 30)),
    # No change at all, and an offset of three quarters of an hour.
    ("Asia/Kathmandu", date(2026, 1, 1)),
]


class Field(NamedTuple):
    """A field of an expression, and what it stands for, worked out apart from the parser."""

    text: str
    values: frozenset[int]


def _fields(highest: int, lowest: int = 0) -> st.SearchStrategy[Field]:
    everything = frozenset(range(lowest, highest + 1))
    values = st.frozensets(st.sampled_from(sorted(everything)), min_size=1, max_size=4)
    steps = st.integers(1, highest).map(
        lambda step: Field(f"*/{step}", frozenset(range(lowest, highest + 1, step)))
    )
    lists = values.map(lambda chosen: Field(",".join(map(str, sorted(chosen))), chosen))
    return st.just(Field("*", everything)) | steps | lists


EXPRESSIONS = st.tuples(_fields(59), _fields(23), st.just(Field("*", frozenset(range(1, 32)))))
Expression = tuple[Field, Field, Field]
HOURS = st.tuples(
    _fields(59),
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


MOMENTS = st.datetimes(
    datetime(1975, 1, 1),  # noqa: DTZ001 - hypothesis wants its bounds without a zone
    datetime(2200, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)
ZONES = st.sampled_from(sorted({zone for zone, _ in CHANGES} | {"UTC", "Asia/Tokyo"}))
CRONS = st.builds(
    lambda fields, zone: Cron(" ".join(field.text for field in fields), zone),
    st.tuples(_fields(59), _fields(23), _fields(28, 1), _fields(12, 1), _fields(6)),
    ZONES,
)
INTERVALS = st.builds(Interval, st.floats(1, 10**8), MOMENTS)
SCHEDULES: st.SearchStrategy[Schedule] = CRONS | INTERVALS


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


def test_schedules_are_read() -> None:
    assert parse_schedule({"cron": " 30  2 * * mon-fri "}) == Cron("30 2 * * MON-FRI", "UTC")
    assert parse_schedule({"cron": "@Daily", "time_zone": "Asia/Tokyo"}) == Cron(
        "0 0 * * *", "Asia/Tokyo"
    )
    assert parse_schedule({"every": "5m"}) == Interval(300.0)
    assert parse_schedule({"every": 1.5, "start": "2026-01-01T02:00:00+02:00"}) == Interval(
        1.5, datetime(2026, 1, 1, tzinfo=UTC)
    )


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        ({}, "", 'needs "cron" or "every"'),
        ({"every": "5m", "cron": "* * * * *"}, "every", 'cannot stand beside "cron"'),
        ({"every": "5m", "time_zone": "UTC"}, "time_zone", 'cannot stand beside "every"'),
        ({"cron": "* * * * *", "zone": "UTC"}, "zone", "is no field"),
        ({"cron": 5}, "cron", "must be text"),
        ({"cron": "* " * 200_000}, "cron", "must be text"),
        ({"cron": ""}, "cron", "five fields"),
        ({"cron": "* * * *"}, "cron", "five fields"),
        ({"cron": "0 * * * * *"}, "cron", "five fields"),
        ({"cron": "@reboot"}, "cron", "five fields"),
        ({"cron": "\N{ARABIC-INDIC DIGIT FIVE} * * * *"}, "cron", "characters"),
        ({"cron": "* * * * *\x00"}, "cron", "characters"),
        ({"cron": "60 * * * *"}, "cron", "bad minute"),
        ({"cron": "*/0 * * * *"}, "cron", "bad minute"),
        ({"cron": "0 5-1 * * *"}, "cron", "bad hour"),
        ({"cron": "0 0 * * 8"}, "cron", "bad day-of-week"),
        ({"cron": "0 0 30 2 *"}, "cron", "bad day-of-month"),
        ({"cron": "0 0 */31 2 MON#5"}, "cron", "never fires"),
        ({"cron": "* * LW 2 */7"}, "cron", "never fires"),
        ({"cron": "* * * * *", "time_zone": 1}, "time_zone", "must be text"),
        ({"cron": "* * * * *", "time_zone": ""}, "time_zone", "names no time zone"),
        ({"cron": "* * * * *", "time_zone": "../../etc/passwd"}, "time_zone", "names no time"),
        ({"cron": "* * * * *", "time_zone": "America"}, "time_zone", "names no time zone"),
        ({"cron": "* * * * *", "time_zone": "localtime"}, "time_zone", "names no time zone"),
        ({"cron": "* * * * *", "time_zone": "x" * 10**6}, "time_zone", "names no time zone"),
        ({"cron": "* * * * *", "time_zone": "a\x00b"}, "time_zone", 'zone: "a\\?b"'),
        ({"every": 0}, "every", "at least 1 second"),
        ({"every": "0.5s"}, "every", "at least 1 second"),
        ({"every": "soon"}, "every", "number of seconds"),
        ({"every": None}, "every", "number of seconds"),
        ({"every": 60, "start": "2026-01-01T00:00:00"}, "start", "offset"),
        ({"every": 60, "start": "tomorrow"}, "start", "offset"),
        ({"every": 60, "start": 5}, "start", "offset"),
        ({"every": 60, "start": "0001-01-01T00:00:00+14:00"}, "start", "offset"),
    ],
)
def test_what_is_no_schedule_is_refused_at_its_field(
    spec: dict[str, object], field: str, message: str
) -> None:
    with pytest.raises(InvalidSchedule, match=message) as caught:
        parse_schedule(spec)
    assert caught.value.field == field
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("europe/berlin", "Europe/Berlin"),
        ("Berlin", "Europe/Berlin"),
        ("Europe/Berln", "Europe/Berlin"),
        ("America/New York", "America/New_York"),
    ],
)
def test_an_unknown_time_zone_comes_with_the_one_that_was_meant(name: str, meant: str) -> None:
    with pytest.raises(InvalidSchedule) as caught:
        parse_schedule({"cron": "* * * * *", "time_zone": name})
    assert caught.value.suggestion == f'did you mean "{meant}"?'


WORDS = st.text("*/,-#LW0123456789", max_size=6)


@given(st.lists(WORDS, min_size=4, max_size=6).map(" ".join) | st.text(max_size=30))
@settings(deadline=None)
def test_any_text_is_an_expression_that_fires_or_refused(text: str) -> None:
    try:
        schedule = parse_schedule({"cron": text})
    except InvalidSchedule:
        return
    assert next_tick(schedule, datetime(2026, 1, 1, tzinfo=UTC)) is not None


def test_the_key_of_a_start_is_its_tick() -> None:
    tick = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert start_key("nightly", tick) == "schedule:nightly:2026-01-02T03:04:05Z"
    same = tick.astimezone(ZoneInfo("Asia/Tokyo"))
    assert start_key("nightly", same) == start_key("nightly", tick)


HOURLY = Interval(3_600.0)
TEN = datetime(2026, 1, 1, 10, tzinfo=UTC)
"""A tick of the hourly schedule; those before it have been dealt with."""
NINE, ELEVEN, TWELVE = (TEN + timedelta(hours=hours) for hours in (-1, 1, 2))
SECOND = timedelta(seconds=1)


def _decide(
    now: datetime,
    *,
    last_tick: datetime = NINE,
    overlap: OverlapPolicy = "skip",
    is_running: bool = False,
    paused: bool = False,
    catch_up: bool = False,
    waiting: datetime | None = None,
) -> StartDecision:
    return decide_starts(
        HOURLY,
        last_tick=last_tick,
        now=now,
        overlap=overlap,
        is_running=is_running,
        paused=paused,
        catch_up=catch_up,
        waiting=waiting,
    )


def test_nothing_starts_before_its_time() -> None:
    assert _decide(TEN - SECOND) == StartDecision(None, NINE)


def test_a_tick_starts_when_it_comes_and_only_once() -> None:
    decision = _decide(TEN)
    assert decision == StartDecision(TEN, TEN)
    assert _decide(TEN + SECOND, last_tick=decision.last_tick) == StartDecision(None, TEN)


def test_a_clock_that_went_back_starts_nothing_again() -> None:
    assert _decide(NINE, last_tick=TEN) == StartDecision(None, TEN)


def test_missed_starts_are_caught_up_once() -> None:
    late = TWELVE + timedelta(minutes=30)
    assert _decide(late, catch_up=True) == StartDecision(TWELVE, TWELVE)


def test_missed_starts_are_left_out_where_nobody_wants_them() -> None:
    late = TWELVE + timedelta(minutes=30)
    assert _decide(late) == StartDecision(None, TWELVE, left_out="late")
    assert _decide(TWELVE + SECOND) == StartDecision(TWELVE, TWELVE)


def test_a_start_may_be_as_late_as_a_new_leader() -> None:
    limit = TEN + timedelta(seconds=ON_TIME_SECONDS)
    assert _decide(limit).start == TEN
    assert _decide(limit + SECOND).start is None


def test_a_pause_lets_ticks_pass_for_good() -> None:
    assert _decide(TEN, paused=True, catch_up=True) == StartDecision(None, TEN, left_out="paused")
    assert _decide(TEN + SECOND, last_tick=TEN, catch_up=True).start is None


def test_a_start_that_waited_when_a_pause_began_waits_on() -> None:
    decision = _decide(ELEVEN, last_tick=TEN, overlap="queue", paused=True, waiting=TEN)
    assert decision == StartDecision(None, ELEVEN, TEN, "paused")


def test_skip_leaves_a_start_out_while_a_run_goes_on() -> None:
    assert _decide(TEN, is_running=True) == StartDecision(None, TEN, left_out="running")


def test_allow_starts_beside_a_run_that_goes_on() -> None:
    assert _decide(TEN, is_running=True, overlap="allow") == StartDecision(TEN, TEN)


def test_queue_keeps_one_start_until_the_run_is_over_however_late() -> None:
    waits = _decide(TEN, is_running=True, overlap="queue")
    assert waits == StartDecision(None, TEN, TEN)
    more = _decide(ELEVEN, last_tick=TEN, is_running=True, overlap="queue", waiting=TEN)
    assert more == StartDecision(None, ELEVEN, TEN, "running")
    over = _decide(ELEVEN + 5 * MINUTE, last_tick=ELEVEN, overlap="queue", waiting=TEN)
    assert over == StartDecision(TEN, ELEVEN)


def test_a_tick_takes_the_place_of_the_one_that_starts_after_waiting() -> None:
    decision = _decide(ELEVEN, last_tick=TEN, overlap="queue", waiting=TEN)
    assert decision == StartDecision(TEN, ELEVEN, ELEVEN)


def test_what_waited_is_dropped_when_the_policy_becomes_skip() -> None:
    assert _decide(TEN + SECOND, last_tick=TEN, waiting=TEN) == StartDecision(None, TEN)


@given(
    SCHEDULES,
    MOMENTS,
    st.lists(st.tuples(st.floats(0, 10**6), st.booleans(), st.booleans()), max_size=8),
    st.sampled_from(["skip", "queue", "allow"]),
    st.booleans(),
)
@settings(deadline=None)
def test_whatever_happens_every_tick_starts_at_most_once_and_none_before_its_time(
    schedule: Schedule,
    made: datetime,
    looks: list[tuple[float, bool, bool]],
    overlap: OverlapPolicy,
    catch_up: bool,
) -> None:
    started: list[datetime] = []
    now, last_tick, waiting = made, made, None
    for seconds, is_running, paused in looks:
        now += timedelta(seconds=seconds)
        decision = decide_starts(
            schedule,
            last_tick=last_tick,
            now=now,
            overlap=overlap,
            is_running=is_running,
            paused=paused,
            catch_up=catch_up,
            waiting=waiting,
        )
        assert last_tick <= decision.last_tick <= now
        last_tick, waiting = decision.last_tick, decision.waiting
        if decision.start is not None:
            assert made < decision.start <= now
            assert not paused
            assert not is_running or overlap == "allow"
            started.append(decision.start)
        # Who waits is started by a later look, never twice.
        assert waiting not in started
    assert started == sorted(set(started))
