"""What the signs mean for JSON values: ``+ - * / // %``, comparisons, ``in``, brackets.

Where an operation has a value here, it is the one that Python gives. What Python would answer
and a flow's author could hardly mean is an error instead: arithmetic with true and false,
``%`` on text, comparing the order of objects.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from math import frexp
from typing import TypeAlias

from shared.expressions.budget import MAX_INTEGER, MIN_INTEGER, Budget, Json, Part, shape

Binary: TypeAlias = Callable[[Json, Json, Budget, Part], Json]

NUMBERS = frozenset((int, float))
"""bool is not among them: true is no number here."""

_SHOWN_KEYS = 10
_SHOWN_KEY_LENGTH = 40
_SHORT_HAYSTACK = 30_000

_BITS_A_STEP = 64
"""Bits of a remainder that are worked out in the time of one step, on the safe side."""


def number(value: Json, part: Part) -> Json:
    """A number that was worked out, if JSON has it.

    Raises:
        ExpressionError: an integer beyond 64 bits, or a float without a finite value.
    """
    if type(value) is int:
        if MIN_INTEGER <= value <= MAX_INTEGER:
            return value
        raise part.fail(f"{part.text} gives a number beyond 64 bits")
    if value - value == 0.0:
        return value
    raise part.fail(f"{part.text} gives a number that is too large")


def add(left: Json, right: Json, budget: Budget, part: Part) -> Json:
    """``+`` of numbers, texts or lists."""
    if type(left) in NUMBERS and type(right) in NUMBERS:
        return number(left + right, part)
    if type(left) is str and type(right) is str:
        budget.build_text(len(left) + len(right), part)
        return left + right
    if type(left) is list and type(right) is list:
        budget.build_places(len(left) + len(right), part)
        return left + right
    raise _mismatch("+", left, right, part)


def multiply(left: Json, right: Json, budget: Budget, part: Part) -> Json:
    """``*`` of numbers, or of a text or list and how often it is repeated."""
    if type(left) in NUMBERS and type(right) in NUMBERS:
        return number(left * right, part)
    if type(left) is int:
        left, right = right, left
    if type(right) is int and type(left) is str:
        budget.build_text(len(left) * max(right, 0), part)
        return left * right
    if type(right) is int and type(left) is list:
        budget.build_places(len(left) * max(right, 0), part)
        return left * right
    raise _mismatch("*", left, right, part)


def _arithmetic(
    sign: str, apply: Callable[[Json, Json], Json], has_remainder: bool = False
) -> Binary:
    def calculate(left: Json, right: Json, budget: Budget, part: Part) -> Json:
        if type(left) in NUMBERS and type(right) in NUMBERS:
            try:
                if has_remainder and not type(left) is type(right) is int:
                    budget.work(_remainder_steps(left, right), part)
                return number(apply(left, right), part)
            except ZeroDivisionError:
                raise part.fail(f"{part.text} divides by zero") from None
        raise _mismatch(sign, left, right, part)

    return calculate


def _remainder_steps(left: float, right: float) -> int:
    """Steps for the remainder of two fractions: far apart, it is worked out bit by bit."""
    return max(frexp(left)[1] - frexp(right)[1], 0) // _BITS_A_STEP + 1


ARITHMETIC: dict[str, Binary] = {
    "Add": add,
    "Sub": _arithmetic("-", operator.sub),
    "Mult": multiply,
    "Div": _arithmetic("/", operator.truediv),
    "FloorDiv": _arithmetic("//", operator.floordiv, has_remainder=True),
    "Mod": _arithmetic("%", operator.mod, has_remainder=True),
}


def negative(value: Json, part: Part) -> Json:
    """Unary minus."""
    if type(value) in NUMBERS:
        return number(-value, part)
    raise part.fail(f"{part.text}: - needs a number, not {shape(value)}")


def equal(left: Json, right: Json, budget: Budget, part: Part) -> bool:
    """``==``, deep. At most as much is looked at as the left side holds, which is charged."""
    kind = type(left)
    if kind is list or kind is dict:
        if type(right) is not kind or len(left) != len(right):
            return False
        budget.work(budget.measure(left, part) // 16, part)
    elif kind is str and type(right) is str:
        budget.work(len(left) // 64, part)
    return bool(left == right)


def unequal(left: Json, right: Json, budget: Budget, part: Part) -> bool:
    """``!=``, deep."""
    return not equal(left, right, budget, part)


def contains(left: Json, right: Json, budget: Budget, part: Part) -> bool:
    """``in``: a key of an object, an item of a list, a part of a text."""
    kind = type(right)
    if kind is dict and type(left) is str:
        return left in right
    if kind is list:
        each = 1
        if type(left) is str:
            each += len(left) // 64
        elif type(left) is list or type(left) is dict:
            each += budget.measure(left, part) // 16
        budget.work(each * len(right), part)
        return left in right
    if kind is str and type(left) is str:
        budget.work(search_cost(left, right), part)
        return left in right
    if kind is dict or kind is str:
        raise part.fail(f"{part.text}: only text can be in {_a(right)}, not {shape(left)}")
    raise part.fail(f"{part.text}: nothing can be in {_a(right)}")


def lacks(left: Json, right: Json, budget: Budget, part: Part) -> bool:
    """``not in``."""
    return not contains(left, right, budget, part)


def search_cost(needle: str, haystack: str) -> int:
    """Steps that looking for a text in another may take: in short ones quadratic."""
    if len(haystack) < _SHORT_HAYSTACK:
        return len(haystack) * min(len(needle), 100) // 64 + 1
    return len(haystack) // 16


def _ordering(sign: str, apply: Callable[[Json, Json], bool]) -> Binary:
    def compare(left: Json, right: Json, budget: Budget, part: Part) -> bool:
        if type(left) in NUMBERS and type(right) in NUMBERS:
            return apply(left, right)
        if type(left) is str and type(right) is str:
            budget.work(min(len(left), len(right)) // 64, part)
            return apply(left, right)
        if type(left) is list and type(right) is list:
            return ordered_lists(apply, left, right, budget, part)
        raise _mismatch(sign, left, right, part)

    return compare


def ordered_lists(
    apply: Callable[[Json, Json], bool], left: Json, right: Json, budget: Budget, part: Part
) -> bool:
    """The order of two lists, which their first unequal items decide.

    Raises:
        ExpressionError: those items have no order.
    """
    budget.work(budget.measure(left, part) // 16, part)
    try:
        return apply(left, right)
    except TypeError:
        raise part.fail(f"{part.text}: the items of these lists have no order") from None


COMPARISONS: dict[str, Binary] = {
    "Eq": equal,
    "NotEq": unequal,
    "In": contains,
    "NotIn": lacks,
    "Lt": _ordering("<", operator.lt),
    "LtE": _ordering("<=", operator.le),
    "Gt": _ordering(">", operator.gt),
    "GtE": _ordering(">=", operator.ge),
}


@dataclass(frozen=True, slots=True)
class Access(Part):
    """A part of an expression that reads something of a value."""

    path: str
    """The value, as it was written."""
    key: str
    """The key or place, as it was written."""
    tells_keys: bool
    """Whether messages may list the keys that there are. Not where secrets are about: they
    may have been made keys."""


def pick(target: Json, key: Json, part: Access) -> Json:
    """``target[key]`` of an object, a list or a text.

    Raises:
        ExpressionError: it has no such key or place.
    """
    kind, path = type(target), part.path
    if kind is dict:
        if type(key) is not str:
            raise part.fail(f"{path} is an object: its keys are text, not {shape(key)}")
        if key in target:
            return target[key]
        raise no_key(target, part)
    if kind is not list and kind is not str:
        raise part.fail(f"{path} is {_a(target)}, which has no keys or items")
    if type(key) is not int:
        raise part.fail(f"{path} is {_a(target)}: its places are whole numbers, not {shape(key)}")
    if -len(target) <= key < len(target):
        return target[key]
    what = "characters" if kind is str else "items"
    raise part.fail(f"{path} has {len(target)} {what}, and none at {part.key}")


def no_key(target: dict[str, Json], part: Access) -> Exception:
    """The error for a key that an object does not have; it lists those that it has."""
    missing = f"{part.path} has no key {part.key}"
    if not part.tells_keys:
        return part.fail(missing)
    shown = (key[:_SHOWN_KEY_LENGTH] for key in islice(target, _SHOWN_KEYS))
    keys = ", ".join(key if key.isprintable() else repr(key) for key in shown)
    more = ", ..." if len(target) > _SHOWN_KEYS else ""
    return part.fail(f"{missing}; it has: {keys}{more}" if target else f"{missing}; it is empty")


def no_object(target: Json, part: Access) -> Exception:
    """The error for a key that is asked of what has none."""
    return part.fail(f"{part.path} is {_a(target)}, not an object with a key {part.key}")


def cut(target: Json, bounds: slice, budget: Budget, part: Access) -> Json:
    """``target[start:stop:step]`` of a list or a text."""
    for bound in (bounds.start, bounds.stop, bounds.step):
        if bound is not None and type(bound) is not int:
            raise part.fail(f"{part.text}: a slice takes whole numbers, not {shape(bound)}")
    if bounds.step == 0:
        raise part.fail(f"{part.text}: the step of a slice is not 0")
    if type(target) is str:
        budget.build_text(len(range(*bounds.indices(len(target)))), part)
    elif type(target) is list:
        budget.build_places(len(range(*bounds.indices(len(target)))), part)
    else:
        raise part.fail(f"{part.path} is {_a(target)}; only a list or a text can be sliced")
    return target[bounds]


def _mismatch(sign: str, left: Json, right: Json, part: Part) -> Exception:
    return part.fail(f"{part.text}: {sign} does not work with {shape(left)} and {shape(right)}")


def _a(value: Json) -> str:
    word = shape(value)
    if word in ("text", "null", "true or false") or word.startswith("something"):
        return word
    return f"an {word}" if word[0] == "o" else f"a {word}"
