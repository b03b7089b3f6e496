"""Judging definitions: every finding, its place, its code and what was probably meant."""

import pytest
from pydantic import JsonValue

from shared.validation import validate_definition
from tests.unit.validation_flows import condition, findings_of, flow_of, judge


def test_a_good_definition_has_no_finding() -> None:
    judged = judge(flow_of())
    assert judged.errors == judged.warnings == ()
    assert judged.flow is not None
    assert judged.flow.graph.names == ("fetch", "store")


@pytest.mark.parametrize(
    ("flow", "pointer", "code"),
    [
        ([], "/flow", "wrong_type"),
        (None, "/flow", "wrong_type"),
        (flow_of(tasks=...), "/flow", "missing_field"),
        (flow_of(tasks=[]), "/flow/tasks", "no_tasks"),
        (flow_of(tasks={}), "/flow/tasks", "wrong_type"),
        (flow_of(conditions="x"), "/flow/conditions", "wrong_type"),
        (flow_of(id=...), "/flow", "missing_field"),
        (flow_of(id=7), "/flow/id", "wrong_type"),
        (flow_of(id=""), "/flow/id", "empty_name"),
        (flow_of(id="x" * 201), "/flow/id", "too_long"),
        (flow_of(id="a\nb"), "/flow/id", "bad_characters"),
        (flow_of(start_task=...), "/flow", "missing_field"),
        (flow_of(start_task="fetsh"), "/flow/start_task", "unknown_task"),
        (flow_of(max_task_runs=0), "/flow/max_task_runs", "too_small"),
        (flow_of(tasks=[{}]), "/flow/tasks/0", "missing_field"),
        (flow_of(tasks=["fetch"]), "/flow/tasks/0", "wrong_type"),
        (flow_of(tasks=[{"name": "fetch", "type": "noop", "nme": 1}]), "/flow/tasks/0/nme",
         "unknown_field"),
        (flow_of(tasks=[{"name": "fetch", "type": "noop", "timeout": -1}]),
         "/flow/tasks/0/timeout", "wrong_value"),
        (flow_of(tasks=[{"name": "fetch", "type": "noop"}, {"name": "fetch", "type": "noop"},
                      {"name": "store", "type": "noop"}]),
         "/flow/tasks/1/name", "duplicate_name"),
        (flow_of(tasks=[{"name": "fetch", "type": "noop"}, {"name": "end", "type": "noop"},
                      {"name": "store", "type": "noop"}]),
         "/flow/tasks/1/name", "reserved_name"),
        (flow_of(tasks=[{"name": "fetch", "type": "nop"}, {"name": "store", "type": "noop"}]),
         "/flow/tasks/0/type", "unknown_task_type"),
        (flow_of(tasks=[{"name": "fetch", "type": "noop", "params": {"a": ["${input.x +}"]}},
                      {"name": "store", "type": "noop"}]),
         "/flow/tasks/0/params/a/0", "bad_expression"),
        (flow_of(conditions=[condition(source_task="fetsh")]),
         "/flow/conditions/0/source_task", "unknown_task"),
        (flow_of(conditions=[condition(target_task_success="stor")]),
         "/flow/conditions/0/target_task_success", "unknown_task"),
        (flow_of(conditions=[condition(target_task_failure=["store", "x"])]),
         "/flow/conditions/0/target_task_failure/1", "unknown_task"),
        (flow_of(conditions=[condition(target_task_success=["store", "store"])]),
         "/flow/conditions/0/target_task_success/1", "duplicate_head"),
        (flow_of(conditions=[condition(target_task_success=["store", "end"])]),
         "/flow/conditions/0/target_task_success/1", "end_in_list"),
        (flow_of(conditions=[condition(target_task_success=[])]),
         "/flow/conditions/0/target_task_success", "empty_list"),
        (flow_of(conditions=[condition(target_task_success=5)]),
         "/flow/conditions/0/target_task_success", "wrong_type"),
        (flow_of(conditions=[condition(outcome="maybe")]),
         "/flow/conditions/0/outcome", "wrong_value"),
        (flow_of(conditions=[
            condition(target_task_failure="store"),
            {"source_task": "store", "target_task_success": "fetch",
             "target_task_failure": "fetch"}]),
         "/flow/tasks/0", "endless_cycle"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place(flow: JsonValue, pointer: str, code: str) -> None:
    judged = judge(flow)
    assert (pointer, code) in [(error.pointer, error.code) for error in judged.errors]
    assert judged.flow is None


@pytest.mark.parametrize(
    ("flow", "suggestion"),
    [
        (flow_of(start_task="Fetch"), "fetch"),
        (flow_of(conditions=[condition(target_task_success="stor")]), "store"),
        (flow_of(tasks=[{"name": "fetch", "type": "fetch_dta"}, {"name": "store", "type": "noop"}]),
         "fetch_data"),
        (flow_of(tasks=[{"name": "fetch", "type": "noop", "descripton": ""}]), "description"),
        (flow_of(start_tsk="fetch"), "start_task"),
    ],
)  # fmt: skip
def test_what_was_probably_meant_is_suggested(flow: JsonValue, suggestion: str) -> None:
    assert any(suggestion in (error.suggestion or "") for error in judge(flow).errors)


@pytest.mark.parametrize(
    ("flow", "pointer", "code"),
    [
        (flow_of(conditions=[]), "/flow/tasks/1", "unreachable_task"),
        (flow_of(conditions=[condition(), condition()]), "/flow/conditions/1", "never_applies"),
        (flow_of(conditions=[condition(outcome="failure")]), "/flow/conditions/0/outcome",
         "outcome_failure"),
    ],
)  # fmt: skip
def test_what_is_doubtful_is_a_warning(flow: JsonValue, pointer: str, code: str) -> None:
    judged = judge(flow)
    assert judged.errors == ()
    assert (pointer, code) in [(warning.pointer, warning.code) for warning in judged.warnings]
    assert judged.flow is not None


def test_several_mistakes_are_told_at_once() -> None:
    judged = judge(
        flow_of(
            start_task="nobody",
            conditions=[condition(source_task="x", target_task_success="y")],
        )
    )
    assert len(judged.errors) == 3


def test_mistakes_of_every_kind_are_told_in_one_pass_in_their_order() -> None:
    flow = flow_of(
        tasks=[
            {"name": "fetch", "type": "noop", "timout": 5},
            {"name": "store", "type": "noop"},
            {"name": "store", "type": "noop"},
            {"name": "ping", "type": "noop"},
            {"name": "pong", "type": "nop", "params": {"a": "${x}"}},
        ],
        conditions=[
            condition(target_task_success=["ping", "nobody"]),
            {"source_task": "ping", "target_task_success": "pong", "target_task_failure": "pong"},
            {"source_task": "pong", "target_task_success": "ping", "target_task_failure": "ping"},
        ],
        tgs=[],
    )
    judged = judge(flow)
    assert findings_of(judged) == [
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
        (flow_of(tasks=[{"name": "fetch", **_NOOP, "timeout": "x"}, {"name": "store", **_NOOP}]),
         "/flow/tasks/0/timeout", "wrong_value"),
        (flow_of(tasks=[{"nme": "fetch", **_NOOP, "name": 5}, {"name": "store", **_NOOP}]),
         "/flow/tasks/0/name", "wrong_type"),
        (flow_of(tasks=[{"name": "fetch", "typ": "noop"}, {"name": "store", **_NOOP}]),
         "/flow/tasks/0/typ", "unknown_field"),
        (flow_of(tasks=["fetch", {"name": "store", **_NOOP}]), "/flow/tasks/0", "wrong_type"),
        (flow_of(tasks=[{**_NOOP}, {"name": "store", **_NOOP}]), "/flow/tasks/0", "missing_field"),
        (flow_of(tasks=[{"name": "", **_NOOP}, {"name": "store", **_NOOP}]),
         "/flow/tasks/0/name", "empty_name"),
        (flow_of(tasks={}), "/flow/tasks", "wrong_type"),
        (flow_of(tasks=...), "/flow", "missing_field"),
        (flow_of(conditions=7), "/flow/conditions", "wrong_type"),
        (flow_of(conditions=[{"source_task": "fetch"}]), "/flow/conditions/0", "missing_field"),
        (flow_of(conditions=[condition(target_task_success="")]),
         "/flow/conditions/0/target_task_success", "empty_name"),
        (flow_of(conditions=[condition(target_task_failure=["store", 5])]),
         "/flow/conditions/0/target_task_failure/1", "wrong_type"),
        (flow_of(start_task=""), "/flow/start_task", "empty_name"),
    ],
)  # fmt: skip
def test_one_mistake_is_told_once_and_draws_no_other(
    flow: JsonValue, pointer: str, code: str
) -> None:
    judged = judge(flow)
    others = {told for told in findings_of(judged) if told != (pointer, code)}
    # Of a misspelt name both the stray field and the wrong one may be told.
    assert others <= {("/flow/tasks/0/nme", "unknown_field")}
    assert (pointer, code) in findings_of(judged)
    assert not [w for w in judged.warnings if w.code == "unreachable_task"]


def test_a_task_that_is_to_be_cancelled_must_exist() -> None:
    flow = flow_of(
        tasks=[
            {"name": "fetch", "type": "cancel", "params": {"tasks": ["store", "stor", "${input}"]}},
            {"name": "store", "type": "store_data"},
        ]
    )
    (error,) = validate_definition(flow, prefix="/flow").errors
    assert (error.pointer, error.code) == ("/flow/tasks/0/params/tasks/1", "unknown_task")
    assert error.suggestion == 'did you mean "store"?'


def test_a_misspelt_name_field_does_not_hide_an_unknown_target() -> None:
    tasks = [{"nme": "fetch", "type": "noop"}, {"name": "store", "type": "noop"}]
    judged = judge(flow_of(tasks=tasks, conditions=[condition(target_task_failure="nobody")]))
    assert set(findings_of(judged)) == {
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
    there = condition(target_task_failure="store")
    assert "endless_cycle" in [e.code for e in judge(flow_of(conditions=[there, back])).errors]
    judged = judge(flow_of(conditions=[there, back, last]))
    assert len(judged.errors) == 1
    assert "endless_cycle" not in [e.code for e in judged.errors]


def test_a_mistake_that_is_not_in_the_graph_keeps_the_warnings_of_the_graph() -> None:
    tasks = [{"name": name, "type": "noop", "timout": 1} for name in ("fetch", "store")]
    judged = judge(flow_of(tasks=tasks, conditions=[]))
    assert [warning.pointer for warning in judged.warnings] == ["/flow/tasks/1"]
