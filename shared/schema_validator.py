"""Judges values by JSON Schemas (draft 2020-12) with a bound on the work that it takes.

A schema of a few lines can ask for more work than there is time: patterns that backtrack,
definitions that name each other twice over thirty levels, all pairs of a long list. So patterns
run on an engine of linear time (:mod:`shared.patterns`), lists are compared by what they hold,
and every keyword that is asked takes from a budget. It is counted and not timed, so that a value
is judged alike wherever it is judged.

The library that judges is loaded only where there is a schema.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from functools import cache, lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import JsonValue

from shared import patterns

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import ValidationError

MAX_STEPS = 500_000
"""Keywords asked, and entries of theirs looked at, for one value: a second or two."""
_COSTS = {"$ref": 5, "$dynamicRef": 5}
"""Keywords that cost more than others, which cost one step."""
_ENTRIES_A_STEP = 10
"""To look for one of so many names or values costs about what a keyword does."""
_STATES_A_STEP = 400
"""As many states of a pattern at as many characters cost about what a keyword does."""

_steps_left: ContextVar[int] = ContextVar("steps_left", default=MAX_STEPS)

_Keyword = Callable[[Any, Any, Any, Any], "Iterable[ValidationError] | None"]


class TooMuchWork(Exception):
    """To judge a value takes more steps than there are, or a pattern whose time has no bound."""


def errors_of(
    schema: bytes, value: JsonValue, most: int | None = None, steps: int = MAX_STEPS
) -> "list[ValidationError]":
    """What is wrong with a value by a schema, given as JSON, that was found good.

    Raises:
        TooMuchWork: after so many ``steps``, or where a task type has a pattern of another kind.
        RecursionError: where schema or value are nested too deeply.
        referencing.exceptions.Unresolvable: where the schema names what it does not hold.
    """
    token = _steps_left.set(steps)
    try:
        return list(islice(_validator(schema).iter_errors(value), most))
    finally:
        _steps_left.reset(token)


@lru_cache(maxsize=256)
def _validator(schema: bytes) -> "Draft202012Validator":
    from jsonschema_specifications import REGISTRY

    # Given, because the default would fetch what is not known.
    return _bounded()(orjson.loads(schema), registry=REGISTRY)


@cache
def _bounded() -> "type[Draft202012Validator]":
    """The library's validator, with its keywords counted and some of them our own."""
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend

    keywords = dict(Draft202012Validator.VALIDATORS) | {
        "additionalProperties": _additional_properties,
        "const": _const,
        "enum": _enum,
        "pattern": _pattern,
        "patternProperties": _pattern_properties,
        "uniqueItems": _unique_items,
    }
    counted = {name: _counted(keyword, _COSTS.get(name, 1)) for name, keyword in keywords.items()}
    bounded: type[Draft202012Validator] = extend(  # type: ignore[no-untyped-call]  # it has no types
        Draft202012Validator, validators=counted
    )
    return bounded


def _counted(keyword: _Keyword, cost: int) -> _Keyword:
    def judge(
        validator: Any, value: Any, instance: Any, schema: Any
    ) -> "Iterable[ValidationError] | None":
        size = len(value) if isinstance(value, dict | list) else 0
        _spend(cost + size // _ENTRIES_A_STEP)
        return keyword(validator, value, instance, schema)

    return judge


def _spend(steps: int) -> None:
    left = _steps_left.get() - steps
    if left < 0:
        raise TooMuchWork
    _steps_left.set(left)


def _finds(pattern: str, text: str) -> bool:
    if patterns.why_unusable(pattern) is not None:
        raise TooMuchWork
    _spend(patterns.states(pattern) * len(text) // _STATES_A_STEP)
    return patterns.finds(pattern, text)


def _pattern(_: Any, pattern: str, instance: Any, __: Any) -> "Iterator[ValidationError]":
    if isinstance(instance, str) and not _finds(pattern, instance):
        yield _error("does not fit the pattern")


def _pattern_properties(
    validator: Any, schemas: Mapping[str, Any], instance: Any, _: Any
) -> "Iterator[ValidationError]":
    if not isinstance(instance, dict):
        return
    for pattern, schema in schemas.items():
        for name, value in instance.items():
            _spend(1)
            if _finds(pattern, name):
                yield from validator.descend(value, schema, path=name, schema_path=pattern)


def _additional_properties(
    validator: Any, rest: Any, instance: Any, schema: Mapping[str, Any]
) -> "Iterator[ValidationError]":
    if not isinstance(instance, dict):
        return
    named, fitting = schema.get("properties", {}), schema.get("patternProperties", {})
    for name, value in instance.items():
        _spend(len(fitting))
        if name in named or any(_finds(pattern, name) for pattern in fitting):
            continue
        if rest is False:
            yield _error("holds a field that is not allowed")
            return
        if rest is not True:
            yield from validator.descend(value, rest, path=name)


def _const(_: Any, value: Any, instance: Any, __: Any) -> "Iterator[ValidationError]":
    if not _is_one_of([value], instance):
        yield _error("is not the allowed value")


def _enum(_: Any, values: list[Any], instance: Any, __: Any) -> "Iterator[ValidationError]":
    if not _is_one_of(values, instance):
        yield _error("is none of the allowed values")


def _unique_items(_: Any, asked: Any, instance: Any, __: Any) -> "Iterator[ValidationError]":
    if asked is True and isinstance(instance, list):
        _spend(len(instance))
        if len(set(map(_canonical, instance))) < len(instance):
            yield _error("holds an item twice")


def _is_one_of(values: list[Any], instance: Any) -> bool:
    if isinstance(instance, dict | list):
        wanted = _canonical(instance)
        return any(_canonical(v) == wanted for v in values if isinstance(v, dict | list))
    return any(_same(value, instance) for value in values)


def _same(one: object, other: object) -> bool:
    """Whether two scalars are equal: 1 and 1.0 are, 1 and true are not."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _canonical(value: JsonValue) -> bytes:
    """The same bytes for equal values, and others for others."""
    _spend(1)
    if isinstance(value, dict):
        parts = sorted(orjson.dumps(name) + b":" + _canonical(v) for name, v in value.items())
        return b"{" + b",".join(parts) + b"}"
    if isinstance(value, list):
        return b"[" + b",".join(map(_canonical, value)) + b"]"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    # A whole number may be too large for the quick way.
    return str(value).encode() if type(value) is int else orjson.dumps(value)


def _error(message: str) -> "ValidationError":
    from jsonschema.exceptions import ValidationError

    return ValidationError(message)
