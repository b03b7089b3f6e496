"""Reading definitions with mistakes: what is still known of them."""

from typing import Any

from hypothesis import given
from pydantic import JsonValue

from shared.findings import Findings
from shared.readable import read_graph, read_names
from shared.shape import Shape, read_definition
from tests.unit.test_documents import JSON


def _read(raw: JsonValue) -> tuple[Shape, Findings]:
    findings = Findings(20)
    return read_definition(raw, "", findings), findings


def _flow(tasks: JsonValue, conditions: JsonValue) -> dict[str, JsonValue]:
    return {"id": "x", "start_task": "a", "tasks": tasks, "conditions": conditions}


def _lead(source: str, success: Any, failure: Any = "end") -> dict[str, JsonValue]:
    return {
        "source_task": source,
        "target_task_success": success,
        "target_task_failure": failure,
    }


def test_a_good_definition_is_read_whole() -> None:
    shape, findings = _read(_flow([{"name": "a"}], []))
    assert findings.error_count == 0
    assert shape.definition is not None
    assert [task.name for task in shape.definition.tasks] == ["a"]


def test_a_retry_of_another_kind_is_told_both_forms() -> None:
    wrong: list[JsonValue] = ["3", [3], True]
    for retry in wrong:
        _, findings = _read(_flow([{"name": "a", "retry": retry}], []))
        (error,) = findings.errors
        assert error.pointer == "/tasks/0/retry"
        assert "a whole number, which is the attempts in all, or an object" in error.message


def test_a_bad_item_leaves_the_others_readable() -> None:
    shape, findings = _read(_flow([{"name": "a", "x": 1}, {"name": "b"}], [7, _lead("a", "b")]))
    assert shape.definition is None
    assert shape.bad_conditions == {0}
    assert [error.pointer for error in findings.errors] == ["/tasks/0/x", "/conditions/0"]
    assert list(read_names(shape.tasks).first) == ["a", "b"]


def test_a_mistake_inside_a_list_is_told_of_the_item_only() -> None:
    _, findings = _read(_flow([{"name": "a"}], [_lead("a", ["b", 5, ""])]))
    assert {(error.pointer, error.code) for error in findings.errors} == {
        ("/conditions/0/target_task_success/1", "wrong_type"),
        ("/conditions/0/target_task_success/2", "empty_name"),
    }


def test_names_are_guessed_where_their_field_is_misspelt() -> None:
    names = read_names([{"nme": "a"}, "b", {"name": "c"}, {"name": "c"}])
    assert names.guessed == {"a", "b"}
    assert names.repeated == {"c"}
    assert names.is_complete
    assert names.may_exist("a")
    assert not names.may_exist("d")


def test_any_name_may_exist_where_one_cannot_be_read() -> None:
    tasks: list[JsonValue] = [{}, 7, {"name": ""}, {"name": None}]
    for task in tasks:
        assert read_names([task]).may_exist("d")
    assert read_names(None).may_exist("d")


def test_an_unknown_target_is_a_way_out_of_a_cycle() -> None:
    for target, traps in (("a", 1), ("nobody", 0), (["a", "nobody"], 0)):
        shape, _ = _read(_flow([{"name": "a"}], [_lead("a", "a", target)]))
        readable = read_graph(shape, read_names(shape.tasks))
        assert readable is not None
        assert len(readable.graph.cycles_without_exit()) == traps
        assert readable.is_whole is (target == "a")


def test_there_is_no_graph_where_a_source_or_the_start_is_unknown() -> None:
    for flow in (
        _flow([{"name": "a"}], [_lead("nobody", "a")]),
        _flow([{"name": "b"}], []),
        _flow([{"name": "a"}], None),
    ):
        shape, _ = _read(flow)
        assert read_graph(shape, read_names(shape.tasks)) is None


@given(JSON, JSON)
def test_anything_can_be_read(tasks: JsonValue, conditions: JsonValue) -> None:
    for raw in (tasks, _flow(tasks, conditions), _flow([{"name": "a"}, tasks], [conditions])):
        shape, findings = _read(raw)
        read_graph(shape, read_names(shape.tasks))
        assert (shape.definition is None) is bool(findings.error_count)
