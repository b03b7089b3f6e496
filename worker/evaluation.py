"""What a visit's expressions see, and what becomes of a visit whose expressions break off.

They are evaluated by ``shared.evaluation``.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

import orjson

from shared.errors import ExpressionError
from shared.evaluation import told
from shared.expressions import Scope
from shared.status import Reason
from shared.store.branches import ClaimedRun, Visit
from shared.times import iso_time
from worker.execution import AttemptResult
from worker.memory import Memory


def scope_of(
    run: ClaimedRun, visit: Visit, memory: Memory, secrets: Mapping[str, str] | None = None
) -> Scope:
    """What the names of a visit's expressions stand for."""
    return Scope(
        input=None if run.input is None else orjson.loads(run.input),
        tasks=memory.results(),
        iteration=visit.iteration,
        previous=memory.previous_json(),
        item=None if visit.item is None else orjson.loads(visit.item),
        index=None if visit.parent_id is None else visit.item_index,
        run={
            "id": visit.flow_run_id,
            "flow_id": run.flow_id,
            "started_at": iso_time(run.started_at),
        },
        secrets=secrets or {},
        now=datetime.now(UTC),
    )


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
