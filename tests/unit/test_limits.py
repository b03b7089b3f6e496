"""Keys and bounds of limits, as definitions give them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.durations import Rate
from shared.errors import ExpressionError
from shared.expressions import Scope
from shared.limits import MAX_SHOWN_KEY, Bounds, Limit, LimitKey, run_limit
from shared.validation import Validated, validate_definition

TYPES = frozenset({"noop", "a ${odd} type"})


def _judge(task: dict[str, Any] | None = None, **flow: Any) -> Validated:
    definition = {
        "id": "f",
        "start_task": "a",
        "tasks": [{"name": "a", "type": "noop", **(task or {})}, {"name": "b", "type": "noop"}],
        "conditions": [{"source_task": "a", "target_task_success": "b"}],
        **flow,
    }
    return validate_definition(definition, prefix="/flow", task_types=TYPES)


def _limit(task: dict[str, Any]) -> Limit:
    judged = _judge(task)
    assert judged.flow is not None, judged.errors
    return judged.flow.limits["a"]


def _key(text: str, **scope: Any) -> LimitKey:
    return _limit({"limit": {"key": text, "concurrency": 1}}).key_in(Scope(**scope))


def test_a_flow_without_limits_has_none() -> None:
    judged = _judge()
    assert judged.flow is not None
    assert judged.flow.limits == {}
    assert run_limit(judged.flow.definition, None) is None


def test_bounds_are_what_the_definition_says() -> None:
    assert _limit({"limit": {"concurrency": 3}}).bounds == Bounds(3, None)
    assert _limit({"limit": {"rate": "10/30s"}}).bounds == Bounds(None, Rate(10, 30.0))


def test_the_key_is_the_type_where_none_is_given() -> None:
    limit = _limit({"limit": {"concurrency": 1}, "type": "a ${odd} type"})
    assert limit.key_in(Scope()).shown == "a ${odd} type"


def test_a_number_and_its_text_are_one_key() -> None:
    keys = [_key("${input}", input=value) for value in (5, "5")]
    assert keys[0] == keys[1]
    assert _key("${input}", input=True).shown == "true"
    assert _key("x-${input.a}-y", input={"a": 1}).shown == "x-1-y"


@pytest.mark.parametrize("value", [[1], {"a": 1}, [], {}])
def test_a_key_that_is_no_plain_value_is_an_error(value: Any) -> None:
    with pytest.raises(ExpressionError, match=r"limit\.key must give a text or a number"):
        _key("${input}", input=value)


@given(st.lists(st.text(max_size=400), min_size=2, max_size=2, unique=True))
def test_keys_that_differ_are_never_one(texts: list[str]) -> None:
    one, other = (_key("${input}", input=text) for text in texts)
    assert one.id != other.id
    assert len(one.shown) <= MAX_SHOWN_KEY
    assert one.shown.isprintable()


def test_long_keys_that_differ_at_their_ends_are_two() -> None:
    assert _key("${input}", input="x" * 999 + "a").id != _key("${input}", input="x" * 999 + "b").id


def test_a_runs_key_belongs_to_its_flow() -> None:
    flows = [_judge(id=name, concurrency={"key": "${input.c}"}).flow for name in ("f", "g")]
    limits = [run_limit(flow.definition, {"c": 1}) for flow in flows if flow is not None]
    assert [limit.key.shown for limit in limits if limit] == ["1", "1"]
    assert len({limit.key.id for limit in limits if limit}) == 2
    task = _key("1")
    assert task.id not in {limit.key.id for limit in limits if limit}


def test_without_a_key_all_runs_of_a_flow_count_together() -> None:
    flow = _judge(concurrency={"limit": 4, "on_limit": "refuse"}).flow
    assert flow is not None
    one, other = run_limit(flow.definition, 1), run_limit(flow.definition, {"a": 2})
    assert one == other
    assert one is not None
    assert (one.bounds, one.on_limit) == (Bounds(4), "refuse")


LIMIT = "/flow/tasks/0/limit"


@pytest.mark.parametrize(
    ("task", "pointer", "code"),
    [
        ({"limit": {}}, LIMIT, "empty_limit"),
        ({"limit": {"key": "x"}}, LIMIT, "empty_limit"),
        ({"limit": {"concurrency": None, "rate": None}}, LIMIT, "empty_limit"),
        ({"limit": {"concurrency": 0}}, f"{LIMIT}/concurrency", "too_small"),
        ({"limit": {"concurrency": 2**31}}, f"{LIMIT}/concurrency", "too_large"),
        ({"limit": {"rate": "fast"}}, f"{LIMIT}/rate", "wrong_value"),
        ({"limit": {"rate": "0/s"}}, f"{LIMIT}/rate", "wrong_value"),
        ({"limit": {"rate": 5}}, f"{LIMIT}/rate", "wrong_type"),
        ({"limit": {"concurency": 5}}, f"{LIMIT}/concurency", "unknown_field"),
        ({"limit": 5}, LIMIT, "wrong_type"),
        ({"limit": {"key": "${", "rate": "1/s"}}, f"{LIMIT}/key", "bad_expression"),
        ({"limit": {"key": "${tasks.c.data}", "rate": "1/s"}}, f"{LIMIT}/key", "unknown_task"),
        ({"limit": {"key": "${tasks.b.data}", "rate": "1/s"}}, f"{LIMIT}/key", "never_ran"),
        ({"limit": {"key": "${secrets.t}", "rate": "1/s"}}, f"{LIMIT}/key", "unknown_name"),
        ({"limit": {"key": "${item}", "rate": "1/s"}}, f"{LIMIT}/key", "unknown_name"),
    ],
)
def test_a_limit_that_makes_no_sense_is_told_with_its_place(
    task: dict[str, Any], pointer: str, code: str
) -> None:
    (finding,) = _judge(task).errors
    assert (finding.pointer, finding.code) == (pointer, code)


@pytest.mark.parametrize(
    ("concurrency", "field", "code"),
    [
        ({"limit": 0}, "/limit", "too_small"),
        ({"limit": 2**31}, "/limit", "too_large"),
        ({"on_limit": "queue"}, "/on_limit", "wrong_value"),
        ({"key": "${tasks.a.data}"}, "/key", "unknown_name"),
        ({"key": "${run.id}"}, "/key", "unknown_name"),
        ({"key": "${secrets.token}"}, "/key", "unknown_name"),
        ({"key": "${1 +}"}, "/key", "bad_expression"),
        ({"key": 7}, "/key", "wrong_type"),
        (7, "", "wrong_type"),
    ],
)
def test_a_concurrency_that_makes_no_sense_is_told_with_its_place(
    concurrency: Any, field: str, code: str
) -> None:
    (finding,) = _judge(concurrency=concurrency).errors
    assert (finding.pointer, finding.code) == (f"/flow/concurrency{field}", code)


def test_an_item_may_be_in_the_key_of_a_list() -> None:
    task = {"for_each": "input", "limit": {"key": "${item.host} ${index}", "concurrency": 1}}
    assert _judge(task).errors == ()


def test_the_texts_of_keys_count_as_expressions() -> None:
    key = "${" + "1 + " * 2_000 + "1}"
    tasks = [
        {"name": f"t{n}", "type": "noop", "limit": {"key": key, "concurrency": 1}}
        for n in range(200)
    ]
    errors = _judge(tasks=tasks, start_task="t0", conditions=[]).errors
    assert [(error.pointer, error.code) for error in errors] == [("/flow", "too_long")]
