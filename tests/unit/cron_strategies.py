"""Random schedules and moments, and the nights in which clocks change."""

from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from hypothesis import strategies as st

from shared.cron import (
    Cron,
    Interval,
    Schedule,
)

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


def any_field(highest: int, lowest: int = 0) -> st.SearchStrategy[Field]:
    everything = frozenset(range(lowest, highest + 1))
    values = st.frozensets(st.sampled_from(sorted(everything)), min_size=1, max_size=4)
    steps = st.integers(1, highest).map(
        lambda step: Field(f"*/{step}", frozenset(range(lowest, highest + 1, step)))
    )
    lists = values.map(lambda chosen: Field(",".join(map(str, sorted(chosen))), chosen))
    return st.just(Field("*", everything)) | steps | lists


MOMENTS = st.datetimes(
    datetime(1975, 1, 1),  # noqa: DTZ001 - hypothesis wants its bounds without a zone
    datetime(2200, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)
ZONES = st.sampled_from(sorted({zone for zone, _ in CHANGES} | {"UTC", "Asia/Tokyo"}))
CRONS = st.builds(
    lambda fields, zone: Cron(" ".join(field.text for field in fields), zone),
    st.tuples(any_field(59), any_field(23), any_field(28, 1), any_field(12, 1), any_field(6)),
    ZONES,
)
INTERVALS = st.builds(Interval, st.floats(1, 10**8), MOMENTS)
SCHEDULES: st.SearchStrategy[Schedule] = CRONS | INTERVALS
