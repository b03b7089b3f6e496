"""The functions that expressions may call.

Each takes JSON and gives JSON, checks what it is given before it touches it, and pays for the
size of it. None takes a function, a format or a pattern, so none can be made to run code or
to search for ever.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from math import isfinite

from shared.durations import MAX_SECONDS, parse_duration
from shared.errors import InvalidDuration
from shared.expressions.budget import Json, shape, shape_of
from shared.expressions.calls import MISSING, Call, Function
from shared.expressions.operations import NUMBERS, number
from shared.expressions.text_functions import (
    join_texts,
    split_text,
    to_lower,
    to_text,
    to_upper,
)

MAX_NUMBER_TEXT = 60
"""Characters of a text that is read as a number."""

MAX_PLACES = 20
"""Decimal places that ``round`` takes, to either side."""

_LARGE_NUMBER = 1e22
_LARGE_ROUND_STEPS = 120
"""What rounding a large number may take: hundreds of digits are written out on the way."""


def _len(call: Call) -> Json:
    return len(call.take(0, list, str, dict))


def _any(call: Call) -> Json:
    return any(_stream(call))


def _all(call: Call) -> Json:
    return all(_stream(call))


def _stream(call: Call) -> Iterator[Json]:
    """The items one by one; where they are worked out on the way, that is charged there."""
    if isinstance(call.arguments[0], Iterator):
        return call.arguments[0]
    items = call.take(0, list)
    call.budget.work(len(items) // 4, call.part)
    return iter(items)


def _sum(call: Call) -> Json:
    items = call.take(0, list)
    start = call.take(1, int, float) if len(call.arguments) > 1 else 0
    call.budget.work(len(items) // 2, call.part)
    # true counts as 1 here, so that what fits can be counted.
    odd = set(map(type, items)) - NUMBERS - {bool}
    if odd:
        raise call.fail(f"needs a list of numbers; it holds {shape_of(odd.pop())}")
    return number(sum(items, start), call.part)


def _min(call: Call) -> Json:
    return _extreme(call, min)


def _max(call: Call) -> Json:
    return _extreme(call, max)


def _extreme(call: Call, choose: Callable[[list[Json]], Json]) -> Json:
    items = call.arguments if len(call.arguments) > 1 else call.take(0, list)
    if not items:
        if call.option is MISSING:
            raise call.fail("has nothing to choose from; default=... says what then")
        return call.option
    _check_order(call, items, 1)
    return _in_order(call, lambda: choose(items))


def _sorted(call: Call) -> Json:
    items = call.take(0, list)
    reverse = call.option
    if reverse is not MISSING and type(reverse) is not bool:
        raise call.fail(f"takes reverse=true or false, not {shape(reverse)}")
    call.budget.build_places(len(items), call.part)
    _check_order(call, items, len(items).bit_length())
    return _in_order(call, lambda: sorted(items, reverse=reverse is True))


def _check_order(call: Call, items: list[Json], rounds: int) -> None:
    """Charge so many rounds of comparing, and refuse what has no order."""
    call.budget.work(len(items) // 4, call.part)
    kinds, count = set(map(type, items)), len(items) * rounds
    if kinds <= NUMBERS:
        call.budget.work(count // 8, call.part)
    elif kinds == {str}:
        call.budget.work(count // 2 + sum(map(len, items)) * rounds // 64, call.part)
    elif kinds == {list}:
        call.budget.work(call.budget.measure(items, call.part) * rounds // 32, call.part)
    else:
        shapes = ", ".join(sorted({shape(item) for item in items}))
        raise call.fail(f"needs numbers only or text only; it is given {shapes}")


def _in_order(call: Call, work: Callable[[], Json]) -> Json:
    try:
        return work()
    except TypeError:
        raise call.fail("compares lists whose items have no order") from None


def _round(call: Call) -> Json:
    value = call.take(0, int, float)
    if len(call.arguments) == 1:
        return number(round(value), call.part)
    places = call.take(1, int)
    if abs(places) > MAX_PLACES:
        raise call.fail(f"takes at most {MAX_PLACES} places")
    if abs(value) > _LARGE_NUMBER:
        call.budget.work(_LARGE_ROUND_STEPS, call.part)
    try:
        return number(round(value, places), call.part)
    except OverflowError:
        raise call.fail("gives a number that is too large") from None


def _int(call: Call) -> Json:
    return number(int(_numeric(call, int)), call.part)


def _float(call: Call) -> Json:
    value = float(_numeric(call, float))
    # Texts such as nan and inf are floats, too, but JSON has no way to write them.
    if not isfinite(value):
        raise call.fail("gives what is not a number of JSON")
    return value


def _numeric(call: Call, read: Callable[[str], int | float]) -> Json:
    """A number as it is, or read from text."""
    value = call.take(0, int, float, str, bool)
    if type(value) is bool:
        raise call.fail("needs a number or text, not true or false")
    if type(value) is not str:
        return value
    try:
        if len(value) <= MAX_NUMBER_TEXT:
            return read(value)
    except ValueError:
        pass
    whole = " whole" if read is int else ""
    raise call.fail(f"is given a text that is no{whole} number")


def _get(call: Call) -> Json:
    target, key = call.arguments[0], call.arguments[1]
    default = call.arguments[2] if len(call.arguments) > 2 else None
    if target is None:
        return default
    if type(call.take(0, dict, list)) is dict:
        return target.get(call.take(1, str), default)
    key = call.take(1, int)
    return target[key] if -len(target) <= key < len(target) else default


def _keys(call: Call) -> Json:
    target = call.take(0, dict)
    call.budget.build_places(len(target), call.part)
    return list(target)


def _values(call: Call) -> Json:
    target = call.take(0, dict)
    call.budget.build_places(len(target), call.part)
    return list(target.values())


def _now(call: Call) -> Json:
    if call.now is None:
        raise call.fail("is not known here")
    shift = 0.0
    if call.arguments:
        given = call.take(0, int, float, str)
        shift = _seconds(call, given) if type(given) is str else given
        if abs(shift) > MAX_SECONDS:
            raise call.fail("goes at most ten years away")
    try:
        time = call.now.astimezone(UTC) + timedelta(seconds=shift)
    except OverflowError:
        raise call.fail("is a time that does not exist") from None
    return time.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _duration(call: Call) -> Json:
    if len(call.arguments) == 1:
        return _seconds(call, call.take(0, int, float, str))
    return (_time(call, 1) - _time(call, 0)).total_seconds()


def _seconds(call: Call, value: Json) -> float:
    try:
        return parse_duration(value)
    except InvalidDuration as error:
        raise call.fail(f"is given a duration that {error}") from None


def _time(call: Call, place: int) -> datetime:
    """A time that is written as text, with its zone."""
    text = call.take(place, str)
    try:
        time = datetime.fromisoformat(text) if len(text) <= MAX_NUMBER_TEXT else None
    except ValueError:
        time = None
    if time is None or time.utcoffset() is None:
        raise call.fail("needs times with a zone, such as 2026-01-31T09:30:00Z")
    return time


FUNCTIONS: dict[str, Function] = {
    "all": Function(_all, 1, 1, "all(list)", streams=True),
    "any": Function(_any, 1, 1, "any(list)", streams=True),
    "duration": Function(_duration, 1, 2, 'duration("5m") or duration(start, end)', cost=50),
    "float": Function(_float, 1, 1, "float(value)", cost=10),
    "get": Function(_get, 2, 3, "get(object, key, default)"),
    "int": Function(_int, 1, 1, "int(value)", cost=10),
    "join": Function(join_texts, 1, 2, "join(list, separator)"),
    "keys": Function(_keys, 1, 1, "keys(object)"),
    "len": Function(_len, 1, 1, "len(value)"),
    "lower": Function(to_lower, 1, 1, "lower(text)"),
    "max": Function(_max, 1, 100, "max(list) or max(a, b)", option="default", cost=15),
    "min": Function(_min, 1, 100, "min(list) or min(a, b)", option="default", cost=15),
    "now": Function(_now, 0, 1, 'now() or now("5m")', cost=50),
    "round": Function(_round, 1, 2, "round(number, places)", cost=10),
    "sorted": Function(_sorted, 1, 1, "sorted(list, reverse=true)", option="reverse", cost=20),
    "split": Function(split_text, 1, 2, "split(text, separator)"),
    "str": Function(to_text, 1, 1, "str(value)", cost=25),
    "sum": Function(_sum, 1, 2, "sum(list, start)"),
    "upper": Function(to_upper, 1, 1, "upper(text)"),
    "values": Function(_values, 1, 1, "values(object)"),
}
"""All of them, by name."""
