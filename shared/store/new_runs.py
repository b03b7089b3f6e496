"""Makes new runs of valid definitions: the one place that knows what a run takes from its flow.

Whoever starts runs, by a submit, a schedule or a sub-flow, keeps the definition in this form,
so that a start costs neither a parse nor a look at its tasks.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import orjson
from pydantic import JsonValue

from shared.definition import FlowDefinition
from shared.ids import BranchId, FlowRunId, new_id
from shared.limits import RunLimit, run_limit
from shared.store.runs import NewRun, ParentVisit


@dataclass(frozen=True, slots=True)
class RunnableDefinition:
    """What of a valid definition a new run needs."""

    flow_id: str
    name: str
    hash: str
    """SHA-256 of its JSON, in hex."""
    json: bytes
    tags_json: bytes
    start_task: str
    start_type: str
    start_queue: str
    start_priority: int
    input_schema: JsonValue
    timeout_seconds: float | None
    limited: FlowDefinition | None
    """The definition of a flow with ``concurrency``; None for others, which need it no more."""


@dataclass(frozen=True, slots=True)
class Start:
    """The circumstances of a run: what its definition does not say."""

    input_json: bytes
    at: datetime
    lease_now: float
    idempotency_key: str | None = None
    request_hash: str | None = None
    """Of what came with the key: the same key with another one is a mistake."""
    timeout_seconds: float | None = None
    """A bound beside the definition's own; the shorter one counts."""
    parent: ParentVisit | None = None
    schedule_id: str | None = None
    """Of the schedule that starts it, which gives a key as well."""
    limit: RunLimit | None = None
    """The place that it needs to begin, by :func:`limit_of`."""


def runnable(
    definition: FlowDefinition, definition_hash: str, content: bytes
) -> RunnableDefinition:
    """The form in which a valid definition is started."""
    start = next(task for task in definition.tasks if task.name == definition.start_task)
    return RunnableDefinition(
        flow_id=definition.id,
        name=definition.name,
        hash=definition_hash,
        json=content,
        tags_json=orjson.dumps(definition.tags),
        start_task=definition.start_task,
        start_type=start.task_type,
        start_queue=start.queue,
        start_priority=start.priority,
        input_schema=definition.input_schema,
        timeout_seconds=definition.timeout,
        limited=None if definition.concurrency is None else definition,
    )


def limit_of(definition: RunnableDefinition, given: JsonValue) -> RunLimit | None:
    """The place that a run with this input needs to begin; None where its flow is not limited.

    Raises:
        ExpressionError: its key cannot be worked out from the input.
    """
    return None if definition.limited is None else run_limit(definition.limited, given)


def new_run(definition: RunnableDefinition, start: Start) -> NewRun:
    """The run to be stored, with new ids."""
    bounds = [one for one in (definition.timeout_seconds, start.timeout_seconds) if one is not None]
    return NewRun(
        flow_run_id=FlowRunId(new_id()),
        branch_id=BranchId(new_id()),
        flow_id=definition.flow_id,
        name=definition.name,
        definition_hash=definition.hash,
        definition_json=definition.json,
        input_json=start.input_json,
        tags_json=definition.tags_json,
        start_task=definition.start_task,
        start_type=definition.start_type,
        start_queue=definition.start_queue,
        start_priority=definition.start_priority,
        created_at=start.at,
        ready_at=start.lease_now,
        idempotency_key=start.idempotency_key,
        request_hash=start.request_hash,
        deadline=start.at + timedelta(seconds=min(bounds)) if bounds else None,
        parent=start.parent,
        schedule_id=start.schedule_id,
        limit=start.limit,
    )
