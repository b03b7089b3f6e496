"""Findings about ``compensate`` and ``finally``."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest

from shared.validation import Validated, validate_definition

Fields = dict[str, Any]


def _judge(
    tasks: list[Fields], conditions: Sequence[Fields] = (), last: Any = None, **fields: Any
) -> Validated:
    definition = {
        "id": "f",
        "start_task": "a",
        "tasks": tasks,
        "conditions": list(conditions),
        "finally": last,
        **fields,
    }
    return validate_definition(definition)


def _errors(judged: Validated) -> list[tuple[str, str]]:
    return [(finding.pointer, finding.code) for finding in judged.errors]


def _warnings(judged: Validated) -> list[tuple[str, str]]:
    return [(finding.pointer, finding.code) for finding in judged.warnings]


A: Fields = {"name": "a", "compensate": "una"}


def test_tasks_that_run_at_the_end_need_no_path_to_them() -> None:
    judged = _judge([A, {"name": "una"}, {"name": "tidy"}], last="tidy")
    assert (judged.errors, judged.warnings) == ((), ())
    assert judged.flow is not None
    assert judged.flow.undoing is not None


def test_other_mistakes_do_not_make_them_unreachable() -> None:
    judged = _judge([A, {"name": "una"}, {"name": "tidy"}], last="tidy", timeout=-1)
    assert _errors(judged) == [("/timeout", "wrong_value")]
    assert judged.warnings == ()


@pytest.mark.parametrize(
    ("tasks", "fields", "expected"),
    [
        ([A], {}, ("/tasks/0/compensate", "unknown_task")),
        ([{"name": "a"}], {"last": "tidy"}, ("/finally", "unknown_task")),
        ([{"name": "a", "compensate": "a"}], {}, ("/tasks/0/compensate", "undoes_itself")),
        ([A, {"name": "una"}], {"start_task": "una"}, ("/start_task", "runs_at_end")),
        ([{"name": "a"}], {"last": "a"}, ("/start_task", "runs_at_end")),
        (
            [A, {"name": "una", "compensate": "b"}, {"name": "b"}],
            {},
            ("/tasks/1/compensate", "runs_at_end"),
        ),
        ([A, {"name": "una", "for_each": "[1]"}], {}, ("/tasks/1/for_each", "runs_at_end")),
        ([A, {"name": "una", "join": "any"}], {}, ("/tasks/1/join", "runs_at_end")),
        ([A, {"name": "una", "tolerate": 1}], {}, ("/tasks/1/tolerate", "runs_at_end")),
        ([A, {"name": "una", "route": "all"}], {}, ("/tasks/1/route", "runs_at_end")),
        ([{"name": "a", "compensate": 1}], {}, ("/tasks/0/compensate", "wrong_type")),
        ([{"name": "a"}], {"last": ["a"]}, ("/finally", "wrong_type")),
    ],
)
def test_a_mistake_is_told_with_its_place(
    tasks: list[Fields], fields: Fields, expected: tuple[str, str]
) -> None:
    assert expected in _errors(_judge(tasks, **fields))


def test_an_unknown_compensation_is_guessed() -> None:
    (finding,) = _judge([{"name": "a", "compensate": "unda"}, {"name": "unda2"}]).errors
    assert finding.suggestion == 'did you mean "unda2"?'


@pytest.mark.parametrize(
    ("condition", "place"),
    [
        ({"source_task": "una", "target_task_success": "end"}, "source_task"),
        ({"source_task": "a", "target_task_success": "una"}, "target_task_success"),
        ({"source_task": "a", "target_task_success": ["b", "una"]}, "target_task_success/1"),
        (
            {"source_task": "a", "target_task_success": "b", "target_task_error": "una"},
            "target_task_error",
        ),
    ],
)
def test_no_condition_leads_to_or_from_them(condition: Fields, place: str) -> None:
    judged = _judge([A, {"name": "una"}, {"name": "b"}], [condition])
    assert (f"/conditions/0/{place}", "runs_at_end") in _errors(judged)


CHAIN = [{"source_task": "a", "target_task_success": "b", "target_task_failure": "c"}]


def _references(expression: str, *, in_last: bool = False) -> Validated:
    told = {"params": {"x": f"${{{expression}}}"}}
    una: Fields = {} if in_last else told
    tidy: Fields = told if in_last else {}
    return _judge(
        [
            {"name": "a"},
            {"name": "b"},
            {"name": "c", "compensate": "una", "for_each": "[1]"},
            {"name": "una", **una},
            {"name": "tidy", **tidy},
        ],
        CHAIN,
        last="tidy",
    )


@pytest.mark.parametrize(
    "expression",
    [
        "tasks.c.data",
        "tasks.a.data",
        "run.status",
        "run.outcome",
        "run.error",
        "item",
        "index",
        "previous",
        "'b' in tasks",
    ],
)
def test_what_undoes_a_task_knows_what_came_before_that(expression: str) -> None:
    judged = _references(expression)
    assert judged.errors == ()
    assert _warnings(judged) == []


def test_it_may_have_to_do_without_what_lies_on_another_path() -> None:
    judged = _references("tasks.b.data")
    assert judged.errors == ()
    assert _warnings(judged) == [("/tasks/3/params/x", "may_not_have_run")]


def test_nothing_has_surely_run_before_the_last_task() -> None:
    judged = _references("[tasks.a.data, tasks.una.data]", in_last=True)
    assert judged.errors == ()
    assert _warnings(judged) == [("/tasks/4/params/x", "may_not_have_run")] * 2


def test_the_last_task_has_run_before_nothing() -> None:
    assert _errors(_references("tasks.tidy.data")) == [("/tasks/3/params/x", "never_ran")]
    assert _errors(_references("item", in_last=True)) == [("/tasks/4/params/x", "unknown_name")]


def test_how_a_run_ends_is_known_to_nobody_before() -> None:
    tasks: list[Fields] = [{**A, "params": {"x": "${run.status}"}}, {"name": "una"}]
    judged = _judge(tasks, output="${run.error}")
    assert _errors(judged) == [
        ("/tasks/0/params/x", "unknown_name"),
        ("/output", "unknown_name"),
    ]


def test_a_task_that_undoes_no_list_knows_no_item() -> None:
    judged = _judge([A, {"name": "una", "params": {"x": "${item}"}}])
    assert _errors(judged) == [("/tasks/1/params/x", "unknown_name")]


def test_ten_thousand_tasks_with_one_compensation_are_judged_soon() -> None:
    names = [f"t{number}" for number in range(10_000)]
    told = {"x": [f"${{tasks.{name}.data}}" for name in names[:500]]}
    judged = _judge(
        [*({"name": name, "compensate": "una"} for name in names), {"name": "una", "params": told}],
        [
            {"source_task": source, "target_task_success": target}
            for source, target in pairwise(names)
        ],
        start_task="t0",
    )
    assert judged.errors == ()
