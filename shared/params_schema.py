"""Judges the params of tasks by the JSON Schemas of their types, before anything runs.

What an expression gives is not known yet: a string that is one stands for anything, text with
expressions in it for some text. Whatever a schema says of such a value, or of what holds one in
a way that cannot be told apart, is left for the run, where the type's own model has the last
word.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import JsonValue

from shared.dataflow import MARK, holds_expression
from shared.documents import escape
from shared.findings import Findings, nearest_names, quoted
from shared.input_schema import check_input_schema
from shared.schema_validator import TooMuchWork, errors_of
from shared.shape import text_of

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

SCHEMA_FORMAT = "json-schema"
"""As the ``format`` of a param: it is a JSON Schema itself, and is judged as one."""
_MAX_MESSAGE = 200
_MAX_EXAMPLES = 8
_PLAIN_KEYWORDS = frozenset({"required", "additionalProperties", "type", "minProperties"})
"""What these say of an object or a list is true whatever the expressions in it give."""


class _Unknown(str):
    """A string with an expression in it."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class TaskTypes:
    """The task types that a definition may use."""

    names: frozenset[str]
    params_schemas: Mapping[str, JsonValue]
    """JSON Schemas of those that judge their params."""


def check_params(
    tasks: Sequence[JsonValue],
    params_schemas: Mapping[str, JsonValue],
    prefix: str,
    findings: Findings,
) -> None:
    """Judge the params of every task whose type has a schema."""
    # Written when they are needed: of all types a definition uses few.
    schemas: dict[str, bytes] = {}
    good: set[tuple[str, bytes]] = set()
    for index, task in enumerate(tasks):
        if findings.is_full:
            return
        if not isinstance(task, dict):
            continue
        name = text_of(task, "type") or text_of(task, "name") or ""
        params = task.get("params")
        if name not in params_schemas or not isinstance(params, dict | None):
            continue
        if name not in schemas:
            schemas[name] = orjson.dumps(params_schemas[name])
        key = (name, orjson.dumps(params))
        # Many tasks differ in their names only.
        if key in good:
            continue
        before = findings.error_count
        _check_one(params, params_schemas[name], schemas[name], f"{prefix}/tasks/{index}", findings)
        if findings.error_count == before:
            good.add(key)


def _check_one(
    params: dict[str, JsonValue] | None,
    schema: JsonValue,
    schema_text: bytes,
    place: str,
    findings: Findings,
) -> None:
    """Judge the params of one task, which is at ``place``."""
    try:
        for error in _judge(schema_text, {} if params is None else params):
            _tell(error, place, params is None, findings)
    except TooMuchWork:
        # The type's own model has the last word anyhow.
        return
    if params is not None:
        _check_schemas(params, schema, f"{place}/params", findings)


def _check_schemas(
    params: dict[str, JsonValue], schema: JsonValue, place: str, findings: Findings
) -> None:
    """Judge those params that are schemas."""
    known = schema.get("properties") if isinstance(schema, dict) else None
    for name, kind in known.items() if isinstance(known, dict) else ():
        value = params.get(name)
        is_schema = isinstance(kind, dict) and kind.get("format") == SCHEMA_FORMAT
        if is_schema and not holds_expression(value):
            check_input_schema(value, f"{place}/{escape(name)}", findings)


def _judge(schema: bytes, params: JsonValue) -> "Iterator[ValidationError]":
    if not holds_expression(params):
        yield from errors_of(schema, params)
        return
    for error in errors_of(schema, _marked(params)):
        if not _is_open(error):
            yield error


def _marked(value: JsonValue) -> JsonValue:
    """``value`` with its expressions made recognisable."""
    if isinstance(value, str):
        return _Unknown(value) if MARK in value else value
    if isinstance(value, dict):
        return {key: _marked(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_marked(one) for one in value]
    return value


def _is_open(error: "ValidationError") -> bool:
    """Whether it depends on what an expression gives."""
    instance: object = error.instance
    if isinstance(instance, _Unknown):
        # Text around an expression stays text.
        is_whole = instance.startswith(MARK) and instance.endswith("}")
        return is_whole or error.validator != "type"
    if error.validator in _PLAIN_KEYWORDS:
        return False
    return _holds_unknown(instance)


def _holds_unknown(value: object) -> bool:
    if isinstance(value, dict):
        return any(_holds_unknown(one) for one in value.values())
    if isinstance(value, list):
        return any(_holds_unknown(one) for one in value)
    return isinstance(value, _Unknown)


def _tell(error: "ValidationError", place: str, is_absent: bool, findings: Findings) -> None:
    """One finding, at a place that is in the document."""
    path = [str(part) for part in error.absolute_path]
    where = place + "".join(f"/{escape(part)}" for part in ([] if is_absent else ["params", *path]))
    # Any: JSON of whatever kind the keyword has.
    wanted: Any = error.validator_value
    given: Any = error.instance
    match error.validator:
        case "required":
            for name in wanted:
                if name not in given:
                    message = f"the param {quoted(name)} is missing"
                    findings.error(where, "missing_param", message)
        case "additionalProperties" if wanted is False:
            schema: Any = error.schema
            known = list(schema.get("properties", {}))
            for name in given:
                if name not in known:
                    _tell_unknown(name, known, where, findings)
        case _:
            shown = quoted(path[-1]) if path else '"params"'
            findings.error(where, "bad_param", f"{shown} {_complaint(error)}"[:_MAX_MESSAGE])


def _tell_unknown(name: str, known: Sequence[str], where: str, findings: Findings) -> None:
    nearest = nearest_names(name, known)
    findings.error(
        f"{where}/{escape(name)}",
        "unknown_param",
        f"there is no param {quoted(name)} here",
        f"did you mean {quoted(nearest[0])}?" if nearest else None,
    )


_COMPLAINTS = {
    "const": "must be {}",
    "minimum": "must be at least {}",
    "exclusiveMinimum": "must be more than {}",
    "maximum": "must be at most {}",
    "exclusiveMaximum": "must be less than {}",
    "minLength": "must have at least {} characters",
    "maxLength": "must have at most {} characters",
    "minItems": "must have at least {} items",
    "maxItems": "must have at most {} items",
    "pattern": "has not the form that is asked for",
}


def _examples(schema: Any) -> str:
    """What a schema gives as examples, in words."""
    given = schema.get("examples")
    shown = [str(one) for one in given[:_MAX_EXAMPLES]] if isinstance(given, list) else []
    return " or ".join([", ".join(shown[:-1]), *shown[-1:]] if len(shown) > 1 else shown)


def _complaint(error: "ValidationError") -> str:
    """What the schema asks for, without the value: it may be long, or a secret."""
    wanted: Any = error.validator_value
    match error.validator:
        case "pattern" if examples := _examples(error.schema):
            return f"must look like {examples}"
        case "type":
            kinds = wanted if isinstance(wanted, list) else [wanted]
            return f"must be of type {' or '.join(kinds)}"
        case "anyOf" | "oneOf" if error.context:
            return ", or ".join(dict.fromkeys(_complaint(one) for one in error.context))
        case "enum":
            return f"must be one of {', '.join(map(str, wanted))}"
        case word:
            return _COMPLAINTS.get(str(word), f"does not fit {word} of the schema").format(wanted)
