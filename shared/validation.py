"""Is this definition fit to run? All findings in one pass, each with its place.

The same judgement serves a submit, ``POST /flows/validate`` and the command line. It takes
near-linear time, whatever it is given. What a definition *means* is never decided here: the
graph that is judged is the one that runs (``shared.graph``).
"""

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import orjson
from pydantic import JsonValue

from shared.definition import END, Condition, FlowDefinition, Target, targets
from shared.errors import Finding, InvalidDefinition
from shared.findings import Findings, quoted
from shared.flow import Flow, prepare_flow
from shared.graph import Graph
from shared.shape import read_definition
from shared.status import Outcome

MAX_FINDINGS = 20
"""Errors, and warnings, that are told at a time."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a definition may be."""

    max_tasks: int = 20_000
    max_edges: int = 200_000


@dataclass(frozen=True, slots=True)
class Submission:
    """The parts of a submitted body."""

    definition: JsonValue
    prefix: str
    """The pointer of the definition in the body: ``/flow`` or, where it is bare, empty."""
    input: JsonValue


@dataclass(frozen=True, slots=True)
class Validated:
    """The judgement of a definition."""

    errors: tuple[Finding, ...]
    warnings: tuple[Finding, ...]
    flow: Flow | None
    """The flow, ready to run; None where there are errors."""
    definition_json: bytes
    """The definition as it is stored."""
    error_count: int
    """Errors in all, also those beyond the ones told."""


def split_submission(body: JsonValue) -> Submission:
    """Take a body apart: ``{"flow": {...}, "input": {...}}``, or a bare definition.

    Raises:
        InvalidDefinition: it is neither.
    """
    findings = Findings(MAX_FINDINGS)
    if not isinstance(body, dict):
        findings.error("", "wrong_type", 'the body must be an object with "flow" and "input"')
    elif "flow" in body:
        for key in body:
            if key not in ("flow", "input"):
                findings.error("", "unknown_field", f"there is no field {quoted(key)} here")
        if not findings.errors:
            return Submission(body["flow"], "/flow", body.get("input", {}))
    elif "start_task" in body or "tasks" in body:
        return Submission(body, "", {})
    else:
        findings.error("", "missing_field", '"flow" is missing')
    raise InvalidDefinition(findings.errors)


def validate_definition(
    raw: JsonValue,
    *,
    prefix: str = "",
    limits: Limits | None = None,
    task_types: Collection[str] | None = None,
    max_findings: int = MAX_FINDINGS,
) -> Validated:
    """Judge one definition.

    ``prefix`` is its pointer in the body. ``task_types`` are the registered ones; without
    them any type will do, as for a check without a service at hand.
    """
    findings = Findings(max_findings)
    _check_size(raw, prefix, limits or Limits(), findings)
    definition = None if findings.errors else read_definition(raw, prefix, findings)
    flow: Flow | None = None
    content = b""
    if definition is not None:
        _check_names(definition, prefix, findings)
        _check_conditions(definition, prefix, findings)
        if task_types is not None:
            _check_types(definition, prefix, task_types, findings)
        _check_params(definition, prefix, findings)
        if not findings.error_count:
            content = orjson.dumps(raw)
            flow = prepare_flow(definition, hashlib.sha256(content).hexdigest())
            _check_graph(definition, flow.graph, prefix, findings)
    return Validated(
        errors=tuple(findings.errors),
        warnings=tuple(findings.warnings),
        flow=None if findings.error_count else flow,
        definition_json=content,
        error_count=findings.error_count,
    )


def _check_size(raw: JsonValue, prefix: str, limits: Limits, findings: Findings) -> None:
    if not isinstance(raw, dict):
        return
    tasks, conditions = raw.get("tasks"), raw.get("conditions")
    if isinstance(tasks, list) and len(tasks) > limits.max_tasks:
        findings.error(
            f"{prefix}/tasks",
            "too_many_tasks",
            f"{len(tasks)} tasks; at most {limits.max_tasks} are allowed",
        )
    if not isinstance(conditions, list):
        return
    edges = sum(_count_edges(condition) for condition in conditions)
    if edges > limits.max_edges:
        findings.error(
            f"{prefix}/conditions",
            "too_many_edges",
            f"the conditions have {edges} targets; at most {limits.max_edges} are allowed",
        )


def _count_edges(condition: JsonValue) -> int:
    if not isinstance(condition, dict):
        return 1
    found = (condition.get(f) for f in ("target_task_success", "target_task_failure"))
    return sum(len(target) if isinstance(target, list) else 1 for target in found)


def _check_names(definition: FlowDefinition, prefix: str, findings: Findings) -> None:
    first: dict[str, int] = {}
    for index, task in enumerate(definition.tasks):
        pointer = f"{prefix}/tasks/{index}/name"
        if task.name == END:
            findings.error(pointer, "reserved_name", f'"{END}" is reserved: it ends a branch')
        elif task.name in first:
            findings.error(
                pointer,
                "duplicate_name",
                f"the name {quoted(task.name)} is taken by task {first[task.name]}",
            )
        else:
            first[task.name] = index
    if definition.start_task not in first:
        findings.unknown(
            f"{prefix}/start_task", "unknown_task", "task", definition.start_task, first
        )


def _check_conditions(definition: FlowDefinition, prefix: str, findings: Findings) -> None:
    known = {task.name: None for task in definition.tasks}
    seen: dict[tuple[str, Outcome], int] = {}
    for index, condition in enumerate(definition.conditions):
        pointer = f"{prefix}/conditions/{index}"
        if condition.source_task not in known:
            findings.unknown(
                f"{pointer}/source_task", "unknown_task", "task", condition.source_task, known
            )
        for field, target in _targets_of(condition):
            _check_target(target, f"{pointer}/{field}", known, findings)
        _warn_of_condition(condition, pointer, seen, findings)
        seen.setdefault((condition.source_task, condition.outcome), index)


def _targets_of(condition: Condition) -> Iterator[tuple[str, Target]]:
    yield "target_task_success", condition.target_task_success
    yield "target_task_failure", condition.target_task_failure


def _check_target(target: Target, pointer: str, known: dict[str, None], findings: Findings) -> None:
    heads: set[str] = set()
    is_list = isinstance(target, list)
    for index, name in enumerate(targets(target)):
        place = f"{pointer}/{index}" if is_list else pointer
        if name == END:
            findings.error(place, "end_in_list", f'"{END}" cannot be one of several targets')
        elif name in heads:
            findings.error(place, "duplicate_head", f"{quoted(name)} stands twice in one list")
        elif name not in known:
            findings.unknown(place, "unknown_task", "task", name, known)
        heads.add(name)


def _warn_of_condition(
    condition: Condition,
    pointer: str,
    seen: dict[tuple[str, Outcome], int],
    findings: Findings,
) -> None:
    earlier = seen.get((condition.source_task, condition.outcome))
    if earlier is not None:
        findings.warning(
            pointer,
            "never_applies",
            f"condition {earlier} of {quoted(condition.source_task)} has the same outcome and "
            "comes first, so this one never applies",
        )
    elif condition.outcome is Outcome.FAILURE:
        findings.warning(
            f"{pointer}/outcome",
            "outcome_failure",
            'with outcome "failure", target_task_success is where a failure of the task leads, '
            "and target_task_failure where a success leads when no other condition says so",
        )


def _check_types(
    definition: FlowDefinition, prefix: str, task_types: Collection[str], findings: Findings
) -> None:
    for index, task in enumerate(definition.tasks):
        if task.task_type not in task_types:
            field = "type" if task.type is not None else "name"
            findings.unknown(
                f"{prefix}/tasks/{index}/{field}",
                "unknown_task_type",
                "registered task type",
                task.task_type,
                sorted(task_types),
            )


def _check_params(definition: FlowDefinition, prefix: str, findings: Findings) -> None:
    for index, task in enumerate(definition.tasks):
        if task.params and _holds_expression(task.params):
            findings.error(
                f"{prefix}/tasks/{index}/params",
                "unsupported_expression",
                "${...} in params is reserved for expressions, which this version cannot run",
            )


def _holds_expression(params: JsonValue) -> bool:
    pending = [params]
    while pending:
        value = pending.pop()
        if isinstance(value, str) and "${" in value:
            return True
        if isinstance(value, dict):
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
    return False


def _check_graph(definition: FlowDefinition, graph: Graph, prefix: str, findings: Findings) -> None:
    for trap in graph.cycles_without_exit():
        number = min(graph.numbers[name] for name in trap)
        named = ", ".join(
            quoted(graph.names[n]) for n in sorted(graph.numbers[t] for t in trap)[:5]
        )
        findings.error(
            f"{prefix}/tasks/{number}",
            "endless_cycle",
            f"a branch that gets into this cycle never leaves it: {named}",
        )
    reached = set(graph.order)
    for index, task in enumerate(definition.tasks):
        if index not in reached:
            findings.warning(
                f"{prefix}/tasks/{index}",
                "unreachable_task",
                f"no path leads to {quoted(task.name)}",
            )
