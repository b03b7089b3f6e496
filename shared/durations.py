"""Durations as people write them: ``90``, ``"90s"``, ``"1h30m"``, ``"250ms"``, ``"1.5h"``.

Inside they are seconds, as floats. A unit that is missing is seconds; units may be put together
from the largest to the smallest. Months and years are no units, because they have no fixed
length. A rate is a number of times in a duration: ``"100/m"``, ``"10/30s"``.
"""

import math
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

from shared.errors import InvalidDuration

MAX_SECONDS = 10 * 366 * 86_400
"""Ten years: longer is a mistake of units."""
MAX_RATE_COUNT = 1_000_000
"""Times that a rate may name: more than this is no limit any more."""

_SECONDS = {
    "w": 604_800.0,
    "d": 86_400.0,
    "h": 3_600.0,
    "min": 60.0,
    "m": 60.0,
    "s": 1.0,
    "ms": 0.001,
}
"""The units, the largest first; ``min`` is there so that what we print can be read again."""
_NUMBER = r"[0-9]{1,12}(?:\.[0-9]{1,9})?"
_UNIT = "ms|min|[wdhms]"
_PART = re.compile(rf"({_NUMBER}) *([^0-9. ]+) *")
_PLAIN = re.compile(_NUMBER)
_RATE = re.compile(r"([0-9]{1,12}) */ *(\S.*)")
_MAX_TEXT = 100

_FORM = 'must be a number of seconds, or text such as "30s", "5m", "1h30m" or "2d"'


def parse_duration(value: object) -> float:
    """Seconds of ``value``: a number, or text.

    Raises:
        InvalidDuration: it is neither, negative, or longer than ten years. The message says
            which, to stand behind the name of a field.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise InvalidDuration(_FORM)
    seconds = _read_text(value.strip(" ")) if isinstance(value, str) else value
    if seconds < 0:
        raise InvalidDuration("must not be negative")
    # Compared before it is made a float: an integer may be too large for one. NaN ends here, too.
    if not seconds <= MAX_SECONDS:
        raise InvalidDuration(_FORM if seconds != seconds else "must not be longer than ten years")
    return float(seconds)


def _read_text(text: str) -> float:
    if len(text) > _MAX_TEXT:
        raise InvalidDuration(_FORM)
    if _PLAIN.fullmatch(text):
        return float(text)
    if text.startswith("-") and _PLAIN.match(text, 1):
        raise InvalidDuration("must not be negative")
    parts: list[tuple[float, str]] = []
    end = 0
    while end < len(text):
        part = _PART.match(text, end)
        if part is None:
            raise InvalidDuration(_FORM)
        parts.append((float(part[1]), part[2]))
        end = part.end()
    return _add_up(parts)


def _add_up(parts: list[tuple[float, str]]) -> float:
    if not parts or not all(unit in _SECONDS for _, unit in parts):
        # The unit is not repeated: it may be anything that a client sends.
        raise InvalidDuration(f"{_FORM}: the units are w, d, h, m, s and ms")
    sizes = [_SECONDS[unit] for _, unit in parts]
    if any(size <= following for size, following in pairwise(sizes)):
        raise InvalidDuration("must name each unit once, the largest first")
    return math.fsum(number * size for (number, _), size in zip(parts, sizes, strict=True))


def format_duration(seconds: float) -> str:
    """``seconds`` for a sentence, at most two units of it: ``1 h 30 min``, ``4 s``, ``250 ms``."""
    # Just under a unit, three digits would be rounded up to what reads as 1e+03 ms, or 60 s.
    if seconds < 0.999:
        return f"{seconds * 1000:.3g} ms" if seconds >= 0.001 else "0 s"
    if seconds < 59.95:
        return f"{seconds:.3g} s"
    names = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
    rest, told = round(seconds), []
    for name, size in names:
        count, rest = divmod(rest, size)
        if count:
            told.append(f"{count} {name}")
    return " ".join(told[:2])


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0, "maximum": MAX_SECONDS},
                {
                    "type": "string",
                    "maxLength": _MAX_TEXT,
                    "pattern": rf"^ *{_NUMBER} *(?:(?:{_UNIT}) *(?:{_NUMBER} *(?:{_UNIT}) *)*)?$",
                    "examples": ["30s", "5m", "1h30m"],
                },
            ],
            "description": "Seconds, or text such as 30s, 5m, 1h30m or 2d.",
        }
    ),
]
"""A field of a model that takes a duration and holds seconds."""


@dataclass(frozen=True, slots=True)
class Rate:
    """At most so many times in so long a time."""

    count: int
    per_seconds: float


def parse_rate(text: str) -> Rate:
    """The rate of ``"100/m"``, ``"5/h"`` or ``"10/30s"``.

    Raises:
        InvalidDuration: it is no rate; the message says why, to stand behind a field's name.
    """
    form = 'must be a rate such as "100/m", "5/h" or "10/30s"'
    match = _RATE.fullmatch(text.strip(" ")) if len(text) <= _MAX_TEXT else None
    if match is None:
        raise InvalidDuration(form)
    count, period = int(match[1]), match[2]
    if not 1 <= count <= MAX_RATE_COUNT:
        raise InvalidDuration(f"must allow from 1 to {MAX_RATE_COUNT} times")
    seconds = _SECONDS.get(period)
    if seconds is None:
        # Seconds are not assumed here: "10/5" reads like a fraction.
        if _PLAIN.fullmatch(period):
            raise InvalidDuration(form)
        seconds = parse_duration(period)
    if seconds <= 0:
        raise InvalidDuration(form)
    return Rate(count, seconds)


def _checked_rate(text: str) -> str:
    parse_rate(text)
    return text


RateText = Annotated[str, AfterValidator(_checked_rate)]
"""A rate as it is written: ``"100/m"``."""
