"""A small good definition, what is changed in it, and how it is judged."""

from typing import Any

from pydantic import JsonValue

from shared.validation import Validated, validate_definition

TYPES = frozenset({"noop", "sleep", "fetch_data", "store_data"})


def flow_of(**changes: Any) -> dict[str, Any]:
    flow: dict[str, Any] = {
        "id": "intake",
        "start_task": "fetch",
        "tasks": [{"name": "fetch", "type": "fetch_data"}, {"name": "store", "type": "store_data"}],
        "conditions": [{"source_task": "fetch", "target_task_success": "store"}],
    }
    return {key: value for key, value in {**flow, **changes}.items() if value is not ...}


def judge(flow: JsonValue) -> Validated:
    return validate_definition(flow, prefix="/flow", task_types=TYPES)


def condition(**changes: Any) -> dict[str, Any]:
    return {"source_task": "fetch", "target_task_success": "store", **changes}


def findings_of(judged: Validated) -> list[tuple[str, str]]:
    return [(error.pointer, error.code) for error in judged.errors]
