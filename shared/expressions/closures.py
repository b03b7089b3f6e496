"""The closures that an expression is compiled to: one for each part, called with a frame.

Every function here makes one. What can be decided once (which task, which operation, how a
message names the part) is decided when the closure is made, so that calling it is all that
an evaluation costs.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from shared.expressions.budget import Budget, Json, Part, shape
from shared.expressions.calls import MISSING, Call, Function
from shared.expressions.operations import Access, Binary, cut, no_key, no_object, pick
from shared.expressions.references import Scope


class Frame:
    """One evaluation: what it reads, what it may still cost, and its variables."""

    __slots__ = ("budget", "scope", "variables")

    def __init__(self, scope: Scope, budget: Budget, variables: int) -> None:
        self.scope = scope
        self.budget = budget
        # Every variable of an expression has a place of its own: none can be recursive.
        self.variables: list[Json] = [None] * variables


Evaluate: TypeAlias = Callable[[Frame], Json]


def constant(value: Json) -> Evaluate:
    """A literal."""
    return lambda frame: value


def variable(slot: int) -> Evaluate:
    """A variable of a comprehension."""
    return lambda frame: frame.variables[slot]


_ROOTS: dict[str, Evaluate] = {
    "input": lambda frame: frame.scope.input,
    "iteration": lambda frame: frame.scope.iteration,
    "previous": lambda frame: frame.scope.previous,
    "item": lambda frame: frame.scope.item,
    "index": lambda frame: frame.scope.index,
}


def root(name: str) -> Evaluate:
    """One of the names that are values."""
    return _ROOTS[name]


_RESULT_FIELDS: dict[str, Callable[[Json], Json]] = {
    "data": lambda result: result.data,
    "success": lambda result: result.success,
    "error": lambda result: result.error,
    "iteration": lambda result: result.iteration,
}


def task_result(task: str, kind: str, part: Part) -> Evaluate:
    """Something of a task that ran before."""
    field = _RESULT_FIELDS[kind]

    def read(frame: Frame) -> Json:
        result = frame.scope.tasks.get(task)
        if result is None:
            hint = f'ask first with "{task[:60]}" in tasks'
            raise part.fail(f"{part.text}: the task has not finished in this run; {hint}")
        return field(result)

    return read


def task_finished(task: str, wanted: bool) -> Evaluate:
    """``"name" in tasks``, and ``not in``."""
    return lambda frame: (task in frame.scope.tasks) is wanted


def fact(root_name: str, key: str, part: Part) -> Evaluate:
    """A fact about the run, or a secret. The keys that there are, are not told."""

    def read(frame: Frame) -> Json:
        known = frame.scope.secrets if root_name == "secrets" else frame.scope.run
        if key not in known:
            raise part.fail(f"{part.text} is not known here")
        return known[key]

    return read


def key_of(target: Evaluate, key: str, part: Access) -> Evaluate:
    """A key that is written out: ``target.key`` and ``target["key"]``."""

    def read(frame: Frame) -> Json:
        value = target(frame)
        if type(value) is not dict:
            raise no_object(value, part)
        if key in value:
            return value[key]
        raise no_key(value, part)

    return read


def item_of(target: Evaluate, key: Evaluate, part: Access) -> Evaluate:
    """A key or place that is worked out."""
    return lambda frame: pick(target(frame), key(frame), part)


def slice_of(target: Evaluate, bounds: Sequence[Evaluate], part: Access) -> Evaluate:
    """``target[start:stop:step]``."""
    start, stop, step = bounds

    def read(frame: Frame) -> Json:
        value = target(frame)
        return cut(value, slice(start(frame), stop(frame), step(frame)), frame.budget, part)

    return read


def binary(apply: Binary, left: Evaluate, right: Evaluate, part: Part) -> Evaluate:
    """An operation with two sides."""
    return lambda frame: apply(left(frame), right(frame), frame.budget, part)


def unary(apply: Callable[[Json, Part], Json], value: Evaluate, part: Part) -> Evaluate:
    """An operation with one side."""
    return lambda frame: apply(value(frame), part)


def negation(value: Evaluate) -> Evaluate:
    """``not``."""
    return lambda frame: not value(frame)


def chain(first: Evaluate, steps: Sequence[tuple[Binary, Evaluate]], part: Part) -> Evaluate:
    """``a < b < c``: each side is worked out once, and none behind the first that is false."""

    def compare(frame: Frame) -> bool:
        left = first(frame)
        for apply, side in steps:
            right = side(frame)
            if not apply(left, right, frame.budget, part):
                return False
            left = right
        return True

    return compare


def conjunction(values: Sequence[Evaluate]) -> Evaluate:
    """``and``: the first value that counts as false, else the last."""

    def both(frame: Frame) -> Json:
        value: Json = True
        for each in values:
            value = each(frame)
            if not value:
                break
        return value

    return both


def disjunction(values: Sequence[Evaluate]) -> Evaluate:
    """``or``: the first value that counts as true, else the last."""

    def either(frame: Frame) -> Json:
        value: Json = False
        for each in values:
            value = each(frame)
            if value:
                break
        return value

    return either


def choice(condition: Evaluate, then: Evaluate, otherwise: Evaluate) -> Evaluate:
    """``then if condition else otherwise``."""
    return lambda frame: then(frame) if condition(frame) else otherwise(frame)


def list_of(values: Sequence[Evaluate], part: Part) -> Evaluate:
    """A list literal."""

    def build(frame: Frame) -> Json:
        frame.budget.build_places(len(values), part)
        return [each(frame) for each in values]

    return build


def object_of(pairs: Sequence[tuple[Evaluate, Evaluate]], part: Part) -> Evaluate:
    """An object literal."""

    def build(frame: Frame) -> Json:
        frame.budget.build_places(len(pairs), part)
        return {text_key(key(frame), part): value(frame) for key, value in pairs}

    return build


def text_key(key: Json, part: Part) -> str:
    """A key of an object that is being made.

    Raises:
        ExpressionError: it is not text.
    """
    if type(key) is str:
        return key
    raise part.fail(f"{part.text}: the keys of an object are text, not {shape(key)}")


def call(
    function: Function,
    arguments: Sequence[Evaluate],
    option: Evaluate | None,
    part: Part,
) -> Evaluate:
    """A call of one of the functions."""
    body = function.body

    def apply(frame: Frame) -> Json:
        values = [each(frame) for each in arguments]
        chosen = MISSING if option is None else option(frame)
        return body(Call(values, chosen, frame.budget, part, frame.scope.now))

    return apply
