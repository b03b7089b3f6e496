"""What tests of endings share: flows with tasks that undo, and how their runs go on."""

from typing import Any

from shared.flow import Flow
from shared.ids import BranchId, FlowRunId
from shared.models import TaskRun
from shared.store.branches import Visit
from shared.validation import validate_definition
from tests.integration.store_rig import TYPE, Store

Definition = dict[str, Any]

ERROR = b'{"type":"ValueError","message":"no","traceback":null}'


def flow_of(tasks: list[Definition], conditions: list[Definition], **fields: Any) -> Flow:
    definition: Definition = {
        "id": "trip",
        "start_task": tasks[0]["name"],
        "tasks": [{"type": TYPE, **task} for task in tasks],
        "conditions": conditions,
        **fields,
    }
    judged = validate_definition(definition, task_types={TYPE})
    assert judged.flow is not None, judged.errors
    return judged.flow


def take(store: Store, branch: BranchId | None, **changes: Any) -> Visit:
    (claimed,) = store.claim(branch, **changes)
    return claimed.visit


def ending_rows(store: Store, run: FlowRunId) -> list[Any]:
    return [r for r in store.rows(TaskRun, flow_run_id=run) if r.branch.startswith("ending")]
