"""Judges the expressions of a definition: can they be read, and is there what they name?

Part of the validation. Every mistake is told with the pointer of its string and the place in
it; what a task names must have been able to run before it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from pydantic import JsonValue

from shared.dataflow import MARK, holds_expression
from shared.definition import TaskLimit, bare_expression
from shared.ending_rules import EndingTasks
from shared.errors import InvalidExpression
from shared.expressions import (
    ENDING_RUN_KEYS,
    Reference,
    TemplateReference,
    parse_expression,
    parse_template,
)
from shared.findings import Findings, quoted
from shared.graph import Graph, Mask
from shared.readable import Names
from shared.shape import Shape, text_of


@dataclass(frozen=True, slots=True)
class Use:
    """One use of a task's result."""

    pointer: str
    offset: int
    task: str
    """The task that is named."""
    at: str | None
    """The task that the expression belongs to; None for the flow's own."""
    is_after: bool
    """Whether it is evaluated after that task."""
    asks: bool
    """Whether it asks if the task has run, or stands in the string of an expression that does."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an expression stands."""

    pointer: str
    at: str | None
    is_after: bool = False
    roots: frozenset[str] = frozenset({"input", "tasks", "run"})
    """The names that mean something there."""
    is_ending: bool = False
    """Whether it is evaluated when a run ends."""


MAX_EXPRESSION_TEXT = 1_000_000
"""Characters of all texts with expressions of a definition: reading them takes 2 seconds."""

_TASK_ROOTS = frozenset({"input", "tasks", "run", "iteration", "previous"})


def check_expressions(
    shape: Shape, names: Names, endings: EndingTasks, prefix: str, findings: Findings
) -> list[Use]:
    """Judge every expression by itself; the uses of tasks' results are left for the graph."""
    uses: list[Use] = []
    if _is_too_long(shape):
        message = f"the expressions have more than {MAX_EXPRESSION_TEXT} characters together"
        findings.error(prefix, "too_long", message)
        return uses
    for index, task in enumerate(shape.tasks or ()):
        if isinstance(task, dict):
            uses += _check_task(task, f"{prefix}/tasks/{index}", names, endings, findings)
    for index, condition in enumerate(shape.conditions or ()):
        when = text_of(condition, "when")
        if when is not None:
            place = _Place(
                f"{prefix}/conditions/{index}/when",
                text_of(condition, "source_task"),
                is_after=True,
                roots=_TASK_ROOTS,
            )
            uses += _check_text(when, place, names, findings)
    if shape.output is not None and holds_expression(shape.output):
        uses += _check_template(shape.output, _Place(f"{prefix}/output", None), names, findings)
    key = text_of(shape.concurrency, "key")
    if key is not None:
        # Worked out before the run exists: there is nothing but its input.
        place = _Place(f"{prefix}/concurrency/key", None, roots=frozenset({"input"}))
        uses += _check_template(key, place, names, findings)
    asked = {(use.pointer, use.task) for use in uses if use.asks}
    if not asked:
        return uses
    return [replace(use, asks=(use.pointer, use.task) in asked) for use in uses]


def _is_too_long(shape: Shape) -> bool:
    """Whether reading all expressions would take too long: told on the safe side, by all the
    text that holds some."""
    left = MAX_EXPRESSION_TEXT
    pending: list[JsonValue] = [shape.output, shape.concurrency]
    for task in shape.tasks or ():
        if isinstance(task, dict):
            pending += [task.get("params"), task.get("for_each"), task.get("limit")]
    for condition in shape.conditions or ():
        left -= len(text_of(condition, "when") or "")
    while pending and left >= 0:
        value = pending.pop()
        if isinstance(value, str):
            left -= len(value) if MARK in value else 0
        elif isinstance(value, dict):
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
    return left < 0


def _check_task(
    task: dict[str, JsonValue],
    pointer: str,
    names: Names,
    endings: EndingTasks,
    findings: Findings,
) -> Iterator[Use]:
    name, for_each, params = text_of(task, "name"), text_of(task, "for_each"), task.get("params")
    if for_each is not None:
        place = _Place(f"{pointer}/for_each", name, roots=_TASK_ROOTS)
        yield from _check_text(for_each, place, names, findings)
    elif "for_each" not in task and "concurrency" in task:
        message = '"concurrency" means nothing without for_each'
        findings.error(f"{pointer}/concurrency", "needs_for_each", message)
    if isinstance(params, dict) and params and holds_expression(params):
        roots = _TASK_ROOTS | {"secrets"}
        if for_each is not None or name in endings.of_items:
            roots |= {"item", "index"}
        place = _Place(f"{pointer}/params", name, roots=roots, is_ending=name in endings)
        yield from _check_template(params, place, names, findings)
    yield from _check_limit(task, f"{pointer}/limit", names, findings)


def _check_limit(
    task: dict[str, JsonValue], pointer: str, names: Names, findings: Findings
) -> Iterator[Use]:
    limit, key = task.get("limit"), text_of(task.get("limit"), "key")
    is_empty = isinstance(limit, dict) and limit.get("concurrency") is limit.get("rate") is None
    # What is misspelt is told as such, and once.
    if is_empty and isinstance(limit, dict) and limit.keys() <= TaskLimit.model_fields.keys():
        message = 'a limit needs "concurrency", "rate" or both'
        findings.error(pointer, "empty_limit", message)
    if key is not None:
        # No secrets: keys are stored and shown.
        roots = _TASK_ROOTS | ({"item", "index"} if "for_each" in task else set())
        place = _Place(f"{pointer}/key", text_of(task, "name"), roots=roots)
        yield from _check_template(key, place, names, findings)


def check_order(
    uses: Sequence[Use], graph: Graph, endings: EndingTasks, findings: Findings
) -> None:
    """Whether what is named can have run before, and surely has."""
    wanted = sorted({use.task for use in uses} & graph.numbers.keys())
    if not wanted:
        return
    before = _Before(graph, endings, wanted)
    for use in uses:
        found = before.of(use)
        if found is None:
            continue
        can, surely = found
        if not can:
            findings.error(
                use.pointer,
                "never_ran",
                f"{quoted(use.task)} cannot have run before this is evaluated",
                offset=use.offset,
            )
        elif not surely and not use.asks:
            findings.warning(
                use.pointer,
                "may_not_have_run",
                f"{quoted(use.task)} has not run on every path to here; ask "
                f'"{use.task[:60]}" in tasks first',
                offset=use.offset,
            )


class _Before:
    """Which tasks can have run, and surely have, where an expression is evaluated."""

    def __init__(self, graph: Graph, endings: EndingTasks, wanted: Sequence[str]) -> None:
        self._graph = graph
        self._endings = endings
        self._bits = {name: 1 << place for place, name in enumerate(wanted)}
        self._masks = graph.known_before(wanted)
        self._reached = set(graph.order)
        self._at_ends: dict[str, Mask] = {}

    def of(self, use: Use) -> tuple[bool, bool] | None:
        """Whether what ``use`` names can have run, and surely has; None where it was told
        already, or is never evaluated."""
        if use.task not in self._bits:
            return None
        if use.at in self._endings:
            return self._at_the_end(use)
        if use.at is None:
            return self._graph.numbers[use.task] in self._reached, True
        at = self._graph.numbers.get(use.at)
        if at not in self._reached:
            return None
        if use.is_after and use.task == use.at:
            return True, True
        can, surely = self._at(use.at, use.task)
        return can, surely

    def _at(self, at: str, task: str) -> tuple[bool, bool]:
        can, surely = self._masks[self._graph.numbers[at]]
        return bool(can & self._bits[task]), bool(surely & self._bits[task])

    def _at_the_end(self, use: Use) -> tuple[bool, bool]:
        """A run can end anywhere; but a task that is undone has run, and so has what runs on
        every path to it."""
        assert use.at is not None
        ran_in_it = use.task in self._endings and use.task != self._endings.last
        can = ran_in_it or self._graph.numbers[use.task] in self._reached
        return can, bool(self._surely_at_the_end(use.at) & self._bits[use.task])

    def _surely_at_the_end(self, at: str) -> Mask:
        """What surely has run, as a set, before a task that runs at the end."""
        together = self._at_ends.get(at)
        if together is None:
            together = 0 if at == self._endings.last else -1
            for name in self._endings.undone.get(at, ()):
                number = self._graph.numbers[name]
                if number in self._reached:
                    together &= self._masks[number][1] | self._bits.get(name, 0)
            self._at_ends[at] = together
        return together


def _check_template(
    value: JsonValue, place: _Place, names: Names, findings: Findings
) -> Iterator[Use]:
    template = parse_template(value)
    for problem in template.problems:
        findings.error(
            place.pointer + problem.pointer,
            "bad_expression",
            problem.message,
            problem.suggestion,
            problem.offset,
        )
    for reference in template.references:
        yield from _check_reference(
            reference, place, place.pointer + reference.pointer, names, findings
        )


def _check_text(text: str, place: _Place, names: Names, findings: Findings) -> Iterator[Use]:
    bare, start = bare_expression(text)
    try:
        expression = parse_expression(bare)
    except InvalidExpression as error:
        offset = start + error.offset
        findings.error(place.pointer, "bad_expression", error.message, error.suggestion, offset)
        return
    for found in expression.references:
        reference = replace(found, offset=start + found.offset)
        yield from _check_reference(reference, place, place.pointer, names, findings)


def _check_reference(
    reference: Reference | TemplateReference,
    place: _Place,
    pointer: str,
    names: Names,
    findings: Findings,
) -> Iterator[Use]:
    root = "tasks" if reference.task is not None else reference.kind
    if root not in place.roots:
        message = f"{root} means nothing here; there is {', '.join(sorted(place.roots))}"
        findings.error(pointer, "unknown_name", message, offset=reference.offset)
    elif root == "run" and reference.key in ENDING_RUN_KEYS and not place.is_ending:
        message = f"run.{reference.key} is known only to the tasks of compensate and finally"
        findings.error(pointer, "unknown_name", message, offset=reference.offset)
    elif reference.task is not None:
        if not names.may_exist(reference.task):
            findings.unknown(
                pointer, "unknown_task", "task", reference.task, names.first, reference.offset
            )
            return
        asks = reference.kind == "finished"
        yield Use(pointer, reference.offset, reference.task, place.at, place.is_after, asks)
