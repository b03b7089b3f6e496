"""The shape of a definition: is every field there, known, and of its kind?

Tasks and conditions are read one by one, so that a body with a hundred thousand mistakes
costs no more than one with twenty. What pydantic says is said again in plain sentences.

A wrong item does not hide the others: its name is still a name, its targets are still looked
up, and only what cannot be read at all is left out of further judgement.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, JsonValue, ValidationError

from shared.definition import END, Condition, FlowDefinition, TaskDefinition
from shared.documents import escape
from shared.findings import Findings, nearest_names, quoted

M = TypeVar("M", bound=BaseModel)

_KINDS = {
    "string_type": ("wrong_type", "must be a string"),
    "list_type": ("wrong_type", "must be a list"),
    "dict_type": ("wrong_type", "must be an object"),
    "int_type": ("wrong_type", "must be a whole number"),
    "float_type": ("wrong_type", "must be a number"),
    "float_parsing": ("wrong_type", "must be a number"),
    "bool_type": ("wrong_type", "must be true or false"),
    "model_type": ("wrong_type", "must be an object"),
    "missing": ("missing_field", "is missing"),
    "string_too_short": ("empty_name", "must not be empty"),
    "string_pattern_mismatch": ("bad_characters", "must not hold control characters"),
    "extra_forbidden": ("unknown_field", "is no field that is known here"),
    "enum": ("wrong_value", 'must be "success" or "failure"'),
}


@dataclass(frozen=True, slots=True)
class Shape:
    """What could be read of a definition, so that the rest of the checks can judge it."""

    definition: FlowDefinition | None
    """None where any field of it is wrong."""
    start_task: str | None
    tasks: Sequence[JsonValue] | None
    """As they were sent, the bad ones, too; None where there is no list of them."""
    conditions: Sequence[JsonValue] | None
    bad_conditions: frozenset[int]
    """The conditions whose shape is wrong."""
    output: JsonValue = None
    input_schema: JsonValue = None
    last: str | None = None
    """The task of ``finally``."""
    concurrency: JsonValue = None


TARGETS = ("target_task_success", "target_task_failure", "target_task_error")
"""The fields of a condition that lead somewhere."""


def read_definition(raw: JsonValue, prefix: str, findings: Findings) -> Shape:
    """Read what there is of a definition in ``raw``; what is wrong goes to ``findings``."""
    if not isinstance(raw, dict):
        findings.error(prefix, "wrong_type", "the flow must be an object")
        return Shape(None, None, None, None, frozenset())
    _say_unknown_fields(FlowDefinition, raw, prefix, findings)
    # One good task stands in for the list, whose items are read one by one.
    rest: dict[str, JsonValue] = {
        **_known_fields(FlowDefinition, raw),
        "conditions": [],
        "tasks": [{"name": "probe"}],
    }
    flow = _validate(FlowDefinition, rest, prefix, findings)
    listed = [_list_of(raw, field, prefix, findings) for field in ("tasks", "conditions")]
    tasks, _ = _read_items(listed[0], "tasks", TaskDefinition, prefix, findings)
    conditions, bad = _read_items(listed[1], "conditions", Condition, prefix, findings)
    definition = None
    if flow is not None and not findings.errors:
        definition = flow.model_copy(update={"tasks": tasks, "conditions": conditions})
    return Shape(
        definition,
        text_of(raw, "start_task"),
        listed[0],
        listed[1],
        bad,
        raw.get("output"),
        raw.get("input_schema"),
        text_of(raw, "finally"),
        raw.get("concurrency"),
    )


def text_of(item: JsonValue, field: str) -> str | None:
    """The string under ``field``; None where there is none."""
    value = item.get(field) if isinstance(item, dict) else None
    return value if isinstance(value, str) else None


def _list_of(
    raw: dict[str, JsonValue], field: str, prefix: str, findings: Findings
) -> list[JsonValue] | None:
    if field not in raw:
        if field == "conditions":
            return []
        findings.error(prefix, "missing_field", f'"{field}" is missing')
        return None
    items = raw[field]
    if not isinstance(items, list):
        findings.error(f"{prefix}/{field}", "wrong_type", f'"{field}" must be a list')
        return None
    if not items and field == "tasks":
        findings.error(f"{prefix}/{field}", "no_tasks", "a flow needs at least one task")
        return None
    return items


def _read_items(
    items: Sequence[JsonValue] | None, field: str, model: type[M], prefix: str, findings: Findings
) -> tuple[list[M], frozenset[int]]:
    """The good ones of ``items``, and the indexes of the bad ones."""
    good: list[M] = []
    bad: set[int] = set()
    for index, item in enumerate(items or ()):
        if findings.is_full:
            # Enough to mend; the rest is judged when these are.
            break
        read = _read(model, item, f"{prefix}/{field}/{index}", findings)
        if read is None:
            bad.add(index)
        else:
            good.append(read)
    return good, frozenset(bad)


def _read(model: type[M], raw: JsonValue, pointer: str, findings: Findings) -> M | None:
    if not isinstance(raw, dict) or raw.keys() <= model.model_fields.keys():
        return _validate(model, raw, pointer, findings)
    _say_unknown_fields(model, raw, pointer, findings)
    _validate(model, _known_fields(model, raw), pointer, findings)
    return None


def _known_fields(model: type[BaseModel], raw: dict[str, JsonValue]) -> dict[str, JsonValue]:
    return {field: raw[field] for field in _names(model) if field in raw}


def _names(model: type[BaseModel]) -> list[str]:
    """The fields of a model as they are written in JSON."""
    return [field.alias or name for name, field in model.model_fields.items()]


def _say_unknown_fields(
    model: type[BaseModel], raw: dict[str, JsonValue], pointer: str, findings: Findings
) -> None:
    # Not left to pydantic, so that a hundred thousand of them cost no more than twenty.
    known = _names(model)
    left = len(raw) - sum(field in raw for field in known)
    for field in raw:
        if not left or findings.is_full:
            break
        if field not in known:
            _say_unknown_field(model, field, f"{pointer}/{escape(field)}", findings)
            left -= 1
    findings.count(left)


def _validate(model: type[M], raw: JsonValue, pointer: str, findings: Findings) -> M | None:
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        _translate(error, pointer, findings)
        return None


def _translate(error: ValidationError, pointer: str, findings: Findings) -> None:
    said: set[str] = set()
    found = error.errors(include_url=False, include_input=False)[:50]
    # A target is a name or a list: pydantic reports both alternatives, under names of its own
    # which are no part of the document. That it is no string says least.
    # Nor does it say anything beside a mistake inside the list.
    for one in sorted(found, key=lambda one: (one["type"] == "string_type", -len(one["loc"]))):
        path = [part for part in one["loc"] if not _is_alternative(part)]
        where = pointer + "".join(f"/{escape(str(part))}" for part in path)
        fields = [part for part in path if isinstance(part, str)]
        field = fields[-1] if fields else ""
        if where in said or any(place.startswith(f"{where}/") for place in said):
            continue
        said.add(where)
        code, message = _explain(one["type"], dict(one.get("ctx") or {}))
        if field.startswith("target_task") and code == "wrong_type":
            message = f'must be a task, a list of tasks, or "{END}"'
        elif path[-1:] == ["retry"] and code == "wrong_type":
            message = "must be a whole number, which is the attempts in all, or an object"
        place = pointer if one["type"] == "missing" else where
        findings.error(place, code, f'"{field}" {message}' if field else f"this {message}")


def _is_alternative(part: object) -> bool:
    return isinstance(part, str) and ("[" in part or part in ("constrained-str", "str", "int"))


def _say_unknown_field(model: type[BaseModel], field: str, where: str, findings: Findings) -> None:
    nearest = nearest_names(field, _names(model))
    findings.error(
        where,
        "unknown_field",
        f"there is no field {quoted(field)} here",
        f"did you mean {quoted(nearest[0])}?" if nearest else None,
    )


def _explain(kind: str, context: dict[str, object]) -> tuple[str, str]:
    if kind in _KINDS:
        return _KINDS[kind]
    limit = next(
        (context[key] for key in ("max_length", "le", "lt", "ge", "gt") if key in context), None
    )
    match kind:
        case "string_too_long":
            return "too_long", f"must not be longer than {limit} characters"
        case "too_long":
            return "too_many", f"must not hold more than {limit} items"
        case "too_short":
            return "empty_list", "must not be empty"
        case "greater_than" | "greater_than_equal":
            return (
                "too_small",
                f"must be {'more than' if kind == 'greater_than' else 'at least'} {limit}",
            )
        case "less_than" | "less_than_equal":
            return "too_large", f"must be at most {limit}"
        case "literal_error":
            return "wrong_value", f"must be {context.get('expected')}"
        case "value_error":
            return "wrong_value", str(context.get("error"))
        case _:
            return "wrong_value", "cannot be used"
