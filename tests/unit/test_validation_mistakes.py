"""Random definitions with random mistakes: each is told, and none hides another."""

import copy
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from tests.unit.test_documents import JSON
from tests.unit.validation_flows import findings_of, flow_of, judge

Mistake = Callable[[dict[str, Any]], tuple[str, str]]


def _misspell_a_field(flow: dict[str, Any]) -> tuple[str, str]:
    flow["tasks"][-1]["timout"] = 1
    return f"/flow/tasks/{len(flow['tasks']) - 1}/timout", "unknown_field"


def _repeat_a_name(flow: dict[str, Any]) -> tuple[str, str]:
    flow["tasks"].append({"name": "t0", "type": "noop"})
    return f"/flow/tasks/{len(flow['tasks']) - 1}/name", "duplicate_name"


def _lead_nowhere(flow: dict[str, Any]) -> tuple[str, str]:
    flow["conditions"].append({"source_task": "t0", "target_task_success": "nobody"})
    return f"/flow/conditions/{len(flow['conditions']) - 1}/target_task_success", "unknown_task"


def _come_from_nowhere(flow: dict[str, Any]) -> tuple[str, str]:
    flow["conditions"].append({"source_task": "nobody", "target_task_success": "t0"})
    return f"/flow/conditions/{len(flow['conditions']) - 1}/source_task", "unknown_task"


def _start_nowhere(flow: dict[str, Any]) -> tuple[str, str]:
    flow["start_task"] = "nobody"
    return "/flow/start_task", "unknown_task"


def _leave_the_target_out(flow: dict[str, Any]) -> tuple[str, str]:
    flow["conditions"].append({"source_task": "t0"})
    return f"/flow/conditions/{len(flow['conditions']) - 1}", "missing_field"


def _name_a_task_end(flow: dict[str, Any]) -> tuple[str, str]:
    flow["tasks"].append({"name": "end", "type": "noop"})
    return f"/flow/tasks/{len(flow['tasks']) - 1}/name", "reserved_name"


def _want_no_such_type(flow: dict[str, Any]) -> tuple[str, str]:
    flow["tasks"][0]["type"] = "nop"
    return "/flow/tasks/0/type", "unknown_task_type"


MISTAKES: list[Mistake] = [
    _misspell_a_field,
    _repeat_a_name,
    _lead_nowhere,
    _come_from_nowhere,
    _start_nowhere,
    _leave_the_target_out,
    _name_a_task_end,
    _want_no_such_type,
]


@st.composite
def _valid_definitions(draw: st.DrawFn) -> dict[str, Any]:
    count = draw(st.integers(2, 6))
    names = [f"t{number}" for number in range(count)]
    # Without a target for failures every task has a way out.
    sources = draw(st.lists(st.sampled_from(names), max_size=6))
    conditions = [
        {"source_task": s, "target_task_success": draw(st.sampled_from([*names, "end"]))}
        for s in sources
    ]
    tasks = [{"name": name, "type": "noop"} for name in names]
    return {"id": "random", "start_task": "t0", "tasks": tasks, "conditions": conditions}


@settings(deadline=None)
@given(flow=_valid_definitions(), mistake=st.sampled_from(MISTAKES))
def test_a_mistake_adds_its_own_finding_and_no_other(
    flow: dict[str, Any], mistake: Mistake
) -> None:
    before = judge(flow)
    assert before.errors == ()
    wrong = copy.deepcopy(flow)
    expected = mistake(wrong)
    after = judge(wrong)
    assert findings_of(after) == [expected]
    assert after.error_count == 1
    said = {(w.pointer, w.code) for w in before.warnings}
    added = {(w.pointer, w.code) for w in after.warnings} - said
    # A condition or a task that was added may be the second of its kind, or out of reach.
    assert {code for _, code in added} <= {"never_applies", "unreachable_task"}
    assert len(added) <= 1


@settings(deadline=None)
@given(
    flow=_valid_definitions(),
    mistakes=st.lists(st.sampled_from(MISTAKES), min_size=2, unique=True),
)
def test_mistakes_do_not_hide_each_other(flow: dict[str, Any], mistakes: list[Mistake]) -> None:
    expected = {mistake(flow) for mistake in mistakes}
    assert set(findings_of(judge(flow))) == expected


@given(JSON)
def test_no_json_raises_anything_else(value: JsonValue) -> None:
    judge(value)
    judge(flow_of(tasks=value))
    judge(flow_of(conditions=[value]))
    judge(flow_of(start_task=value))
