"""What is doubtful is told, and what is not doubtful is left in peace."""

from typing import Any

import pytest

from tests.unit.validation_flows import condition, flow_of, judge

TASKS = [{"name": name, "type": "noop"} for name in ("fetch", "store", "last")]
TABLE = [
    condition(when="previous.n > 8"),
    condition(when="previous.n > 5", target_task_success="last"),
    condition(target_task_success="end"),
]


def _doubts(**flow: Any) -> list[tuple[str, str]]:
    judged = judge(flow_of(**flow))
    assert judged.errors == ()
    return [(doubt.pointer, doubt.code) for doubt in judged.warnings]


def test_the_conditions_of_a_decision_table_may_all_apply() -> None:
    assert _doubts(tasks=TASKS, conditions=TABLE) == []


def test_what_stands_behind_a_condition_that_always_applies_never_does() -> None:
    conditions = [TABLE[0], condition(target_task_success="last"), TABLE[1], TABLE[2]]
    assert _doubts(tasks=TASKS, conditions=conditions) == [
        ("/flow/conditions/2", "never_applies"),
        ("/flow/conditions/3", "never_applies"),
    ]


def test_a_condition_that_only_errors_reach_may_apply() -> None:
    conditions = [condition(), condition(target_task_error="last")]
    assert _doubts(tasks=TASKS, conditions=conditions) == []


def test_all_conditions_apply_where_all_of_them_fire() -> None:
    tasks = [{**TASKS[0], "route": "all"}, *TASKS[1:]]
    conditions = [condition(), condition(target_task_success="last")]
    assert _doubts(tasks=tasks, conditions=conditions) == []


@pytest.mark.parametrize(
    ("expression", "is_told"),
    [
        ("${tasks.store.data.n}", True),
        ("${tasks.store.data.n if 'store' in tasks else 0}", False),
        ("${'store' in tasks and tasks.store.data.n > 1}", False),
        ("${'fetch' in tasks and tasks.store.data.n > 1}", True),
    ],
)
def test_who_asks_whether_a_task_has_run_is_not_told_to_ask(expression: str, is_told: bool) -> None:
    params = {"other": "${'store' in tasks}", "n": expression}
    again = {"source_task": "store", "target_task_success": "end", "target_task_failure": "fetch"}
    tasks = [{**TASKS[0], "params": params}, TASKS[1]]
    told = _doubts(tasks=tasks, conditions=[condition(), again])
    assert told == ([("/flow/tasks/0/params/n", "may_not_have_run")] if is_told else [])
