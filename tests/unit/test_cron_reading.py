"""What is a schedule, and what is refused at which field."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.cron import (
    Cron,
    Interval,
    next_tick,
    parse_schedule,
)
from shared.errors import InvalidSchedule


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
