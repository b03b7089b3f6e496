"""Judging definitions: every finding, its place, its code and what was probably meant."""

import copy
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from shared.errors import InvalidDefinition
from shared.findings import MAX_FINDINGS
from shared.submissions import split_submission
from shared.validation import Limits, Validated, validate_definition
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
         "/flow/tasks/0/timeout", "wrong_value"),
        (_flow(tasks=[{"name": "fetch", "type": "noop"}, {"name": "fetch", "type": "noop"},
                      {"name": "store", "type": "noop"}]),
         "/flow/tasks/1/name", "duplicate_name"),
        (_flow(tasks=[{"name": "fetch", "type": "noop"}, {"name": "end", "type": "noop"},
                      {"name": "store", "type": "noop"}]),
         "/flow/tasks/1/name", "reserved_name"),
        (_flow(tasks=[{"name": "fetch", "type": "nop"}, {"name": "store", "type": "noop"}]),
         "/flow/tasks/0/type", "unknown_task_type"),
        (_flow(tasks=[{"name": "fetch", "type": "noop", "params": {"a": ["${input.x +}"]}},
                      {"name": "store", "type": "noop"}]),
         "/flow/tasks/0/params/a/0", "bad_expression"),
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


def _told(judged: Validated) -> list[tuple[str, str]]:
    return [(error.pointer, error.code) for error in judged.errors]


def test_mistakes_of_every_kind_are_told_in_one_pass_in_their_order() -> None:
    flow = _flow(
        tasks=[
            {"name": "fetch", "type": "noop", "timout": 5},
            {"name": "store", "type": "noop"},
            {"name": "store", "type": "noop"},
            {"name": "ping", "type": "noop"},
            {"name": "pong", "type": "nop", "params": {"a": "${x}"}},
        ],
        conditions=[
            _condition(target_task_success=["ping", "nobody"]),
            {"source_task": "ping", "target_task_success": "pong", "target_task_failure": "pong"},
            {"source_task": "pong", "target_task_success": "ping", "target_task_failure": "ping"},
        ],
        tgs=[],
    )
    judged = _judge(flow)
    assert _told(judged) == [
        ("/flow/tasks/0/timout", "unknown_field"),
        ("/flow/tasks/2/name", "duplicate_name"),
        ("/flow/tasks/3", "endless_cycle"),
        ("/flow/tasks/4/type", "unknown_task_type"),
        ("/flow/tasks/4/params/a", "bad_expression"),
        ("/flow/conditions/0/target_task_success/1", "unknown_task"),
        ("/flow/tgs", "unknown_field"),
    ]
    assert judged.error_count == 7
    assert judged.flow is None


_NOOP = {"type": "noop"}


@pytest.mark.parametrize(
    ("flow", "pointer", "code"),
    [
        (_flow(tasks=[{"name": "fetch", **_NOOP, "timeout": "x"}, {"name": "store", **_NOOP}]),
         "/flow/tasks/0/timeout", "wrong_value"),
        (_flow(tasks=[{"nme": "fetch", **_NOOP, "name": 5}, {"name": "store", **_NOOP}]),
         "/flow/tasks/0/name", "wrong_type"),
        (_flow(tasks=[{"name": "fetch", "typ": "noop"}, {"name": "store", **_NOOP}]),
         "/flow/tasks/0/typ", "unknown_field"),
        (_flow(tasks=["fetch", {"name": "store", **_NOOP}]), "/flow/tasks/0", "wrong_type"),
        (_flow(tasks=[{**_NOOP}, {"name": "store", **_NOOP}]), "/flow/tasks/0", "missing_field"),
        (_flow(tasks=[{"name": "", **_NOOP}, {"name": "store", **_NOOP}]),
         "/flow/tasks/0/name", "empty_name"),
        (_flow(tasks={}), "/flow/tasks", "wrong_type"),
        (_flow(tasks=...), "/flow", "missing_field"),
        (_flow(conditions=7), "/flow/conditions", "wrong_type"),
        (_flow(conditions=[{"source_task": "fetch"}]), "/flow/conditions/0", "missing_field"),
        (_flow(conditions=[_condition(target_task_success="")]),
         "/flow/conditions/0/target_task_success", "empty_name"),
        (_flow(conditions=[_condition(target_task_failure=["store", 5])]),
         "/flow/conditions/0/target_task_failure/1", "wrong_type"),
        (_flow(start_task=""), "/flow/start_task", "empty_name"),
    ],
)  # fmt: skip
def test_one_mistake_is_told_once_and_draws_no_other(
    flow: JsonValue, pointer: str, code: str
) -> None:
    judged = _judge(flow)
    others = {told for told in _told(judged) if told != (pointer, code)}
    # Of a misspelt name both the stray field and the wrong one may be told.
    assert others <= {("/flow/tasks/0/nme", "unknown_field")}
    assert (pointer, code) in _told(judged)
    assert not [w for w in judged.warnings if w.code == "unreachable_task"]


def test_a_misspelt_name_field_does_not_hide_an_unknown_target() -> None:
    tasks = [{"nme": "fetch", "type": "noop"}, {"name": "store", "type": "noop"}]
    judged = _judge(_flow(tasks=tasks, conditions=[_condition(target_task_failure="nobody")]))
    assert set(_told(judged)) == {
        ("/flow/tasks/0", "missing_field"),
        ("/flow/tasks/0/nme", "unknown_field"),
        ("/flow/conditions/0/target_task_failure", "unknown_task"),
    }


@pytest.mark.parametrize(
    "last",
    [
        {"source_task": "storr", "target_task_success": "end", "outcome": "failure"},
        {"source_task": "store", "target_task_success": "end", "outcom": "failure"},
        {"source_task": "store", "target_task_success": "nobody", "outcome": "failure"},
    ],
)
def test_a_cycle_that_a_wrong_condition_may_leave_is_not_called_endless(last: JsonValue) -> None:
    back = {"source_task": "store", "target_task_success": "fetch", "target_task_failure": "fetch"}
    there = _condition(target_task_failure="store")
    assert "endless_cycle" in [e.code for e in _judge(_flow(conditions=[there, back])).errors]
    judged = _judge(_flow(conditions=[there, back, last]))
    assert len(judged.errors) == 1
    assert "endless_cycle" not in [e.code for e in judged.errors]


def test_a_mistake_that_is_not_in_the_graph_keeps_the_warnings_of_the_graph() -> None:
    tasks = [{"name": name, "type": "noop", "timout": 1} for name in ("fetch", "store")]
    judged = _judge(_flow(tasks=tasks, conditions=[]))
    assert [warning.pointer for warning in judged.warnings] == ["/flow/tasks/1"]


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
    before = _judge(flow)
    assert before.errors == ()
    wrong = copy.deepcopy(flow)
    expected = mistake(wrong)
    after = _judge(wrong)
    assert _told(after) == [expected]
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
    assert set(_told(_judge(flow))) == expected


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


def test_two_hundred_thousand_unknown_fields_are_counted_and_cost_next_to_nothing() -> None:
    stray = {f"x{number}": 1 for number in range(200_000)}
    for flow in (_flow(**stray), _flow(tasks=[{"name": "fetch", **stray}])):
        before = time.process_time()
        judged = _judge(flow)
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
    judged = _judge(flow)
    assert time.process_time() - before < 1.5
    assert len(judged.errors) == MAX_FINDINGS
    assert judged.error_count > count


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
