"""One call of a function: what it is given, and how a function is told to the compiler."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from shared.expressions.budget import Budget, Json, Part, shape, shape_of

MISSING = object()
"""An option that was not given; null may be given."""


@dataclass(slots=True, eq=False)
class Call:
    """One call of a function, with all that it may use."""

    arguments: list[Json]
    option: Json
    """What was given under the function's keyword, or :data:`MISSING`."""
    budget: Budget
    part: Part
    now: datetime | None

    def take(self, place: int, *kinds: type) -> Json:
        """An argument that must have one of these types.

        Raises:
            ExpressionError: it has another.
        """
        value = self.arguments[place]
        if type(value) in kinds:
            return value
        words = " or ".join(dict.fromkeys(shape_of(kind) for kind in kinds))
        raise self.fail(f"needs {words}, not {shape(value)}")

    def fail(self, message: str) -> Exception:
        """The error to raise for this call."""
        return self.part.fail(f"{self.part.text} {message}")


Body: TypeAlias = Callable[[Call], Json]


@dataclass(frozen=True, slots=True)
class Function:
    """A function and how it may be called."""

    body: Body
    least: int
    most: int
    form: str
    """How a call is written, for messages."""
    option: str | None = None
    """The one argument that is given by its name."""
    cost: int = 5
    """Steps that a call takes beside what depends on sizes; counted in comprehensions."""
    streams: bool = False
    """Whether it may stop early, so that the items are worked out one by one."""


_FRACTION_STEPS = 8
"""What writing a fraction down may take beside its place; other values take far less."""


def text_of(value: Json, budget: Budget, part: Part) -> str:
    """A value as it stands in a text: texts as they are, everything else as JSON.

    Raises:
        ExpressionError: that would be too long, or is nested too deeply.
    """
    if type(value) is str:
        return value
    size = 0
    if type(value) is dict or type(value) is list:
        size = budget.measure(value, part)
        budget.work(size // 12, part)
        budget.work(_FRACTION_STEPS * _count_fractions(value), part)
        budget.build_text(size, part)
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except RecursionError:
        raise part.fail(f"{part.text} is nested too deeply") from None
    except (TypeError, ValueError):
        raise part.fail(f"{part.text} holds what JSON does not have") from None
    # Long fractions and characters that are escaped take more than was charged for them.
    budget.build_text(max(len(text) - size, 0), part)
    return text


def _count_fractions(value: Json) -> int:
    """How many fractions a value holds. Its size was charged, which pays for this look, too."""
    count, waiting = 0, [value]
    while waiting:
        current = waiting.pop()
        for each in current.values() if type(current) is dict else current:
            kind = type(each)
            if kind is float:
                count += 1
            elif kind is list or kind is dict:
                waiting.append(each)
    return count
