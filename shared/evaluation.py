"""Evaluates the expressions of a definition where a run has come to: params before a task,
conditions after it, the output at the end.

Pure: what the names stand for comes in as a scope. What an expression breaks off with names the
expression's place and the shapes of the values, and never a value: it may be a secret.
"""

import orjson
from pydantic import JsonValue

from shared.errors import ExpressionError
from shared.expressions import Scope
from shared.expressions.budget import Json, shape
from shared.flow import Flow
from shared.routing import Applies


def render_params(flow: Flow, task: str, scope: Scope) -> Json:
    """The params of a task that has expressions in them, filled in.

    Raises:
        ExpressionError: the values do not fit. The message begins with the place.
    """
    template = flow.data.of(task).params
    assert template is not None
    try:
        return template.render(scope)
    except ExpressionError as error:
        raise ExpressionError(f"params{error.message}", error.offset) from None


def list_items(flow: Flow, task: str, scope: Scope, most: int) -> list[bytes]:
    """The items that a task with ``for_each`` goes through, each as JSON.

    Raises:
        ExpressionError: it gives no list, or one of more than ``most`` items.
    """
    expression = flow.data.of(task).for_each
    assert expression is not None
    try:
        items = expression.evaluate(scope)
    except ExpressionError as error:
        raise ExpressionError(f"for_each: {error.message}", error.offset) from None
    if not isinstance(items, list):
        raise ExpressionError(f"for_each must give a list, and gives {shape(items)}")
    if len(items) > most:
        raise ExpressionError(f"for_each gives {len(items)} items, over max_items ({most})")
    return [encode(item, "for_each") for item in items]


def applies_in(flow: Flow, task: str, scope: Scope) -> Applies:
    """Whether the conditions of a task apply, by their ``when``.

    What it gives raises ExpressionError, naming the condition.
    """
    whens = flow.data.of(task).whens

    def applies(number: int) -> bool:
        when = whens[number]
        if when is None:
            return True
        try:
            return when.evaluate_bool(scope)
        except ExpressionError as error:
            text = when.text if len(when.text) <= 200 else when.text[:199] + "…"
            place = f"condition {number + 1} of {task!r}, when {text!r}"
            raise ExpressionError(f"{place}: {error.message}", error.offset) from None

    return applies


def render_output(flow: Flow, scope: Scope) -> bytes:
    """The ``output`` of a flow that gives one, as JSON.

    Raises:
        ExpressionError: the results do not fit its expressions.
    """
    template = flow.data.output
    assert template is not None
    try:
        rendered = template.render(scope)
    except ExpressionError as error:
        # The message begins with the pointer inside the output, where there is one.
        between = "" if error.message.startswith("/") else ": "
        raise ExpressionError(f"output{between}{error.message}", error.offset) from None
    return encode(rendered, "output")


def encode(value: Json, what: str) -> bytes:
    """What expressions gave, as JSON.

    Raises:
        ExpressionError: it is nested more deeply than can be written.
    """
    try:
        return orjson.dumps(value)
    except (TypeError, RecursionError):
        # Each part came from JSON; together they may be too deep.
        raise ExpressionError(f"{what}: the values are nested too deeply") from None


def told(error: ExpressionError) -> dict[str, JsonValue]:
    """The error of a task run whose expressions cannot be evaluated."""
    return {"type": "ExpressionError", "message": error.message, "traceback": None}
