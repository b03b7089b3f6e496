"""The closures of comprehensions: the only part of the language that does anything twice.

Each turn is charged before it is taken, with the weight of all that it may do. The loops are
generators, so that ``any`` and ``all`` can stop in the middle.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from shared.expressions.budget import Json, Part, shape
from shared.expressions.closures import Evaluate, Frame, text_key

Items: TypeAlias = Callable[[Frame], Iterator[Json]]
"""What gives one value after the other."""


def loop(
    source: Evaluate, slots: Sequence[int], condition: Evaluate | None, weight: int, part: Part
) -> Items:
    """One ``for`` of a comprehension with its ``if`` parts: each turn sets its variables.

    What a turn costs includes the place in the result that it may fill.
    """

    def turns(frame: Frame) -> Iterator[Json]:
        values = source(frame)
        if type(values) is not list and type(values) is not dict:
            raise part.fail(f"{part.text} is {shape(values)}; for goes through a list or object")
        variables, budget, first = frame.variables, frame.budget, slots[0]
        for value in values:
            budget.work(weight, part)
            if len(slots) == 1:
                variables[first] = value
            else:
                _unpack(variables, slots, value, part)
            if condition is None or condition(frame):
                yield None

    return turns


def elements(turns: Items, element: Evaluate) -> Items:
    """What the innermost ``for`` of a comprehension gives in each turn."""

    def items(frame: Frame) -> Iterator[Json]:
        for _ in turns(frame):
            yield element(frame)

    return items


def nested(turns: Items, inner: Items) -> Items:
    """A ``for`` around others."""

    def items(frame: Frame) -> Iterator[Json]:
        for _ in turns(frame):
            yield from inner(frame)

    return items


def _unpack(variables: list[Json], slots: Sequence[int], value: Json, part: Part) -> None:
    if type(value) is not list or len(value) != len(slots):
        what = f"a list of {len(value)}" if type(value) is list else shape(value)
        raise part.fail(f"{part.text}: each item must be a list of {len(slots)}, not {what}")
    for slot, each in zip(slots, value, strict=True):
        variables[slot] = each


def collected(items: Items) -> Evaluate:
    """A list comprehension."""
    return lambda frame: list(items(frame))


def collected_object(items: Items, part: Part) -> Evaluate:
    """An object comprehension, whose items are pairs of key and value."""
    return lambda frame: {text_key(key, part): value for key, value in items(frame)}


def pair(key: Evaluate, value: Evaluate) -> Evaluate:
    """Key and value for :func:`collected_object`."""
    return lambda frame: (key(frame), value(frame))
