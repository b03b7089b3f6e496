"""Evaluates a visit's expressions: its params before it, its conditions after it.

What an expression breaks off with becomes the visit's error, with the expression's place and
the shapes of the values, and never a value: it may be a secret.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

import orjson

from shared.errors import ExpressionError
from shared.expressions import Scope
from shared.expressions.budget import shape
from shared.flow import Flow
from shared.routing import Applies
from shared.status import Reason
from shared.store.branches import ClaimedRun, Visit
from shared.tasks import Json
from shared.times import iso_time
from worker.execution import AttemptResult
from worker.memory import Memory


def scope_of(
    run: ClaimedRun, visit: Visit, memory: Memory, secrets: Mapping[str, str] | None = None
) -> Scope:
    """What the names of a visit's expressions stand for."""
    item, index = item_of(visit, memory)
    return Scope(
        input=None if run.input is None else orjson.loads(run.input),
        tasks=memory.results(),
        iteration=visit.iteration,
        previous=memory.previous_json(),
        item=item,
        index=index,
        run={
            "id": visit.flow_run_id,
            "flow_id": run.flow_id,
            "started_at": iso_time(run.started_at),
            **({} if memory.undone is None else memory.undone.run),
        },
        secrets=secrets or {},
        now=datetime.now(UTC),
    )


def item_of(visit: Visit, memory: Memory) -> tuple[Json, int | None]:
    """The ``item`` and ``index`` of a visit: its own, or in a run's ending of what it undoes."""
    if memory.undone is not None:
        return _load(memory.undone.item), memory.undone.index
    return _load(visit.item), None if visit.parent_id is None else visit.item_index


def render_params(flow: Flow, visit: Visit, scope: Scope) -> Json:
    """The params of a visit with their expressions filled in.

    Raises:
        ExpressionError: the values do not fit. The message begins with the place.
    """
    template = flow.data.of(visit.task).params
    assert template is not None
    try:
        return template.render(scope)
    except ExpressionError as error:
        raise ExpressionError(f"params{error.message}", error.offset) from None


def list_items(flow: Flow, visit: Visit, scope: Scope, most: int) -> list[bytes]:
    """The items that a visit with ``for_each`` goes through, each as JSON.

    Raises:
        ExpressionError: it gives no list, or one of more than ``most`` items.
    """
    expression = flow.data.of(visit.task).for_each
    assert expression is not None
    try:
        items = expression.evaluate(scope)
    except ExpressionError as error:
        raise ExpressionError(f"for_each: {error.message}", error.offset) from None
    if not isinstance(items, list):
        raise ExpressionError(f"for_each must give a list, and gives {shape(items)}")
    if len(items) > most:
        raise ExpressionError(f"for_each gives {len(items)} items, over max_items ({most})")
    return [orjson.dumps(item) for item in items]


def applies_in(flow: Flow, visit: Visit, scope: Scope) -> Applies:
    """Whether the conditions of the visited task apply, by their ``when``.

    What it gives raises ExpressionError, naming the condition.
    """
    whens = flow.data.of(visit.task).whens

    def applies(number: int) -> bool:
        when = whens[number]
        if when is None:
            return True
        try:
            return when.evaluate_bool(scope)
        except ExpressionError as error:
            text = when.text if len(when.text) <= 200 else when.text[:199] + "…"
            place = f"condition {number + 1} of {visit.task!r}, when {text!r}"
            raise ExpressionError(f"{place}: {error.message}", error.offset) from None

    return applies


def broken_off(error: ExpressionError, before: AttemptResult | None = None) -> AttemptResult:
    """The result of a visit whose expressions cannot be evaluated; ``before`` is what its task
    came to, where it had run."""
    told = {"type": "ExpressionError", "message": error.message, "traceback": None}
    return AttemptResult(
        "error",
        data=None if before is None else before.data,
        error=orjson.dumps(told),
        reason=Reason.EXPRESSION_FAILED,
        logs=[] if before is None else before.logs,
    )


def _load(data: bytes | None) -> Json:
    return None if data is None else orjson.loads(data)
