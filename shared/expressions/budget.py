"""What one evaluation may cost, and how the cost of a value is told.

An expression without a comprehension runs each of its parts at most once, and how many parts
it has is limited when it is read. So only what repeats or grows is charged here: each turn of
a comprehension with the weight of its body, and each operation on text, lists and objects
with their size. Size is charged *before* anything is built. A step stands for roughly a tenth
of a microsecond; nothing is measured by a clock, so the same expression on the same values
always ends the same way.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from shared.errors import ExpressionError

Json: TypeAlias = Any
"""JSON as Python's own types: dict, list, str, int, float, bool and None."""

MAX_STEPS = 200_000
"""Work of one evaluation, or of one template with all its expressions."""

MAX_SIZE = 10_000_000
"""What one evaluation may build, in characters; a place in a list or object counts as 8."""

PLACE_SIZE = 8
"""What one place in a list or object counts for in :data:`MAX_SIZE`."""

CHARACTERS_A_STEP = 64
"""How much text is copied or compared in the time of one step, on the safe side."""

MIN_INTEGER = -(2**63)
MAX_INTEGER = 2**64 - 1
"""The integers that documents may hold: those of 64 bits, with a sign or without."""

_FIXED = frozenset((int, float, bool, type(None)))
_MANY = 30
"""Places from which on a look at all types at once pays."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of an expression, as its errors speak of it."""

    offset: int
    text: str
    """The part as it was written, shortened: a path, mostly."""

    def fail(self, message: str) -> ExpressionError:
        """The error to raise for this part."""
        return ExpressionError(message, self.offset)


class Budget:
    """What is left for one evaluation. Not shared between evaluations."""

    __slots__ = ("size", "steps")

    def __init__(self) -> None:
        self.steps = MAX_STEPS
        self.size = MAX_SIZE

    def work(self, steps: int, part: Part) -> None:
        """Charge time.

        Raises:
            ExpressionError: more than is left.
        """
        self.steps -= steps
        if self.steps < 0:
            raise part.fail(f"{part.text} is too much work: the limit is {MAX_STEPS} steps")

    def build_text(self, characters: int, part: Part) -> None:
        """Charge a text that is about to be made.

        Raises:
            ExpressionError: more than is left.
        """
        self.work(characters // CHARACTERS_A_STEP + 1, part)
        self._hold(characters, part)

    def build_places(self, places: int, part: Part) -> None:
        """Charge the places of a list or object that is about to be made.

        Raises:
            ExpressionError: more than is left.
        """
        self.work(places // 4 + 1, part)
        self._hold(places * PLACE_SIZE, part)

    def result(self, value: Json, part: Part) -> None:
        """Charge a value that is handed out, every place of it counted where it stands.

        The same list put a thousand times into another is small in memory and huge once it
        is written down, so references count as what they refer to.

        Raises:
            ExpressionError: more than is left.
        """
        if type(value) is str:
            self._hold(len(value), part)
        elif type(value) is list or type(value) is dict:
            self._hold(self.measure(value, part), part)

    def measure(self, value: Json, part: Part) -> int:
        """The size of a value with all that is in it; looking at it is charged, too.

        Raises:
            ExpressionError: looking at it all is more work than is left.
        """
        kind = type(value)
        if kind is not list and kind is not dict:
            return PLACE_SIZE + (len(value) if kind is str else 0)
        size = PLACE_SIZE
        waiting = [value]
        while waiting:
            current = waiting.pop()
            self.work(len(current) // 4 + 2, part)
            size += PLACE_SIZE * len(current)
            inner: Iterable[Json] = current
            if type(current) is dict:
                size += sum(map(len, current))
                inner = current.values()
            if len(current) > _MANY and _FIXED.issuperset(map(type, inner)):
                continue
            self.work(len(current), part)
            for each in inner:
                kind = type(each)
                if kind is str:
                    size += len(each)
                elif kind is list or kind is dict:
                    waiting.append(each)
        self.work(size // (4 * CHARACTERS_A_STEP), part)
        return size

    def _hold(self, size: int, part: Part) -> None:
        self.size -= size
        if self.size < 0:
            raise part.fail(f"{part.text} is too large: the limit is {MAX_SIZE} characters")


SHAPES: dict[type, str] = {
    dict: "object",
    list: "list",
    str: "text",
    int: "number",
    float: "number",
    bool: "true or false",
    type(None): "null",
}


def shape(value: Json) -> str:
    """What kind of JSON a value is, in the word that messages use."""
    return shape_of(type(value))


def shape_of(kind: type) -> str:
    """What kind of JSON the values of a type are."""
    return SHAPES.get(kind, "something that is not JSON")
