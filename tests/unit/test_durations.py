"""Durations and rates: what is read, what is refused, and that what we print is read again."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from shared.durations import (
    MAX_RATE_COUNT,
    MAX_SECONDS,
    Duration,
    Rate,
    format_duration,
    parse_duration,
    parse_rate,
)
from shared.errors import InvalidDuration, InvalidInput

FIELD = TypeAdapter[float](Duration)
PATTERN = re.compile(FIELD.json_schema()["anyOf"][1]["pattern"])


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (0, 0.0),
        (90, 90.0),
        (0.25, 0.25),
        ("90", 90.0),
        ("1.5", 1.5),
        ("30s", 30.0),
        ("5m", 300.0),
        ("5 min", 300.0),
        ("2d", 172_800.0),
        ("1w", 604_800.0),
        ("1h30m", 5_400.0),
        (" 1 h  30 m ", 5_400.0),
        ("1.5h", 5_400.0),
        ("250ms", 0.25),
        ("1m250ms", 60.25),
        ("3660d", float(MAX_SECONDS)),
    ],
)
def test_numbers_and_text_are_read_as_seconds(value: float | str, seconds: float) -> None:
    assert parse_duration(value) == seconds
    assert FIELD.validate_python(value) == seconds
    assert FIELD.validate_python(value, strict=True) == seconds


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (-1, "negative"),
        ("-5s", "negative"),
        (-math.inf, "negative"),
        (math.inf, "ten years"),
        (10**400, "ten years"),
        ("11000d", "ten years"),
        ("999999999999w", "ten years"),
        (math.nan, "number of seconds"),
        ("", "number of seconds"),
        (" ", "number of seconds"),
        ("s", "number of seconds"),
        ("nan", "number of seconds"),
        ("1e3", "number of seconds"),
        ("1_000", "number of seconds"),
        ("5\n", "number of seconds"),
        ("\N{ARABIC-INDIC DIGIT THREE}s", "number of seconds"),
        ("30 fortnights", "the units are"),
        ("1h30", "number of seconds"),
        ("1M", "the units are"),
        ("1h2x", "the units are"),
        ("30m1h", "largest first"),
        ("1h1h", "largest first"),
        ("1min1m", "largest first"),
        ("1" * 101, "number of seconds"),
        ("1s" * 100_000, "number of seconds"),
        (True, "number of seconds"),
        (None, "number of seconds"),
        ([5], "number of seconds"),
    ],
)
def test_what_is_no_duration_is_refused_with_the_reason(value: object, why: str) -> None:
    with pytest.raises(InvalidDuration, match=why) as caught:
        parse_duration(value)
    assert isinstance(caught.value, InvalidInput)
    assert len(str(caught.value)) < 200
    with pytest.raises(ValidationError) as refused:
        FIELD.validate_python(value)
    assert [error["type"] for error in refused.value.errors()] == ["value_error"]


@given(st.text() | st.text("0123456789.hmsdw -", max_size=12) | st.integers() | st.floats())
def test_anything_is_read_or_refused(value: float | str) -> None:
    try:
        seconds = parse_duration(value)
    except InvalidDuration:
        return
    assert 0 <= seconds <= MAX_SECONDS
    if isinstance(value, str):
        assert PATTERN.search(value)


@given(
    st.integers(0, 99),
    st.integers(0, 23),
    st.integers(0, 59),
    st.integers(0, 59),
    st.integers(0, 999),
)
def test_parts_add_up(days: int, hours: int, minutes: int, seconds: int, thousandths: int) -> None:
    text = f"{days}d{hours}h{minutes}m{seconds}s{thousandths}ms"
    whole = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    assert parse_duration(text) == pytest.approx(whole + thousandths / 1000)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.25, "250 ms"),
        (0.9989, "999 ms"),
        (0.9999, "1 s"),
        (1, "1 s"),
        (1.5, "1.5 s"),
        (59.96, "1 min"),
        (60, "1 min"),
        (5_400, "1 h 30 min"),
        (86_400, "1 d"),
        (90_061, "1 d 1 h"),
        (3_599.6, "1 h"),
    ],
)
def test_durations_are_told_in_at_most_two_units(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.floats(0, MAX_SECONDS))
def test_what_is_told_can_be_read_again(seconds: float) -> None:
    again = parse_duration(format_duration(seconds))
    assert again == pytest.approx(seconds, rel=0.05, abs=0.001)


@given(st.integers(0, 9), st.integers(0, 23))
def test_two_units_are_told_exactly(days: int, hours: int) -> None:
    seconds = (days * 24 + hours) * 3_600.0
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("100/m", Rate(100, 60.0)),
        ("5/h", Rate(5, 3_600.0)),
        ("10/30s", Rate(10, 30.0)),
        ("1 / 1h30m", Rate(1, 5_400.0)),
        ("3/ms", Rate(3, 0.001)),
        (f"{MAX_RATE_COUNT}/d", Rate(MAX_RATE_COUNT, 86_400.0)),
    ],
)
def test_a_rate_is_a_count_in_a_duration(text: str, rate: Rate) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    "text",
    [
        *("", "/", "5", "5/", "/m", "0/m", "-1/m", "1.5/m", "1000001/s", "5/0s", "5/30", "5/x"),
        *("\N{ARABIC-INDIC DIGIT THREE}/m", "5/m/m", "5/-1s", "5/m\n"),
        *("1" * 200 + "/m", "5/" + "m" * 200),
    ],
)
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(InvalidDuration):
        parse_rate(text)


@given(st.text() | st.from_regex(r"[0-9]{1,8}/[0-9a-z]{0,5}", fullmatch=True))
def test_any_text_is_a_rate_or_refused(text: str) -> None:
    try:
        rate = parse_rate(text)
    except InvalidDuration:
        return
    assert 1 <= rate.count <= MAX_RATE_COUNT
    assert 0 < rate.per_seconds <= MAX_SECONDS
