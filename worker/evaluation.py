"""What a visit's expressions see, and what becomes of a visit whose expressions break off.

They are evaluated by ``shared.evaluation``.
"""

from collections.abc import Container, Mapping
from datetime import UTC, datetime

import orjson

from shared.errors import ExpressionError
from shared.evaluation import told
from shared.expressions import Scope
from shared.status import Reason
from shared.store.branches import ClaimedRun, Visit
from shared.task_context import Json
from shared.times import iso_time
from worker.execution import AttemptResult
from worker.memory import Memory


def scope_of(
    run: ClaimedRun,
    visit: Visit,
    memory: Memory,
    secrets: Mapping[str, str] | None = None,
    *,
    names: Container[str] = ("input", "previous"),
) -> Scope:
    """What the names of a visit's expressions stand for.

    Of ``input`` and ``previous`` only what is among ``names`` is there: an item of a list need
    not parse what may be as long as the list.
    """
    item, index = item_of(visit, memory)
    return Scope(
        input=_load(run.input) if "input" in names else None,
        tasks=memory.results(),
        iteration=visit.iteration,
        previous=memory.previous_json() if "previous" in names else None,
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


def broken_off(error: ExpressionError, before: AttemptResult | None = None) -> AttemptResult:
    """The result of a visit whose expressions cannot be evaluated; ``before`` is what its task
    came to, where it had run."""
    return AttemptResult(
        "error",
        data=None if before is None else before.data,
        error=orjson.dumps(told(error)),
        reason=Reason.EXPRESSION_FAILED,
        logs=[] if before is None else before.logs,
    )


def _load(data: bytes | None) -> Json:
    return None if data is None else orjson.loads(data)
