"""What can be said of a definition that has mistakes: its names, and as much of its graph.

A mistake is told once. What depends on a part that could not be read is not judged, and
nothing is said that would no longer be true when the other mistakes are mended.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeGuard

from pydantic import JsonValue

from shared.definition import END, Condition, FlowDefinition, Target, TaskDefinition
from shared.graph import Graph, build_graph
from shared.shape import TARGETS, Shape, text_of
from shared.status import Outcome


@dataclass(frozen=True, slots=True)
class ReadableGraph:
    """The graph of what could be read."""

    graph: Graph
    """Its tasks are those of ``Names.first``, in that order, and one more that stands for
    whatever is unknown."""
    is_whole: bool
    """Whether nothing of the graph was wrong, only something else."""


@dataclass(frozen=True, slots=True)
class Names:
    """The names of the tasks, also of those that have another mistake."""

    first: dict[str, int]
    """The first task of each name."""
    repeated: frozenset[str]
    """The names that several tasks have."""
    guessed: frozenset[str]
    """What tasks without a readable name are probably called."""
    is_complete: bool
    """Whether every task has a name, if only a guessed one."""

    def may_exist(self, name: str) -> bool:
        """Whether ``name`` is a task, or may be one when what is wrong has been mended."""
        return name in self.first or name in self.guessed or not self.is_complete


_NOWHERE = ""
"""The name of a task that no task can have: where an unknown target leads."""


def read_names(tasks: Sequence[JsonValue] | None) -> Names:
    """The names of ``tasks``, as far as they can be told."""
    first: dict[str, int] = {}
    repeated: set[str] = set()
    guessed: set[str] = set()
    is_complete = tasks is not None
    for index, task in enumerate(tasks or ()):
        name = text_of(task, "name")
        if not name:
            guesses = _guess_names(task)
            guessed.update(guesses)
            is_complete = is_complete and bool(guesses)
        elif name in first:
            repeated.add(name)
        else:
            first[name] = index
    return Names(first, frozenset(repeated), frozenset(guessed), is_complete)


def has_unknown_field(task: JsonValue) -> bool:
    """Whether ``task`` has a field that tasks do not have."""
    return isinstance(task, dict) and not task.keys() <= TaskDefinition.model_fields.keys()


def _guess_names(task: JsonValue) -> list[str]:
    """What ``task`` may be called: it is a plain string, or ``name`` itself is misspelt."""
    if isinstance(task, str):
        return [task]
    if not isinstance(task, dict) or "name" in task:
        return []
    fields = TaskDefinition.model_fields
    return [text for key, text in task.items() if key not in fields and isinstance(text, str)]


def read_graph(shape: Shape, names: Names) -> ReadableGraph | None:
    """The graph of a definition with mistakes; None where nothing of it is sure.

    A target that means nothing becomes a way out, and so does whatever cannot be told from
    a wrong condition: what is a cycle without exit here is one in the mended definition, too.
    """
    start, listed = shape.start_task, shape.conditions
    if start is None or start not in names.first or listed is None:
        return None
    by_source: dict[str, list[int]] = {}
    for index, condition in enumerate(listed):
        source = text_of(condition, "source_task")
        if source is None or source not in names.first:
            # It may belong to any task, and be its way out.
            return None
        by_source.setdefault(source, []).append(index)
    conditions: list[Condition] = []
    for source, indexes in by_source.items():
        is_bad = not shape.bad_conditions.isdisjoint(indexes)
        if source in names.repeated or (is_bad and len(indexes) > 1):
            conditions.append(_readable_condition({"source_task": source}, names, is_bad=True))
        else:
            conditions += [_readable_condition(listed[i], names, is_bad=is_bad) for i in indexes]
    tasks = [
        TaskDefinition.model_construct(name=name, route=_readable_route(shape, index))
        for name, index in names.first.items()
    ]
    tasks.append(TaskDefinition.model_construct(name=_NOWHERE))
    definition = FlowDefinition.model_construct(
        id="", start_task=start, tasks=tasks, conditions=conditions
    )
    is_whole = names.is_complete and not names.guessed and not names.repeated
    is_sure = not any(
        _NOWHERE in target
        for condition in conditions
        for target in (
            condition.target_task_success,
            condition.target_task_failure,
            condition.target_task_error,
        )
        if isinstance(target, list)
    )
    return ReadableGraph(build_graph(definition), is_whole and is_sure)


def _readable_route(shape: Shape, index: int) -> Literal["first", "all"]:
    assert shape.tasks is not None
    return "all" if text_of(shape.tasks[index], "route") == "all" else "first"


def _readable_condition(raw: JsonValue, names: Names, *, is_bad: bool) -> Condition:
    """What is sure of a condition; ``is_bad``: it may lead to something else besides."""
    fields = raw if isinstance(raw, dict) else {}
    outcome = Outcome.SUCCESS
    if not is_bad and fields.get("outcome") == Outcome.FAILURE:
        outcome = Outcome.FAILURE
    success, failure = (
        _readable_target(fields.get(field, END), names, is_bad) for field in TARGETS[:2]
    )
    error = fields.get("target_task_error")
    return Condition.model_construct(
        source_task=text_of(raw, "source_task") or "",
        target_task_success=success,
        target_task_failure=failure,
        target_task_error=None if error is None else _readable_target(error, names, is_bad),
        outcome=outcome,
        when=text_of(raw, "when"),
    )


def _readable_target(value: JsonValue, names: Names, is_bad: bool) -> Target:
    if value == END and not is_bad:
        return END
    heads = value if isinstance(value, list) else [value]
    known = [head if _is_task(head, names) else _NOWHERE for head in heads]
    return list(dict.fromkeys([*known, _NOWHERE] if is_bad else known))


def _is_task(head: JsonValue, names: Names) -> TypeGuard[str]:
    return isinstance(head, str) and head != END and head in names.first
