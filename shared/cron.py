"""When a schedule fires, and whether the leader starts a run for it now.

A schedule is a cron expression in a time zone, or an interval. Its *ticks* are instants in UTC,
and nothing but the schedule and a time decides them: whoever asks gets the same ticks, so that
the tick is the idempotency key of the start (:func:`start_key`), and a leader that comes back
after its successor has taken over cannot start anything twice.

What a change of the clocks does to a cron expression is what Debian's cron does:

* A fixed time (neither minute nor hour begins with ``*``) fires once a day: where the clocks
  skip it, as soon as they have changed; where they show it twice, the first time.
* A repeated one (``*/15 * * * *``, ``30 * * * *``) follows the clock on the wall: it fires
  whenever the clock shows a time that fits, never at times that are skipped, and again at
  times that come again.

``cronsim`` walks the wall clock here, and never sees a time zone: given one, its version 2.8
leaves ticks out where clocks change by half an hour (Lord Howe Island) and, asked within the
second pass of a repeated hour, answers with a tick of the first. This module reads no clock;
the rules of the time zones are data, read once from ``tzdata``.
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Literal
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from shared.durations import parse_duration
from shared.errors import InvalidDuration, InvalidSchedule

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
"""Where intervals are counted from, unless they have a start of their own."""
MIN_INTERVAL_SECONDS = 1.0
"""The leader looks about once a second: it could not keep a shorter one."""
ON_TIME_SECONDS = 60.0
"""A start this late is still on time: a new leader takes a few seconds to take over."""
SCHEDULE_KEYS = "schedule:"
"""What the idempotency keys of schedules begin with, and no one else's."""
_MAX_TEXT = 200

_FIELD = re.compile(r"[0-9A-Z*/,#-]+", re.IGNORECASE | re.ASCII)
_ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}

OverlapPolicy = Literal["skip", "queue", "allow"]
"""What becomes of a start that is due while the run before it still goes on: it is left out,
it waits until that run is over (one start waits, the others are left out), or it goes ahead."""


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression of five fields, read on the clocks of a time zone."""

    expression: str
    time_zone: str

    @property
    def is_fixed(self) -> bool:
        """Whether it names times of the day, rather than a repetition within it."""
        minute, hour = self.expression.split()[:2]
        return not (minute.startswith("*") or hour.startswith("*"))


@dataclass(frozen=True, slots=True)
class Interval:
    """Every so many seconds, counted from ``start``, which is the first tick."""

    every_seconds: float
    start: datetime = EPOCH


Schedule = Cron | Interval


def parse_schedule(spec: Mapping[str, object]) -> Schedule:
    """The schedule of ``{"cron", "time_zone"}`` or ``{"every", "start"}``.

    ``time_zone`` is a name of the IANA data base, by default UTC; ``every`` is a duration,
    ``start`` an ISO 8601 time with its offset.

    Raises:
        InvalidSchedule: it is neither, or never fires; the error names the field.
    """
    fields = {"cron", "time_zone"} if "cron" in spec else {"every", "start"}
    if "cron" not in spec and "every" not in spec:
        raise InvalidSchedule("", 'a schedule needs "cron" or "every"')
    for field in spec:
        if field not in fields:
            known = field in ("cron", "time_zone", "every", "start")
            beside = f'cannot stand beside "{"cron" if "cron" in spec else "every"}"'
            raise InvalidSchedule(_shown(field), beside if known else "is no field of a schedule")
    if "cron" in spec:
        return _read_cron(spec["cron"], spec.get("time_zone", "UTC"))
    start = spec.get("start")
    return Interval(_read_every(spec["every"]), EPOCH if start is None else _read_start(start))


def _shown(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text[:60])


def _read_cron(expression: object, time_zone: object) -> Cron:
    if not isinstance(expression, str) or len(expression) > _MAX_TEXT:
        raise InvalidSchedule("cron", 'must be text such as "30 2 * * MON-FRI"')
    fields = _ALIASES.get(expression.strip().lower(), expression).upper().split()
    # Six fields are seconds to cronsim; nobody who writes cron expects that of the first one.
    if len(fields) != 5:
        raise InvalidSchedule(
            "cron", "must have five fields: minute, hour, day of the month, month, day of the week"
        )
    if not all(_FIELD.fullmatch(field) for field in fields):
        raise InvalidSchedule("cron", "holds characters that no cron expression has")
    cron = Cron(" ".join(fields), _read_time_zone(time_zone))
    try:
        # A leap day that must be a Sunday comes within 40 years; cronsim looks 50 years ahead.
        fires = next(_walls(cron, EPOCH.replace(tzinfo=None)), None) is not None
    except CronSimError as error:
        raise InvalidSchedule("cron", f"cannot be read: {str(error).lower()}") from error
    if not fires:
        raise InvalidSchedule("cron", "never fires: there is no such day")
    return cron


def _read_time_zone(name: object) -> str:
    if not isinstance(name, str):
        raise InvalidSchedule("time_zone", 'must be text such as "Europe/Berlin"')
    if name not in _time_zones():
        nearest = _nearest_time_zone(name) if len(name) <= 60 else None
        raise InvalidSchedule(
            "time_zone",
            f'names no time zone: "{_shown(name)}"',
            f'did you mean "{nearest}"?' if nearest else None,
        )
    return name


@cache
def _time_zones() -> frozenset[str]:
    # "localtime" is whatever the machine is set to: workers need not agree on it.
    return frozenset(available_timezones() - {"localtime"})


def _nearest_time_zone(name: str) -> str | None:
    """The zone that looks like ``name``, as a whole or in its last part: ``berlin``."""
    wanted = name.strip().casefold().replace(" ", "_")
    folded: dict[str, str] = {}
    for zone in sorted(_time_zones()):
        folded[zone.casefold()] = zone
        folded.setdefault(zone.rpartition("/")[2].casefold(), zone)
    close = difflib.get_close_matches(wanted, folded, n=1, cutoff=0.6)
    return folded[close[0]] if close else None


def _read_every(value: object) -> float:
    try:
        seconds = parse_duration(value)
    except InvalidDuration as error:
        raise InvalidSchedule("every", str(error)) from error
    if seconds < MIN_INTERVAL_SECONDS:
        raise InvalidSchedule("every", f"must be at least {MIN_INTERVAL_SECONDS:g} second")
    return seconds


def _read_start(value: object) -> datetime:
    form = 'must be a time with its offset, such as "2026-01-02T03:04:05Z"'
    if not isinstance(value, str) or len(value) > _MAX_TEXT or not value.isascii():
        raise InvalidSchedule("start", form)
    try:
        start = datetime.fromisoformat(value)
        if start.tzinfo is None:
            raise InvalidSchedule("start", form)
        return start.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidSchedule("start", form) from error


def start_key(schedule_id: str, tick: datetime) -> str:
    """The idempotency key of the run that ``tick`` starts."""
    return f"{SCHEDULE_KEYS}{schedule_id}:{_utc(tick).isoformat().replace('+00:00', 'Z')}"


def next_tick(schedule: Schedule, after: datetime) -> datetime | None:
    """The first tick later than ``after``, in UTC; None where there is none.

    ``after`` knows its offset. The same for every ``after`` up to the tick itself.
    """
    try:
        if isinstance(schedule, Interval):
            return _next_of_interval(schedule, _utc(after))
        return _next_of_cron(schedule, _utc(after))
    except OverflowError:
        # It would come after the year 9999.
        return None


def ticks_between(
    schedule: Schedule, after: datetime, until: datetime, limit: int
) -> list[datetime]:
    """The ticks later than ``after`` and not later than ``until``, the first ``limit`` of them."""
    ticks: list[datetime] = []
    tick = next_tick(schedule, after)
    while tick is not None and tick <= until and len(ticks) < limit:
        ticks.append(tick)
        tick = next_tick(schedule, tick)
    return ticks


def newest_tick(schedule: Schedule, after: datetime, until: datetime) -> datetime | None:
    """The last tick later than ``after`` and not later than ``until``; None where there is none.

    However many there are in between, it takes a few dozen looks: each halves the time that the
    tick can lie in.
    """
    newest = next_tick(schedule, after)
    if newest is None or newest > until:
        return None
    end = _utc(until)
    while True:
        following = next_tick(schedule, newest)
        if following is None or following > until:
            return newest
        middle = newest + (end - newest) / 2
        tick = next_tick(schedule, middle)
        if tick is None or tick > until:
            # No tick lies between the middle and the end, so the following one does before.
            end, newest = middle, following
        else:
            newest = tick


def _utc(moment: datetime) -> datetime:
    assert moment.tzinfo is not None, "a schedule needs a time that knows its offset"
    return moment.astimezone(UTC)


def _next_of_interval(interval: Interval, after: datetime) -> datetime:
    if after < interval.start:
        return interval.start
    every = timedelta(seconds=interval.every_seconds)
    return interval.start + ((after - interval.start) // every + 1) * every


def _next_of_cron(cron: Cron, after: datetime) -> datetime | None:
    zone = ZoneInfo(cron.time_zone)
    local = after.astimezone(zone)
    wall = local.replace(tzinfo=None, microsecond=0, fold=0)
    if not cron.is_fixed and not local.fold:
        # In the first pass of a repeated hour: what lies behind on the wall comes once more.
        # It is the next tick unless one comes before the pass is over.
        repeated = local.utcoffset() != local.replace(fold=1).utcoffset()
        if repeated:
            return _next_in_first_pass(cron, zone, after, wall)
    return _first_instant(cron, zone, after, wall)


def _next_in_first_pass(
    cron: Cron, zone: ZoneInfo, after: datetime, wall: datetime
) -> datetime | None:
    ahead = _first_instant(cron, zone, after, wall)
    first, second = (wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    for behind in _walls(cron, wall - (second - first)):
        if behind > wall:
            break
        again = behind.replace(tzinfo=zone, fold=1).astimezone(UTC)
        if again > after:
            return again if ahead is None else min(again, ahead)
    return ahead


def _first_instant(cron: Cron, zone: ZoneInfo, after: datetime, wall: datetime) -> datetime | None:
    """The first instant later than ``after`` at which the clock shows a tick beyond ``wall``."""
    for showing in _walls(cron, wall):
        for instant in _instants(cron, zone, showing):
            if instant > after:
                return instant
    return None


def _walls(cron: Cron, wall: datetime) -> Iterator[datetime]:
    """The times later than ``wall`` that fit, as a clock on the wall shows them."""
    return iter(CronSim(cron.expression, wall))


def _instants(cron: Cron, zone: ZoneInfo, wall: datetime) -> list[datetime]:
    """When the expression fires for what the clocks of ``zone`` show as ``wall``."""
    shown = [wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)]
    real = [moment for moment in shown if moment.astimezone(zone).replace(tzinfo=None) == wall]
    if not cron.is_fixed:
        return sorted(set(real))
    while not real:
        # Skipped by the clocks: the first minute that they do show. Changes are whole minutes.
        wall += timedelta(minutes=1)
        moment = wall.replace(tzinfo=zone).astimezone(UTC)
        real = [moment] if moment.astimezone(zone).replace(tzinfo=None) == wall else []
    return real[:1]


@dataclass(frozen=True, slots=True)
class StartDecision:
    """What the leader does about a schedule, and what it keeps of it.

    It is carried out in one transaction: the run of ``start`` under its :func:`start_key`, and
    ``UPDATE schedule ... WHERE last_tick = :last_tick_before``.
    """

    start: datetime | None
    """The tick to start a run for, now."""
    last_tick: datetime
    """Up to here every tick has been dealt with."""
    waiting: datetime | None = None
    """The tick whose start waits until the run before it is over."""
    left_out: Literal["paused", "late", "running"] | None = None
    """Why the newest tick that was due gets no start; None where it gets one, or none was due."""


def decide_starts(
    schedule: Schedule,
    *,
    last_tick: datetime,
    now: datetime,
    overlap: OverlapPolicy,
    is_running: bool,
    paused: bool,
    catch_up: bool,
    waiting: datetime | None = None,
) -> StartDecision:
    """Whether a run is to be started at ``now``, and for which tick.

    ``last_tick`` and ``waiting`` are those of the decision before, at first the time of the
    schedule's making and none. ``is_running`` tells whether a run of this schedule goes on.

    A look starts at most one run. Of several ticks that are due, because nobody led for a while,
    only the newest counts: what was missed is made up for at most once, and with ``catch_up``
    off not at all. What comes due during a pause is never made up for; a start that waited
    when the pause began still waits after it.
    """
    due = newest_tick(schedule, last_tick, now)
    dealt_with = last_tick if due is None else due
    held = None if overlap == "skip" else waiting
    if paused:
        return StartDecision(None, dealt_with, held, "paused" if due else None)
    left_out: Literal["late", "running"] | None = None
    if due and not catch_up and (now - due).total_seconds() > ON_TIME_SECONDS:
        due, left_out = None, "late"
    wanted = held or due
    if wanted is None:
        return StartDecision(None, dealt_with, None, left_out)
    if is_running and overlap != "allow":
        if overlap == "queue":
            return StartDecision(None, dealt_with, wanted, "running" if held and due else left_out)
        return StartDecision(None, dealt_with, None, "running")
    # A tick that comes due while another one has waited takes its place in the queue.
    return StartDecision(wanted, dealt_with, due if held else None, left_out)
