"""The shape of a definition: is every field there, known, and of its kind?

Tasks and conditions are read one by one, so that a body with a hundred thousand mistakes
costs no more than one with twenty. What pydantic says is said again in plain sentences.
"""

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
    "enum": ("wrong_value", 'must be "success" or "failure"'),
}


def read_definition(raw: JsonValue, prefix: str, findings: Findings) -> FlowDefinition | None:
    """The definition in ``raw``; None, with the errors in ``findings``, where it has none."""
    if not isinstance(raw, dict):
        findings.error(prefix, "wrong_type", "the flow must be an object")
        return None
    tasks = _read_items(raw, "tasks", TaskDefinition, prefix, findings)
    conditions = _read_items(raw, "conditions", Condition, prefix, findings)
    rest = {key: value for key, value in raw.items() if key not in ("tasks", "conditions")}
    # One good task stands in for the list, which was read above.
    probe: dict[str, JsonValue] = {**rest, "tasks": [{"name": "probe"}]}
    flow = _read(FlowDefinition, probe, prefix, findings)
    if flow is None or tasks is None or conditions is None or findings.errors:
        return None
    return flow.model_copy(update={"tasks": tasks, "conditions": conditions})


def _read_items(
    raw: dict[str, JsonValue], field: str, model: type[M], prefix: str, findings: Findings
) -> list[M] | None:
    pointer = f"{prefix}/{field}"
    items = raw.get(field)
    if items is None and field == "conditions" and field not in raw:
        return []
    if field not in raw:
        findings.error(prefix or "", "missing_field", f'"{field}" is missing')
        return None
    if not isinstance(items, list):
        findings.error(pointer, "wrong_type", f'"{field}" must be a list')
        return None
    if not items and field == "tasks":
        findings.error(pointer, "no_tasks", "a flow needs at least one task")
        return None
    good: list[M] = []
    for index, item in enumerate(items):
        if findings.is_full:
            # Enough to mend; the rest is judged when these are.
            break
        read = _read(model, item, f"{pointer}/{index}", findings)
        if read is not None:
            good.append(read)
    return good if len(good) == len(items) else None


def _read(model: type[M], raw: JsonValue, pointer: str, findings: Findings) -> M | None:
    known = raw
    if isinstance(raw, dict) and not raw.keys() <= model.model_fields.keys():
        # Taken out here, so that a hundred thousand of them cost no more than twenty.
        known = {key: value for key, value in raw.items() if key in model.model_fields}
        for key in raw:
            if findings.is_full:
                break
            if key not in known:
                _say_unknown_field(model, key, f"{pointer}/{escape(key)}", findings)
    try:
        read = model.model_validate(known)
    except ValidationError as error:
        _translate(error, pointer, findings)
        return None
    return read if known is raw else None


def _translate(error: ValidationError, pointer: str, findings: Findings) -> None:
    said: set[str] = set()
    found = error.errors(include_url=False, include_input=False)[:50]
    # A target is a name or a list: pydantic reports both alternatives, under names of its own
    # which are no part of the document. That it is no string says least.
    for one in sorted(found, key=lambda one: one["type"] == "string_type"):
        path = [part for part in one["loc"] if not _is_alternative(part)]
        where = pointer + "".join(f"/{escape(str(part))}" for part in path)
        field = str(path[0]) if path else ""
        if where in said:
            continue
        said.add(where)
        code, message = _explain(one["type"], dict(one.get("ctx") or {}))
        if field.startswith("target_task") and code == "wrong_type":
            message = f'must be a task, a list of tasks, or "{END}"'
        place = pointer if one["type"] == "missing" else where
        findings.error(place, code, f'"{field}" {message}' if field else f"this {message}")


def _is_alternative(part: object) -> bool:
    return isinstance(part, str) and ("[" in part or part in ("constrained-str", "str", "int"))


def _say_unknown_field(model: type[BaseModel], field: str, where: str, findings: Findings) -> None:
    nearest = nearest_names(field, model.model_fields)
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
        case _:
            return "wrong_value", "cannot be used"
