"""Judging definitions in bounded time, and bodies that hold none."""

import time
from typing import Any

import pytest
from pydantic import JsonValue

from shared.errors import InvalidDefinition
from shared.findings import MAX_FINDINGS
from shared.submissions import split_submission
from shared.validation import Limits, validate_definition
from tests.unit.validation_flows import condition, flow_of, judge


def test_a_hundred_thousand_mistakes_cost_no_more_than_twenty() -> None:
    flow = flow_of(tasks=[{"nme": 1}] * 100_000)
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


def test_two_hundred_thousand_unknown_fields_are_counted_and_cost_next_to_nothing() -> None:
    stray = {f"x{number}": 1 for number in range(200_000)}
    for flow in (flow_of(**stray), flow_of(tasks=[{"name": "fetch", **stray}])):
        before = time.process_time()
        judged = judge(flow)
        assert time.process_time() - before < 0.1
        assert len(judged.errors) == MAX_FINDINGS
        assert judged.error_count == 200_000


def test_suggestions_among_twenty_thousand_tasks_are_bounded() -> None:
    count = 20_000
    flow: dict[str, Any] = {
        "id": "large",
        "start_task": "task_0_of_it",
        "tasks": [{"name": f"task_{n}_of_it", "type": "nop"} for n in range(count)],
        "conditions": [
            {"source_task": f"tsk_{n}_of_it", "target_task_success": f"tak_{n}_of_it"}
            for n in range(count)
        ],
    }
    before = time.process_time()
    judged = judge(flow)
    assert time.process_time() - before < 1.5
    assert len(judged.errors) == MAX_FINDINGS
    assert judged.error_count > count


def test_too_many_tasks_and_targets_are_refused_before_they_are_read() -> None:
    judged = validate_definition(flow_of(tasks=[{}] * 30), limits=Limits(max_tasks=20))
    assert [error.code for error in judged.errors] == ["too_many_tasks"]
    many = flow_of(conditions=[condition(target_task_success=["store"] * 30)])
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
    judged = judge(flow)
    assert time.process_time() - before < 1
    assert judged.errors == ()


@pytest.mark.parametrize("body", [[], None, 7, "x", {}, {"input": {}}, {"flow": {}, "inputs": 1}])
def test_a_body_that_holds_no_flow_is_refused(body: JsonValue) -> None:
    with pytest.raises(InvalidDefinition):
        split_submission(body)


def test_a_bare_definition_is_taken_as_it_is() -> None:
    submission = split_submission(flow_of())
    assert submission.prefix == ""
    assert submission.input == {}
