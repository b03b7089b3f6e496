"""Durations as people write them: ``90``, ``"90s"``, ``"1h30m"``, ``"250ms"``, ``"1.5h"``.

Inside they are seconds, as floats. A unit that is missing is seconds; units may be put together
from the largest to the smallest.
"""

import math
import re
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

MAX_SECONDS = 10 * 366 * 86_400
"""Ten years: longer is a mistake of units."""

_UNITS = {"w": 604_800.0, "d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PART = r"(?:[0-9]{1,12}(?:\.[0-9]{1,9})?)"
_PATTERN = rf"^\s*(?:{_PART}\s*(?:ms|[wdhms])\s*)+$"
_TEXT = re.compile(_PATTERN, re.ASCII)
_PARTS = re.compile(rf"({_PART})\s*(ms|[wdhms])", re.ASCII)
_NUMBER = re.compile(rf"^\s*{_PART}\s*$", re.ASCII)
_MAX_TEXT = 100

_FORM = 'a number of seconds, or text such as "30s", "5m", "1h30m" or "2d"'


def parse_duration(value: object) -> float:
    """Seconds of ``value``: a number, or text.

    Raises:
        ValueError: it is neither, negative, or longer than ten years. The message says which.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"a duration is {_FORM}")
    seconds = _read_text(value) if isinstance(value, str) else value
    # Compared before it is made a float: an integer may be too large for one.
    if not 0 <= seconds <= MAX_SECONDS:
        limit = "must not be negative" if seconds < 0 else "must not be longer than ten years"
        raise ValueError(f"a duration {limit}")
    return float(seconds)


def _read_text(text: str) -> float:
    if len(text) > _MAX_TEXT:
        raise ValueError(f"a duration is {_FORM}")
    if _NUMBER.match(text):
        return float(text)
    if not _TEXT.match(text):
        raise ValueError(f"a duration is {_FORM}")
    parts = [(float(number), unit) for number, unit in _PARTS.findall(text)]
    order = [list(_UNITS).index(unit) for _, unit in parts]
    if sorted(set(order)) != order:
        raise ValueError("a duration names each unit once, the largest first")
    return math.fsum(number * _UNITS[unit] for number, unit in parts)


def format_duration(seconds: float) -> str:
    """``seconds`` for a sentence: ``1 h 30 min``, ``4 s``, ``0.25 s``."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    names = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
    rest, told = round(seconds), []
    for name, size in names:
        count, rest = divmod(rest, size)
        if count:
            told.append(f"{count} {name}")
    return " ".join(told[:2])


def _validate(value: Any) -> float:
    return parse_duration(value)


Duration = Annotated[
    float,
    BeforeValidator(_validate),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0, "maximum": MAX_SECONDS},
                {"type": "string", "pattern": _PATTERN},
            ],
            "description": "Seconds, or text such as 30s, 5m, 1h30m or 2d.",
        }
    ),
]
"""A field of a model that takes a duration and holds seconds."""
