"""Judging definitions: every finding, its place, its code and what was probably meant."""

import time
from typing import Any

import pytest
from hypothesis import given
from pydantic import JsonValue

from shared.errors import InvalidDefinition
from shared.validation import (
    MAX_FINDINGS,
    Limits,
    Validated,
    split_submission,
    validate_definition,
)
from tests.unit.test_documents import JSON

TYPES = frozenset({"noop", "sleep", "fetch_data", "store_data"})


def _flow(**changes: Any) -> dict[str, Any]:
    flow: dict[str, Any] = {
        "id": "intake",
        "start_task": "fetch",
        "tasks": [{"name": "fetch", "type": "fetch_data"}, {"name": "store", "type": "store_data"}],
        "conditions": [{"source_task": "fetch", "target_task_success": "store"}],
    }
    return {key: value for key, value in {**flow, **changes}.items() if value is not ...}


def _judge(flow: JsonValue) -> Validated:
    return validate_definition(flow, prefix="/flow", task_types=TYPES)


def _condition(**changes: Any) -> dict[str, Any]:
    return {"source_task": "fetch", "target_task_success": "store", **changes}


def test_a_good_definition_has_no_finding() -> None:
    judged = _judge(_flow())
    assert judged.errors == judged.warnings == ()
    assert judged.flow is not None
    assert judged.flow.graph.names == ("fetch", "store")


@pytest.mark.parametrize(
    ("flow", "pointer", "code"),
    [
        ([], "/flow", "wrong_type"),
        (None, "/flow", "wrong_type"),
        (_flow(tasks=...), "/flow", "missing_field"),
        (_flow(tasks=[]), "/flow/tasks", "no_tasks"),
        (_flow(tasks={}), "/flow/tasks", "wrong_type"),
        (_flow(conditions="x"), "/flow/conditions", "wrong_type"),
        (_flow(id=...), "/flow", "missing_field"),
        (_flow(id=7), "/flow/id", "wrong_type"),
        (_flow(id=""), "/flow/id", "empty_name"),
        (_flow(id="x" * 201), "/flow/id", "too_long"),
        (_flow(id="a\nb"), "/flow/id", "bad_characters"),
        (_flow(start_task=...), "/flow", "missing_field"),
        (_flow(start_task="fetsh"), "/flow/start_task", "unknown_task"),
        (_flow(max_task_runs=0), "/flow/max_task_runs", "too_small"),
        (_flow(tasks=[{}]), "/flow/tasks/0", "missing_field"),
        (_flow(tasks=["fetch"]), "/flow/tasks/0", "wrong_type"),
        (_flow(tasks=[{"name": "fetch", "type": "noop", "nme": 1}]), "/flow/tasks/0/nme",
         "unknown_field"),
        (_flow(tasks=[{"name": "fetch", "type": "noop", "timeout": -1}]),
         "/flow/tasks/0/timeout", "too_small"),
        (_flow(tasks=[{"name": "fetch", "type": "noop"}, {"name": "fetch", "type": "noop"},
                      {"name": "store", "type": "noop"}]),
         "/flow/tasks/1/name", "duplicate_name"),
        (_flow(tasks=[{"name": "fetch", "type": "noop"}, {"name": "end", "type": "noop"},
                      {"name": "store", "type": "noop"}]),
         "/flow/tasks/1/name", "reserved_name"),
        (_flow(tasks=[{"name": "fetch", "type": "nop"}, {"name": "store", "type": "noop"}]),
         "/flow/tasks/0/type", "unknown_task_type"),
        (_flow(tasks=[{"name": "fetch", "type": "noop", "params": {"a": ["${input.x}"]}},
                      {"name": "store", "type": "noop"}]),
         "/flow/tasks/0/params", "unsupported_expression"),
        (_flow(conditions=[_condition(source_task="fetsh")]),
         "/flow/conditions/0/source_task", "unknown_task"),
        (_flow(conditions=[_condition(target_task_success="stor")]),
         "/flow/conditions/0/target_task_success", "unknown_task"),
        (_flow(conditions=[_condition(target_task_failure=["store", "x"])]),
         "/flow/conditions/0/target_task_failure/1", "unknown_task"),
        (_flow(conditions=[_condition(target_task_success=["store", "store"])]),
         "/flow/conditions/0/target_task_success/1", "duplicate_head"),
        (_flow(conditions=[_condition(target_task_success=["store", "end"])]),
         "/flow/conditions/0/target_task_success/1", "end_in_list"),
        (_flow(conditions=[_condition(target_task_success=[])]),
         "/flow/conditions/0/target_task_success", "empty_list"),
        (_flow(conditions=[_condition(target_task_success=5)]),
         "/flow/conditions/0/target_task_success", "wrong_type"),
        (_flow(conditions=[_condition(outcome="maybe")]),
         "/flow/conditions/0/outcome", "wrong_value"),
        (_flow(conditions=[
            _condition(target_task_failure="store"),
            {"source_task": "store", "target_task_success": "fetch",
             "target_task_failure": "fetch"}]),
         "/flow/tasks/0", "endless_cycle"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place(flow: JsonValue, pointer: str, code: str) -> None:
    judged = _judge(flow)
    assert (pointer, code) in [(error.pointer, error.code) for error in judged.errors]
    assert judged.flow is None


@pytest.mark.parametrize(
    ("flow", "suggestion"),
    [
        (_flow(start_task="Fetch"), "fetch"),
        (_flow(conditions=[_condition(target_task_success="stor")]), "store"),
        (_flow(tasks=[{"name": "fetch", "type": "fetch_dta"}, {"name": "store", "type": "noop"}]),
         "fetch_data"),
        (_flow(tasks=[{"name": "fetch", "type": "noop", "descripton": ""}]), "description"),
        (_flow(start_tsk="fetch"), "start_task"),
    ],
)  # fmt: skip
def test_what_was_probably_meant_is_suggested(flow: JsonValue, suggestion: str) -> None:
    assert any(suggestion in (error.suggestion or "") for error in _judge(flow).errors)


@pytest.mark.parametrize(
    ("flow", "pointer", "code"),
    [
        (_flow(conditions=[]), "/flow/tasks/1", "unreachable_task"),
        (_flow(conditions=[_condition(), _condition()]), "/flow/conditions/1", "never_applies"),
        (_flow(conditions=[_condition(outcome="failure")]), "/flow/conditions/0/outcome",
         "outcome_failure"),
    ],
)  # fmt: skip
def test_what_is_doubtful_is_a_warning(flow: JsonValue, pointer: str, code: str) -> None:
    judged = _judge(flow)
    assert judged.errors == ()
    assert (pointer, code) in [(warning.pointer, warning.code) for warning in judged.warnings]
    assert judged.flow is not None


def test_several_mistakes_are_told_at_once() -> None:
    judged = _judge(
        _flow(
            start_task="nobody", conditions=[_condition(source_task="x", target_task_success="y")]
        )
    )
    assert len(judged.errors) == 3


def test_a_hundred_thousand_mistakes_cost_no_more_than_twenty() -> None:
    flow = _flow(tasks=[{"nme": 1}] * 100_000)
    limits = Limits(max_tasks=1_000_000)
    seconds = []
    for _ in range(3):
        before = time.perf_counter()
        judged = validate_definition(flow, limits=limits)
        seconds.append(time.perf_counter() - before)
    assert len(judged.errors) == MAX_FINDINGS
    assert min(seconds) < 0.05
    assert (
        sum(len(e.message) + len(e.pointer) + len(e.suggestion or "") for e in judged.errors) < 4e3
    )


def test_too_many_tasks_and_targets_are_refused_before_they_are_read() -> None:
    judged = validate_definition(_flow(tasks=[{}] * 30), limits=Limits(max_tasks=20))
    assert [error.code for error in judged.errors] == ["too_many_tasks"]
    many = _flow(conditions=[_condition(target_task_success=["store"] * 30)])
    judged = validate_definition(many, limits=Limits(max_edges=20))
    assert [error.code for error in judged.errors] == ["too_many_edges"]


def test_ten_thousand_good_tasks_are_judged_within_a_second() -> None:
    count = 10_000
    flow: dict[str, Any] = {
        "id": "large",
        "start_task": "t0",
        "tasks": [{"name": f"t{n}", "type": "noop"} for n in range(count)],
        "conditions": [
            {"source_task": f"t{n}", "target_task_success": [f"t{n + 1}", f"t{n + 2}"]}
            for n in range(count - 2)
        ],
    }
    # Processor time: what else the machine does is not what is measured.
    before = time.process_time()
    judged = _judge(flow)
    assert time.process_time() - before < 1
    assert judged.errors == ()


@pytest.mark.parametrize("body", [[], None, 7, "x", {}, {"input": {}}, {"flow": {}, "inputs": 1}])
def test_a_body_that_holds_no_flow_is_refused(body: JsonValue) -> None:
    with pytest.raises(InvalidDefinition):
        split_submission(body)


def test_a_bare_definition_is_taken_as_it_is() -> None:
    submission = split_submission(_flow())
    assert submission.prefix == ""
    assert submission.input == {}


@given(JSON)
def test_no_json_raises_anything_else(value: JsonValue) -> None:
    _judge(value)
    _judge(_flow(tasks=value))
    _judge(_flow(conditions=[value]))
    _judge(_flow(start_task=value))
