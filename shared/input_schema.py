"""The JSON Schema that a definition may ask of a run's input (draft 2020-12).

A schema refers to nothing outside itself, so judging an input never opens a connection or a
file, and it cannot ask for more than a bounded time (:mod:`shared.schema_validator`).
"""

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import orjson
from pydantic import JsonValue

from shared.documents import escape
from shared.errors import Finding
from shared.findings import Findings
from shared.patterns import MAX_STATES, states, why_unusable
from shared.schema_validator import TooMuchWork, errors_of

_MAX_MESSAGE = 300
_REFERENCES = ("$ref", "$dynamicRef")
_MAX_PATTERNS = 100
_MAX_STATES = 2 * MAX_STATES
"""Of all patterns of a schema: to make them ready may take as many milliseconds as hundreds."""
_DATA = frozenset({"const", "default", "enum", "examples"})
"""What stands behind these is no schema, whatever it looks like."""
_NAMED = frozenset({"$defs", "definitions", "dependentSchemas", "patternProperties", "properties"})
"""Behind these stand schemas by names, which are no keywords."""
_UNSUPPORTED = {
    "unevaluatedItems": "unevaluatedItems is not supported: say it with items",
    "unevaluatedProperties": "unevaluatedProperties is not supported: say it with "
    "additionalProperties",
}


def check_input_schema(schema: JsonValue, pointer: str, findings: Findings) -> None:
    """Judge the schema itself."""
    if not isinstance(schema, dict) or not _is_schema(schema, pointer, findings):
        return
    seen: set[int] = set()
    known: set[str] = set()
    pending: list[tuple[str, JsonValue]] = [("", schema)]
    while pending and not findings.is_full:
        place, part = pending.pop()
        # What is no object says nothing that could be wrong: the schema of schemas has seen it.
        if not isinstance(part, dict) or id(part) in seen:
            continue
        seen.add(id(part))
        _check_part(part, pointer + place, findings, is_root=part is schema)
        _check_patterns(part, pointer + place, known, findings)
        for keyword in _REFERENCES:
            target = _target(schema, part.get(keyword))
            if target is None:
                continue
            where, referred = target
            if referred is _MISSING:
                message = "refers to what is not in this schema"
                findings.error(f"{pointer}{place}/{keyword}", "bad_reference", message)
            elif id(referred) not in seen and _is_schema(referred, pointer + where, findings):
                pending.append((where, referred))
        pending += ((place + inside, one) for inside, one in _parts(part))


def _is_schema(schema: Any, pointer: str, findings: Findings) -> bool:
    from jsonschema import Draft202012Validator, FormatChecker
    from jsonschema.exceptions import SchemaError

    try:
        # Without the formats: whether a pattern is one is not for Python's engine to say.
        Draft202012Validator.check_schema(schema, format_checker=FormatChecker(()))
    except SchemaError as error:
        place = "".join(f"/{escape(str(part))}" for part in error.absolute_path)
        findings.error(pointer + place, "bad_schema", f"no JSON Schema: {_plain(error)}")
        return False
    except RecursionError:
        findings.error(pointer, "bad_schema", "no JSON Schema: it is nested too deeply")
        return False
    return True


def _check_part(
    part: dict[str, JsonValue], pointer: str, findings: Findings, *, is_root: bool
) -> None:
    """Judge what the schema of schemas does not: references, patterns, what we cannot bound."""
    for keyword in _REFERENCES:
        reference = part.get(keyword)
        if isinstance(reference, str) and not reference.startswith("#"):
            message = "a schema may refer to nothing outside itself: begin with #"
            findings.error(f"{pointer}/{keyword}", "remote_reference", message)
    if not is_root and "$id" in part:
        message = "only the whole schema may have an $id"
        findings.error(f"{pointer}/$id", "bad_schema", message)
    for keyword, message in _UNSUPPORTED.items():
        if keyword in part:
            findings.error(f"{pointer}/{keyword}", "unsupported_keyword", message)


def _check_patterns(
    part: dict[str, JsonValue], pointer: str, known: set[str], findings: Findings
) -> None:
    """Judge the patterns right in a schema; ``known`` are those that were judged before."""
    found: list[tuple[str, str]] = []
    pattern, by_pattern = part.get("pattern"), part.get("patternProperties")
    if isinstance(pattern, str):
        found.append((f"{pointer}/pattern", pattern))
    for name in by_pattern if isinstance(by_pattern, dict) else ():
        found.append((f"{pointer}/patternProperties/{escape(name)}", name))
    for place, one in found:
        if findings.is_full or one in known:
            continue
        known.add(one)
        if len(known) > _MAX_PATTERNS:
            message = f"a schema may hold at most {_MAX_PATTERNS} different patterns"
            findings.error(place, "too_many", message)
            return
        if states(one) <= MAX_STATES and sum(map(states, known)) > _MAX_STATES:
            message = "the patterns of this schema repeat too much together"
            findings.error(place, "bad_pattern", message)
            return
        reason = why_unusable(one)
        if reason is not None:
            findings.error(place, "bad_pattern", f"no regular expression that is known: {reason}")


def _parts(part: dict[str, JsonValue]) -> Iterator[tuple[str, JsonValue]]:
    """The schemas right in a schema, with their pointers in it."""
    for keyword, value in part.items():
        place = f"/{escape(keyword)}"
        if keyword in _DATA:
            continue
        if isinstance(value, list):
            yield from ((f"{place}/{index}", one) for index, one in enumerate(value))
        elif keyword in _NAMED and isinstance(value, dict):
            yield from ((f"{place}/{escape(name)}", one) for name, one in value.items())
        else:
            yield place, value


_MISSING = object()


def _target(schema: JsonValue, reference: JsonValue) -> "tuple[str, Any] | None":
    """Where a reference by pointer leads, and what is there. Those by name are the library's."""
    if not isinstance(reference, str) or not reference.startswith("#/"):
        return None
    place = unquote(reference[1:])
    found: Any = schema
    for step in place.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict):
            found = found.get(name, _MISSING)
        elif isinstance(found, list) and name.isdecimal() and int(name) < len(found):
            found = found[int(name)]
        else:
            found = _MISSING
    return place, found


def check_input(schema: JsonValue, given: JsonValue, most: int) -> list[Finding]:
    """What is wrong with an input, by a schema that was found good; at most so many findings."""
    if schema is None or schema is True:
        return []
    if schema is False:
        return [Finding("/input", "bad_input", "this flow takes no input")]
    from referencing.exceptions import Unresolvable

    try:
        errors = errors_of(orjson.dumps(schema), given, most)
    except TooMuchWork:
        message = "it takes too much work to hold this against the schema"
        return [Finding("/input", "bad_input", message)]
    except (RecursionError, Unresolvable):
        return [Finding("/input", "bad_input", "the input_schema refers to what is not there")]
    found: list[Finding] = []
    for error in errors:
        place = "".join(f"/{escape(str(part))}" for part in error.absolute_path)
        found.append(Finding(f"/input{place}", "bad_input", _plain(error)))
    return found


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
