"""The JSON Schema that a definition may ask of a run's input (draft 2020-12).

A schema refers to nothing outside itself, so judging an input never opens a connection or a
file. The library that judges is loaded only where there is a schema.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import JsonValue

from shared.documents import escape
from shared.errors import Finding
from shared.findings import Findings

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

_MAX_MESSAGE = 300
_REFERENCES = ("$ref", "$dynamicRef")


def check_input_schema(schema: JsonValue, pointer: str, findings: Findings) -> None:
    """Judge the schema itself."""
    if not isinstance(schema, dict):
        return
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    for place, reference in _references(schema):
        if not reference.startswith("#"):
            message = "a schema may refer to nothing outside itself: begin with #"
            findings.error(pointer + place, "remote_reference", message)
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        place = "".join(f"/{escape(str(part))}" for part in error.absolute_path)
        findings.error(pointer + place, "bad_schema", f"no JSON Schema: {_plain(error)}")
    except RecursionError:
        findings.error(pointer, "bad_schema", "no JSON Schema: it is nested too deeply")


def check_input(schema: JsonValue, given: JsonValue, most: int) -> list[Finding]:
    """What is wrong with an input, by a schema that was found good; at most so many findings."""
    if schema is None or schema is True:
        return []
    if schema is False:
        return [Finding("/input", "bad_input", "this flow takes no input")]
    from referencing.exceptions import Unresolvable

    found: list[Finding] = []
    try:
        for error in schema_validator(orjson.dumps(schema)).iter_errors(given):
            place = "".join(f"/{escape(str(part))}" for part in error.absolute_path)
            found.append(Finding(f"/input{place}", "bad_input", _plain(error)))
            if len(found) == most:
                break
    except (RecursionError, Unresolvable):
        return [Finding("/input", "bad_input", "the input_schema refers to what is not there")]
    return found


@lru_cache(maxsize=256)
def schema_validator(schema: bytes) -> "Draft202012Validator":
    """A validator for a schema, given as JSON, that was found good."""
    from jsonschema import Draft202012Validator
    from jsonschema_specifications import REGISTRY

    # Given, because the default would fetch what is not known.
    return Draft202012Validator(orjson.loads(schema), registry=REGISTRY)


def _references(schema: JsonValue) -> Iterator[tuple[str, str]]:
    """Every reference in a schema, with its pointer."""
    pending: list[tuple[str, JsonValue]] = [("", schema)]
    while pending:
        place, value = pending.pop()
        if isinstance(value, dict):
            for key, inside in value.items():
                where = f"{place}/{escape(key)}"
                if key in _REFERENCES and isinstance(inside, str):
                    yield where, inside
                pending.append((where, inside))
        elif isinstance(value, list):
            pending.extend((f"{place}/{index}", inside) for index, inside in enumerate(value))


def _plain(error: Any) -> str:
    """What the library says, without the values: they may be secrets, or long."""
    match error.validator:
        case "required":
            missing = [name for name in error.validator_value if name not in error.instance]
            return f"{', '.join(repr(name)[:60] for name in missing[:5])} is missing"
        case "type":
            wanted = error.validator_value
            kinds = wanted if isinstance(wanted, list) else [wanted]
            return f"must be of type {' or '.join(str(kind) for kind in kinds)}"[:_MAX_MESSAGE]
        case "additionalProperties" | "unevaluatedProperties":
            return "holds a field that is not allowed"
        case str(word):
            limit = str(error.validator_value)
            shown = limit if len(limit) <= 100 else "..."
            return f"does not fit {word}: {shown}"[:_MAX_MESSAGE]
        case _:
            return "does not fit the schema"
