"""The sub-flows that a definition names: where they are written down, and who they are.

Only ids that stand in the definition as they are. What an expression gives is known when the
task runs, and looked at then.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeGuard

from pydantic import JsonValue

from shared.definition import MAX_VERSION, FlowDefinition
from shared.findings import Findings, quoted

SUB_FLOW_TYPE = "flow"
"""The task type that runs a stored definition."""


@dataclass(frozen=True, slots=True)
class SubFlowReference:
    """A place in a definition that names another one."""

    pointer: str
    """RFC 6901, from the definition on."""
    flow_id: str
    version: int | None


def sub_flow_references(definition: FlowDefinition) -> Iterator[SubFlowReference]:
    """Every place that names a flow, in the order of the tasks."""
    for index, task in enumerate(definition.tasks):
        if task.task_type != SUB_FLOW_TYPE or task.params is None:
            continue
        flow_id, version = task.params.get("flow_id"), task.params.get("version")
        if isinstance(flow_id, str) and "${" not in flow_id:
            pointer = f"/tasks/{index}/params/flow_id"
            if version is None or isinstance(version, str):
                yield SubFlowReference(pointer, flow_id, None)
            elif is_version(version):
                yield SubFlowReference(pointer, flow_id, version)


def is_version(value: JsonValue) -> TypeGuard[int]:
    """Whether ``value`` can be the number of a version."""
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_VERSION


def check_own_calls(definition: FlowDefinition, prefix: str, findings: Findings) -> None:
    """A flow that runs itself would never end."""
    for reference in sub_flow_references(definition):
        if reference.flow_id == definition.id:
            message = f"the flow {quoted(definition.id)} cannot be a part of itself"
            findings.error(prefix + reference.pointer, "recursive_flow", message)
