"""Params are held against the schemas of their types, as far as they are known before a run."""

from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from shared.control_tasks import WaitForSignal
from shared.errors import InvalidParams
from shared.registry import load_registry
from shared.task_params import read_params
from shared.validation import Validated, validate_definition

TYPES = load_registry(()).types()


class Size(BaseModel):
    model_config = ConfigDict(extra="forbid")
    width: int


class Resize(BaseModel):
    model_config = ConfigDict(extra="forbid")
    size: Size
    name: str = ""
    quality: float | None = None
    tags: list[str] = []  # pydantic copies it


SCHEMAS = {**TYPES.params_schemas, "resize": Resize.model_json_schema()}


def _judge(task_type: str, params: Any, *more: dict[str, Any]) -> Validated:
    task: dict[str, Any] = {"name": "t", "type": task_type}
    if params is not None:
        task["params"] = params
    return validate_definition(
        {"id": "f", "start_task": "t", "tasks": [task, *more]},
        prefix="/flow",
        task_types=TYPES.names | {"resize"},
        params_schemas=SCHEMAS,
    )


@pytest.mark.parametrize(
    ("task_type", "params"),
    [
        ("noop", {"anything": [1, 2]}),
        ("noop", None),
        ("sleep", None),
        ("sleep", {"for": "5m"}),
        ("sleep", {"for": 2.5}),
        ("sleep", {"until": "2030-01-01T00:00:00Z"}),
        ("sleep", {"for": "${input.seconds}"}),
        ("wait_for_signal", {"signal": "go", "timeout": None, "schema": {"type": "object"}}),
        ("transform", {"a": "${input.a}"}),
        ("http_request", {"url": "https://example.org/${input.id}", "method": "get"}),
        ("http_request", {"url": "${input.url}", "expect": 200, "json": {"a": ["${input.a}"]}}),
        ("http_request", {"url": "https://example.org", "expect": ["2xx", 404]}),
        ("resize", {"size": {"width": "${input.width}"}}),
        ("resize", {"size": "${input.size}", "quality": "${input.quality}"}),
        ("resize", {"size": {"width": 3}, "tags": "${input.tags}"}),
        ("resize", {"size": {"width": 3}, "tags": ["a", "${input.tag}", "b-${input.tag}"]}),
        ("flow", {"flow_id": "child", "version": "${input.version}", "input": 3}),
    ],
)
def test_what_fits_or_may_fit_is_accepted(task_type: str, params: Any) -> None:
    assert _judge(task_type, params).errors == ()


@pytest.mark.parametrize(
    ("task_type", "params", "pointer", "code", "message"),
    [
        ("wait_for_signal", None, "", "missing_param", 'the param "signal" is missing'),
        ("wait_for_signal", {}, "/params", "missing_param", 'the param "signal" is missing'),
        ("wait_for_signal", {"signal": 3}, "/params/signal", "bad_param", "of type string"),
        ("wait_for_signal", {"signal": ""}, "/params/signal", "bad_param", "at least 1 char"),
        ("sleep", {"fro": 3}, "/params/fro", "unknown_param", 'no param "fro"'),
        ("sleep", {"for": []}, "/params/for", "bad_param", "of type number, or must be of type"),
        ("sleep", {"for": "soon"}, "/params/for", "bad_param", "look like 30s, 5m or 1h30m"),
        ("sleep", {"until": "yesterday"}, "/params/until", "bad_param", "look like 2026-12-24T"),
        ("sleep", {"until": "2026-12-24"}, "/params/until", "bad_param", "look like 2026-12-24T"),
        (
            "http_request",
            {"url": "https://example.org", "method": "TRACE"},
            "/params/method",
            "bad_param",
            "look like GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS",
        ),
        ("fail", {"message": ["${input.x}"]}, "/params/message", "bad_param", "of type string"),
        ("http_request", {"url": 7}, "/params/url", "bad_param", "of type string"),
        ("resize", {"size": {}}, "/params/size", "missing_param", '"width" is missing'),
        ("resize", {"size": {"width": "x"}}, "/params/size/width", "bad_param", "integer"),
        ("resize", {"size": {"width": "${a}px"}}, "/params/size/width", "bad_param", "integer"),
        (
            "resize",
            {"size": {"width": 1, "hieght": "${input.h}"}},
            "/params/size/hieght",
            "unknown_param",
            'no param "hieght"',
        ),
        ("resize", {"size": {"width": 1}, "tags": ["a", 3]}, "/params/tags/1", "bad_param", "str"),
    ],
)
def test_what_does_not_fit_is_told_with_its_place(
    task_type: str, params: Any, pointer: str, code: str, message: str
) -> None:
    errors = [e for e in _judge(task_type, params).errors if e.code.endswith("_param")]
    assert [(e.pointer, e.code) for e in errors] == [(f"/flow/tasks/0{pointer}", code)]
    assert message in errors[0].message


@pytest.mark.parametrize(
    ("schema", "pointer", "code"),
    [
        ({"type": "objekt"}, "/type", "bad_schema"),
        ({"properties": {"a": {"pattern": "("}}}, "/properties/a/pattern", "bad_pattern"),
        ({"$ref": "https://example.org"}, "/$ref", "remote_reference"),
    ],
)
def test_a_param_that_is_a_schema_is_judged_as_one(schema: Any, pointer: str, code: str) -> None:
    errors = _judge("wait_for_signal", {"signal": "go", "schema": schema}).errors
    assert (f"/flow/tasks/0/params/schema{pointer}", code) in [(e.pointer, e.code) for e in errors]


def test_a_schema_with_expressions_is_judged_when_the_task_runs() -> None:
    params = {"signal": "go", "schema": {"const": "${input.answer}", "type": "objekt"}}
    assert _judge("wait_for_signal", params).errors == ()
    with pytest.raises(InvalidParams, match="/type: no JSON Schema"):
        read_params(WaitForSignal, {"signal": "go", "schema": {"type": "objekt"}})


def test_a_pattern_of_another_kind_is_left_to_the_model_of_the_type() -> None:
    validated = validate_definition(
        {"id": "f", "start_task": "t", "tasks": [{"name": "t", "params": {"code": "abc"}}]},
        task_types=["t"],
        params_schemas={"t": {"properties": {"code": {"pattern": "^(?=.*[0-9])"}}}},
    )
    assert validated.errors == ()


def test_a_name_that_is_nearly_right_is_suggested() -> None:
    (error,) = _judge("sleep", {"untl": "2030-01-01T00:00:00Z"}).errors
    assert error.suggestion == 'did you mean "until"?'


def test_values_are_never_repeated() -> None:
    (error,) = _judge("resize", {"size": {"width": "s3cret"}}).errors
    assert "s3cret" not in error.message


def test_every_task_is_judged_and_good_params_only_once() -> None:
    more = [{"name": f"t{n}", "type": "sleep", "params": {"for": n - 2}} for n in range(5)]
    errors = _judge("sleep", {"for": 1}, *more).errors
    assert [e.pointer for e in errors] == [
        "/flow/tasks/1/params/for",
        "/flow/tasks/2/params/for",
    ]


def test_without_schemas_nothing_is_said_of_params() -> None:
    task: dict[str, Any] = {"name": "t", "type": "sleep", "params": {"nonsense": 1}}
    flow: dict[str, Any] = {"id": "f", "start_task": "t", "tasks": [task]}
    assert validate_definition(flow, task_types=TYPES.names).errors == ()
