"""Is this definition fit to run? All findings in one pass, each with its place.

The same judgement serves a submit, ``POST /flows/validate`` and the command line. It takes
near-linear time, whatever it is given. What a definition *means* is never decided here: the
graph that is judged is the one that runs (``shared.graph``).
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import orjson
from pydantic import JsonValue

from shared.dataflow import MARK
from shared.definition import END, FlowDefinition
from shared.ending_rules import EndingTasks, check_endings, read_ending_tasks
from shared.errors import Finding
from shared.findings import MAX_FINDINGS, Findings, in_order, quoted
from shared.flow import Flow, prepare_flow
from shared.graph import Graph
from shared.input_schema import check_input_schema
from shared.params_schema import check_params
from shared.readable import Names, has_unknown_field, read_graph, read_names
from shared.references import Use, check_expressions, check_order
from shared.shape import TARGETS, Shape, read_definition, text_of
from shared.status import Outcome
from shared.sub_flows import check_own_calls
from shared.unserved import check_queues


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a definition may be."""

    max_tasks: int = 20_000
    max_edges: int = 200_000


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


def validate_definition(
    raw: JsonValue,
    *,
    prefix: str = "",
    limits: Limits | None = None,
    task_types: Collection[str] | None = None,
    params_schemas: Mapping[str, JsonValue] | None = None,
    queues: Collection[str] | None = None,
    max_findings: int = MAX_FINDINGS,
) -> Validated:
    """Judge one definition.

    ``prefix`` is its pointer in the body. ``task_types`` are the registered ones; without
    them any type will do, as for a check without a service at hand. ``params_schemas`` are the
    JSON Schemas of the types that judge their params, ``queues`` the pools that workers take.
    """
    findings = Findings(max_findings)
    _check_size(raw, prefix, limits or Limits(), findings)
    flow: Flow | None = None
    content = b""
    if not findings.errors:
        shape = read_definition(raw, prefix, findings)
        endings = read_ending_tasks(shape)
        uses: list[Use] = []
        if not findings.is_full:
            uses = _check_parts(shape, endings, prefix, task_types, findings)
            check_params(shape.tasks or (), params_schemas or {}, prefix, findings)
            check_queues(shape, prefix, queues, findings)
        if shape.definition is not None and not findings.error_count:
            content = orjson.dumps(raw)
            flow = prepare_flow(shape.definition, hashlib.sha256(content).hexdigest())
            indexes = range(len(flow.graph.names))
            _check_cycles(flow.graph, indexes, prefix, findings)
            _check_reach(flow.graph, indexes, endings, prefix, findings)
            check_order(uses, flow.graph, endings, findings)
            _check_joins(shape.definition, flow.graph, prefix, findings)
            check_own_calls(shape.definition, prefix, findings)
        elif not findings.is_full:
            _check_what_is_sure(shape, endings, prefix, findings)
    return Validated(
        errors=tuple(in_order(findings.errors, raw, prefix)),
        warnings=tuple(in_order(findings.warnings, raw, prefix)),
        flow=None if findings.error_count else flow,
        definition_json=content,
        error_count=findings.error_count,
    )


def _check_parts(
    shape: Shape,
    endings: EndingTasks,
    prefix: str,
    task_types: Collection[str] | None,
    findings: Findings,
) -> list[Use]:
    """All checks that need no graph; what is named by expressions, for the one that does."""
    names = read_names(shape.tasks)
    _check_names(shape, names, prefix, findings)
    _check_conditions(shape, names, prefix, findings)
    _check_cancels(shape, names, prefix, findings)
    check_endings(shape, names, endings, prefix, findings)
    if task_types is not None:
        _check_types(shape, prefix, task_types, findings)
    check_input_schema(shape.input_schema, f"{prefix}/input_schema", findings)
    return check_expressions(shape, names, endings, prefix, findings)


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
    found = (condition[field] for field in TARGETS if field in condition)
    return sum(len(target) if isinstance(target, list) else 1 for target in found)


def _check_names(shape: Shape, names: Names, prefix: str, findings: Findings) -> None:
    for index, task in enumerate(shape.tasks or ()):
        name = text_of(task, "name")
        if name is None:
            continue
        if name == END:
            place = f"{prefix}/tasks/{index}/name"
            findings.error(place, "reserved_name", f'"{END}" is reserved: it ends a branch')
        elif names.first.get(name, index) != index:
            place = f"{prefix}/tasks/{index}/name"
            if not findings.has_error_at(place):
                taken = f"the name {quoted(name)} is taken by task {names.first[name]}"
                findings.error(place, "duplicate_name", taken)
    start = shape.start_task
    if start is not None and not names.may_exist(start):
        findings.unknown(f"{prefix}/start_task", "unknown_task", "task", start, names.first)


def _check_conditions(shape: Shape, names: Names, prefix: str, findings: Findings) -> None:
    seen: dict[tuple[str, str], int] = {}
    for index, condition in enumerate(shape.conditions or ()):
        if not isinstance(condition, dict):
            continue
        pointer = f"{prefix}/conditions/{index}"
        source = text_of(condition, "source_task")
        if source is not None and not names.may_exist(source):
            findings.unknown(f"{pointer}/source_task", "unknown_task", "task", source, names.first)
        for field in TARGETS:
            if field in condition:
                _check_target(condition[field], f"{pointer}/{field}", names, findings)
        if index not in shape.bad_conditions and source is not None:
            outcome = text_of(condition, "outcome") or Outcome.SUCCESS
            # Of a name that is wrong itself nothing further can be said.
            sure = source in names.first and source not in names.repeated
            earlier = seen.get((source, outcome), index) if sure else index
            if sure and _decides_alone(condition, source, shape, names):
                seen.setdefault((source, outcome), index)
            if condition.get("target_task_error") is not None:
                # At least errors are sent where it says.
                earlier = index
            _warn_of_condition(source, outcome, pointer, earlier, index, findings)


def _check_cancels(shape: Shape, names: Names, prefix: str, findings: Findings) -> None:
    """Whether the tasks exist whose branches a task of the type ``cancel`` ends."""
    for index, task in enumerate(shape.tasks or ()):
        params = task.get("params") if isinstance(task, dict) else None
        if not isinstance(params, dict):
            continue
        wanted = params.get("tasks")
        task_type = text_of(task, "type") or text_of(task, "name")
        if task_type != "cancel" or not isinstance(wanted, list):
            continue
        for place, name in enumerate(wanted):
            if isinstance(name, str) and MARK not in name and not names.may_exist(name):
                pointer = f"{prefix}/tasks/{index}/params/tasks/{place}"
                findings.unknown(pointer, "unknown_task", "task", name, names.first)


def _decides_alone(
    condition: dict[str, JsonValue], source: str, shape: Shape, names: Names
) -> bool:
    """Whether a condition that applies leaves nothing to those of its outcome behind it."""
    task = shape.tasks[names.first[source]] if shape.tasks is not None else None
    return condition.get("when") is None and text_of(task, "route") != "all"


def _check_target(value: JsonValue, pointer: str, names: Names, findings: Findings) -> None:
    if isinstance(value, str):
        if value != END and not names.may_exist(value):
            findings.unknown(pointer, "unknown_task", "task", value, names.first)
        return
    heads: set[str] = set()
    for index, name in enumerate(value if isinstance(value, list) else ()):
        if not isinstance(name, str):
            continue
        if name == END:
            place = f"{pointer}/{index}"
            findings.error(place, "end_in_list", f'"{END}" cannot be one of several targets')
        elif name in heads:
            place = f"{pointer}/{index}"
            findings.error(place, "duplicate_head", f"{quoted(name)} stands twice in one list")
        elif not names.may_exist(name):
            findings.unknown(f"{pointer}/{index}", "unknown_task", "task", name, names.first)
        heads.add(name)


def _warn_of_condition(
    source: str, outcome: str, pointer: str, earlier: int, index: int, findings: Findings
) -> None:
    if earlier != index:
        findings.warning(
            pointer,
            "never_applies",
            f"condition {earlier} of {quoted(source)} has the same outcome and "
            "comes first, so this one never applies",
        )
    elif outcome == Outcome.FAILURE:
        findings.warning(
            f"{pointer}/outcome",
            "outcome_failure",
            'with outcome "failure", target_task_success is where a failure of the task leads, '
            "and target_task_failure where a success leads when no other condition says so",
        )


def _check_types(
    shape: Shape, prefix: str, task_types: Collection[str], findings: Findings
) -> None:
    known: list[str] | None = None
    for index, task in enumerate(shape.tasks or ()):
        field = "type" if isinstance(task, dict) and task.get("type") is not None else "name"
        task_type = text_of(task, field)
        if task_type is None or task_type in task_types:
            continue
        if field == "name" and has_unknown_field(task):
            # Perhaps "type" itself is misspelt: then its name is no type.
            continue
        known = known or sorted(task_types)
        findings.unknown(
            f"{prefix}/tasks/{index}/{field}",
            "unknown_task_type",
            "registered task type",
            task_type,
            known,
        )


def _check_cycles(graph: Graph, indexes: Sequence[int], prefix: str, findings: Findings) -> None:
    """``indexes`` says where the tasks of ``graph`` stand in the definition."""
    for trap in graph.cycles_without_exit():
        numbers = sorted(graph.numbers[name] for name in trap)
        named = ", ".join(quoted(graph.names[number]) for number in numbers[:5])
        findings.error(
            f"{prefix}/tasks/{indexes[numbers[0]]}",
            "endless_cycle",
            f"a branch that gets into this cycle never leaves it: {named}",
        )


def _check_reach(
    graph: Graph, indexes: Sequence[int], endings: EndingTasks, prefix: str, findings: Findings
) -> None:
    reached = set(graph.order)
    for number, index in enumerate(indexes):
        if number not in reached and graph.names[number] not in endings:
            findings.warning(
                f"{prefix}/tasks/{index}",
                "unreachable_task",
                f"no path leads to {quoted(graph.names[number])}",
            )


def _check_joins(definition: FlowDefinition, graph: Graph, prefix: str, findings: Findings) -> None:
    """Whether what is said of joins is said of joins, and can be met."""
    sources = [0] * len(graph.names)
    for number in graph.order:
        for target in graph.edges(number):
            sources[target] += (number, target) not in graph.back_edges
    reached = set(graph.order)
    for number, task in enumerate(definition.tasks):
        if number not in reached:
            continue
        pointer = f"{prefix}/tasks/{number}"
        for field, is_given in (("join", task.join != "all"), ("tolerate", bool(task.tolerate))):
            if is_given and sources[number] < 2 and (field == "join" or task.for_each is None):
                message = f'"{field}" means nothing here: no branches meet at {quoted(task.name)}'
                findings.warning(f"{pointer}/{field}", "no_join", message)
        rule = graph.early.get(number)
        if rule is not None and rule.wait_for > sources[number] and not graph.has_each:
            message = (
                f"only {sources[number]} branches can come, and {rule.wait_for} are waited for"
            )
            findings.error(f"{pointer}/join", "never_met", message)


def _check_what_is_sure(
    shape: Shape, endings: EndingTasks, prefix: str, findings: Findings
) -> None:
    """Judge as much of the graph as will be so, too, when the other mistakes are mended."""
    names = read_names(shape.tasks)
    readable = read_graph(shape, names)
    if readable is None:
        return
    indexes = list(names.first.values())
    _check_cycles(readable.graph, indexes, prefix, findings)
    if readable.is_whole:
        _check_reach(readable.graph, indexes, endings, prefix, findings)
