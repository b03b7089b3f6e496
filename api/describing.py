"""How a call is described in the OpenAPI document: its answers, their headers, an example each."""

from collections.abc import Mapping, Sequence
from enum import Enum
from http import HTTPStatus
from typing import Any, TypedDict

import orjson

from api import examples

EXAMPLE = "x-example"
"""Under this key an example stands as JSON text, because FastAPI takes every null out of what it
is given. ``api.openapi`` puts the example itself in its place."""

Document = dict[str, Any]


class Operation(TypedDict, total=False):
    """Arguments of a route's decorator."""

    tags: list[str | Enum]
    summary: str
    status_code: int
    responses: dict[int | str, Document]
    openapi_extra: Document


_TITLES = {
    400: "The body is not JSON, or JSON that is refused: with line and column.",
    404: "There is no such run.",
    408: "The body did not come in time.",
    409: "The state of the run, or of the other runs of its flow, forbids it.",
    413: "The body is too large.",
    415: "The body is not `application/json`.",
    422: "Something does not fit; every place is named.",
    503: "The database does not answer; try again after `Retry-After` seconds.",
}


def header(name: str, description: str, example: str) -> Document:
    """A header that the call looks at."""
    return {
        "name": name,
        "in": "header",
        "description": description,
        "schema": {"type": "string"},
        "example": example,
    }


def shape(name: str) -> Document:
    """What refers to a shape."""
    return {"$ref": f"#/components/schemas/{name}"}


def _content(shape_name: str, example: object) -> Document:
    return {"schema": shape(shape_name), EXAMPLE: orjson.dumps(example).decode()}


def answer(
    description: str, shape_name: str, example: object, headers: Mapping[str, str] | None = None
) -> Document:
    """An answer of that shape."""
    return {
        "description": description,
        "content": {"application/json": _content(shape_name, example)},
        "headers": {
            name: {"description": text, "schema": {"type": "string"}}
            for name, text in (headers or {}).items()
        },
    }


def _problem(status: int, description: str) -> Document:
    example = examples.problem(HTTPStatus(status))
    return {
        "description": description,
        "content": {"application/problem+json": _content("Problem", example)},
    }


def body(**shapes: str | None) -> Document:
    """A body of one of these shapes, or of any where none is named; each with its example."""
    named = [shape(name) for name in shapes.values() if name is not None]
    return {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"anyOf": named} if named else {},
                "examples": {name: {"value": examples.BODIES[name]} for name in shapes},
            }
        },
    }


def operation(
    tag: str,
    summary: str,
    answers: dict[int | str, Document],
    problems: Sequence[int] | Mapping[int, str],
    **extra: object,
) -> Operation:
    """A call. ``problems`` are the statuses of its refusals, with a sentence where it is not the
    usual one."""
    told = problems if isinstance(problems, Mapping) else dict.fromkeys(problems, "")
    refusals: dict[int | str, Document] = {
        status: _problem(status, sentence or _TITLES[status]) for status, sentence in told.items()
    }
    return {
        "tags": [tag],
        "summary": summary,
        "status_code": min(int(status) for status in answers),
        "responses": answers | refusals,
        "openapi_extra": extra,
    }
