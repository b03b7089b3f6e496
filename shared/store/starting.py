"""From a definition to a run of it: one place for whoever starts runs.

A submit, a schedule and whatever else starts a run differ in where the definition comes from
and in what they note beside it; what of the definition stands in the run's rows is the same.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import orjson

from shared.definition import FlowDefinition
from shared.ids import BranchId, FlowRunId, new_id
from shared.store.runs import NewRun


@dataclass(frozen=True, slots=True)
class Startable:
    """What of a valid definition its runs need to begin: small enough to be kept by thousands."""

    flow_id: str
    name: str
    hash: str
    json: bytes
    tags_json: bytes
    start_task: str
    start_type: str
    timeout_seconds: float | None

    def new_run(
        self,
        input_json: bytes,
        *,
        now: datetime,
        ready_at: float,
        idempotency_key: str | None = None,
        request_hash: str | None = None,
        schedule_id: str | None = None,
    ) -> NewRun:
        """A run to be stored, with new ids; ``ready_at`` is lease time."""
        seconds = self.timeout_seconds
        return NewRun(
            flow_run_id=FlowRunId(new_id()),
            branch_id=BranchId(new_id()),
            flow_id=self.flow_id,
            name=self.name,
            definition_hash=self.hash,
            definition_json=self.json,
            input_json=input_json,
            tags_json=self.tags_json,
            start_task=self.start_task,
            start_type=self.start_type,
            created_at=now,
            ready_at=ready_at,
            idempotency_key=idempotency_key,
            request_hash=request_hash,
            deadline=None if seconds is None else now + timedelta(seconds=seconds),
            schedule_id=schedule_id,
        )


def startable(definition: FlowDefinition, definition_hash: str, content: bytes) -> Startable:
    """``definition``, which is valid and stored as ``content``, ready to be started."""
    start = next(task for task in definition.tasks if task.name == definition.start_task)
    return Startable(
        flow_id=definition.id,
        name=definition.name,
        hash=definition_hash,
        json=content,
        tags_json=orjson.dumps(definition.tags),
        start_task=start.name,
        start_type=start.task_type,
        timeout_seconds=definition.timeout,
    )
