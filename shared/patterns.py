"""Regular expressions that users write, held to a time that grows with the text only.

Python's own engine tries every way through a pattern, so that ``^(a+)+$`` and forty letters
hold a process for hours. Here patterns run on the engine of pydantic, Rust's ``regex``, which
walks a text once whatever the pattern. It knows neither look-around nor references back; a
pattern with one is refused when the definition is judged.

What still costs time there is a large counted repetition: ``[ab]{1000}`` has a thousand states
to be in at each character. :func:`states` says how many a pattern has.
"""

import re
from functools import lru_cache

from pydantic_core import SchemaError, SchemaValidator, core_schema

MAX_STATES = 10_000
"""Of one pattern: more take some 30 milliseconds to make ready, and 0.1 a character."""
_UNICODE_STATES = 100
"""Of a class such as ``\\w``, which holds characters of all scripts, each several bytes long."""
MAX_LENGTH = 2_000
"""Characters of one pattern."""
_MAX_REASON = 150

_TOKEN = re.compile(
    r"""(?P<unicode>\\[pP](?:\{[^}]*\}|.) | \\[wWdDsS])
      | \\[xuU]\{[^}]*\}        # a character by number
      | \\.                     # an escape
      | (?P<class>\[\^?\]?(?:\\.|[^\]\\])*\])
      | \{(?P<least>\d+)(?:,(?P<most>\d*))?\}
      | (?P<bracket>[()])
      | (?P<sign>[*+?|^$])
      | .""",
    re.VERBOSE | re.DOTALL,
)
"""The parts of a pattern, each in one step: nothing here can be tried in two ways."""

_WIDE = re.compile(r"\\[pPwWdDsS]")
"""A class with such a one in it."""


@lru_cache(maxsize=1024)
def why_unusable(pattern: str) -> str | None:
    """What keeps a pattern from being used, or None."""
    if len(pattern) > MAX_LENGTH:
        return f"it is longer than {MAX_LENGTH:,} characters"
    if states(pattern) > MAX_STATES:
        return "it repeats too much"
    try:
        _compiled(pattern)
    except SchemaError as error:
        # Its last line says what it is; those before show the pattern, with a pointer.
        return str(error).strip().splitlines()[-1].strip().removeprefix("error: ")[:_MAX_REASON]
    return None


def finds(pattern: str, text: str) -> bool:
    """Whether ``pattern``, which was found usable, fits somewhere in ``text``."""
    # Marked text is a subclass of `str`, which the engine does not take.
    return _compiled(pattern).isinstance_python(str(text), strict=True)


@lru_cache(maxsize=1024)
def states(pattern: str) -> int:
    """About how many states a pattern has once its repetitions are written out."""
    groups: list[int] = []
    total = last = 0
    for token in _TOKEN.finditer(pattern):
        most = token["least"] and (token["most"] or token["least"])
        if most:
            # Far more than any limit is as good as the number itself.
            grown = last * min(int(most[:9]), 10**9)
            total, last = total - last + grown, grown
        elif token["bracket"] == "(":
            groups.append(total)
            total = last = 0
        elif token["bracket"] == ")" and groups:
            last = total
            total += groups.pop()
        elif token["sign"] is None:
            is_wide = token["unicode"] or _WIDE.search(token["class"] or "")
            last = _UNICODE_STATES if is_wide else 1
            total += last
    return total + sum(groups)


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> SchemaValidator:
    return SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))
