"""Starts the runs that tasks ask for, and reads what they came to.

What is started is made ready here and stored with the wait of the task, by the runner. A flow
that would come to contain itself is refused: validation sees it where the ids are written
down, this module also where expressions make them.
"""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import orjson

from shared.database import Database
from shared.definition import FlowDefinition
from shared.errors import ExpressionError, SubFlowRefused
from shared.input_schema import check_input
from shared.lease_clock import LeaseClock
from shared.queries.definitions import get_version
from shared.queries.sub_flows import Ancestor, lineage, run_of_visit
from shared.settings import Settings
from shared.status import Reason
from shared.store.branches import Visit
from shared.store.new_runs import Start, limit_of, new_run, runnable
from shared.store.runs import NewRun, ParentVisit
from shared.task_context import FlowRunResult, Json
from shared.task_results import SubFlowRequest
from worker.execution import AttemptResult
from worker.failures import encode_error

_MAX_TOLD = 3


class SubFlows:
    """The sub-flows of one worker."""

    def __init__(self, database: Database, clock: LeaseClock, settings: Settings) -> None:
        self._database = database
        self._clock = clock
        self._max_depth = settings.max_flow_depth

    async def prepare(
        self, visit: Visit, request: SubFlowRequest, timeout_seconds: float | None
    ) -> NewRun:
        """The run that ``visit`` asks for, to be stored with its wait.

        Raises:
            SubFlowRefused: it cannot be started.
        """
        return await asyncio.to_thread(self._prepare, visit, request, timeout_seconds)

    async def result(self, visit: Visit) -> FlowRunResult | None:
        """What the run came to that ``visit`` has waited for."""
        return await asyncio.to_thread(self._read_result, visit)

    def _prepare(
        self, visit: Visit, request: SubFlowRequest, timeout_seconds: float | None
    ) -> NewRun:
        with self._database.read() as connection:
            stored = get_version(connection, request.flow_id, request.version)
            above = lineage(connection, visit.flow_run_id)
        if stored is None:
            version = "" if request.version is None else f" in version {request.version}"
            raise SubFlowRefused(f"no flow {request.flow_id!r} is stored{version}")
        self._check_lineage(request.flow_id, above)
        definition = FlowDefinition.model_validate_json(stored.definition)
        _check_input(definition, request)
        parent = ParentVisit(visit.flow_run_id, visit.task_run_id, len(above))
        ready = runnable(definition, stored.hash, stored.definition)
        try:
            limit = limit_of(ready, orjson.loads(request.input))
        except ExpressionError as error:
            raise SubFlowRefused(f"flow {definition.id!r}: {error.message}") from None
        start = Start(
            input_json=request.input,
            at=datetime.now(UTC),
            lease_now=self._clock.now(),
            timeout_seconds=timeout_seconds,
            parent=parent,
            limit=limit,
        )
        return new_run(ready, start)

    def _check_lineage(self, flow_id: str, above: list[Ancestor]) -> None:
        if any(ancestor.flow_id == flow_id for ancestor in above):
            way = " -> ".join(repr(one.flow_id) for one in reversed(above))
            raise SubFlowRefused(f"flow {flow_id!r} would contain itself: {way} -> {flow_id!r}")
        if len(above) > self._max_depth:
            raise SubFlowRefused(
                f"sub-flows stand below each other more than max_flow_depth ({self._max_depth}) "
                "times"
            )

    def _read_result(self, visit: Visit) -> FlowRunResult | None:
        with self._database.read() as connection:
            row = run_of_visit(connection, visit.task_run_id)
        if row is None:
            return None
        return FlowRunResult(
            flow_run_id=row.id,
            flow_id=row.flow_id,
            status=row.status,
            outcome=row.outcome,
            output=_load(row.output),
            error=_load(row.error),
        )


def refused(error: SubFlowRefused, before: AttemptResult) -> AttemptResult:
    """The result of an attempt whose sub-flow cannot be started."""
    encoded = encode_error(error, 10_000)
    return replace(before, kind="error", error=encoded, reason=Reason.RAISED, starts=None)


def _check_input(definition: FlowDefinition, request: SubFlowRequest) -> None:
    if definition.input_schema is None:
        return
    wrong = check_input(definition.input_schema, orjson.loads(request.input), _MAX_TOLD)
    if wrong:
        told = "; ".join(f"{one.pointer} {one.message}" for one in wrong)
        raise SubFlowRefused(f"the input of flow {definition.id!r} does not fit: {told}")


def _load(data: bytes | None) -> Json:
    return None if data is None else orjson.loads(data)
