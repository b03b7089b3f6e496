"""Judges ``compensate`` and ``finally``: the tasks that run when a run ends are apart from it.

They stand in the list of the tasks and have everything that one visit has (a type, params, a
timeout, attempts, a queue). No condition leads to them or from them, and they do not fork into
items or wait for others.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import JsonValue

from shared.findings import Findings, quoted
from shared.readable import Names
from shared.shape import TARGETS, Shape, text_of

_PLAIN: Mapping[str, JsonValue] = {
    "for_each": None,
    "join": "all",
    "tolerate": 0,
    "route": "first",
    "compensate": None,
}
"""What means nothing for a task that runs at the end, but as it is by default."""


@dataclass(frozen=True, slots=True)
class EndingTasks:
    """The tasks that run when a run ends."""

    undone: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Compensating task -> the tasks that it undoes."""
    last: str | None = None
    """The ``finally`` task."""
    of_items: frozenset[str] = frozenset()
    """The compensating tasks that undo a list, item by item."""

    def __contains__(self, name: object) -> bool:
        return name in self.undone or (name is not None and name == self.last)


def read_ending_tasks(shape: Shape) -> EndingTasks:
    """The tasks of a definition that run when a run ends, as far as they can be told."""
    undone: dict[str, list[str]] = {}
    of_items = set()
    for task in shape.tasks or ():
        compensation, name = text_of(task, "compensate"), text_of(task, "name")
        if compensation is not None and name is not None:
            undone.setdefault(compensation, []).append(name)
            if text_of(task, "for_each") is not None:
                of_items.add(compensation)
    return EndingTasks(undone, shape.last, frozenset(of_items))


def check_endings(
    shape: Shape, names: Names, endings: EndingTasks, prefix: str, findings: Findings
) -> None:
    """Whether the tasks that run at the end exist, and stand apart."""
    last = endings.last
    if last is not None and not names.may_exist(last):
        findings.unknown(f"{prefix}/finally", "unknown_task", "task", last, names.first)
    for index, task in enumerate(shape.tasks or ()):
        if isinstance(task, dict):
            _check_task(task, f"{prefix}/tasks/{index}", names, endings, findings)
    if shape.start_task in endings:
        _refuse(f"{prefix}/start_task", shape.start_task, "no run starts with it", findings)
    if not endings.undone and last is None:
        return
    for index, condition in enumerate(shape.conditions or ()):
        for pointer, name, what in _named(condition, f"{prefix}/conditions/{index}"):
            if name in endings:
                _refuse(pointer, name, f"no condition leads {what} it", findings)


def _check_task(
    task: dict[str, JsonValue],
    pointer: str,
    names: Names,
    endings: EndingTasks,
    findings: Findings,
) -> None:
    name, compensation = text_of(task, "name"), text_of(task, "compensate")
    place = f"{pointer}/compensate"
    if compensation is not None and compensation == name:
        findings.error(place, "undoes_itself", f"{quoted(name)} cannot undo itself")
        return
    if compensation is not None and not names.may_exist(compensation):
        findings.unknown(place, "unknown_task", "task", compensation, names.first)
    if name in endings:
        for setting, default in _PLAIN.items():
            if setting in task and task[setting] != default:
                what = f'"{setting}" means nothing for it'
                _refuse(f"{pointer}/{setting}", name, what, findings)


def _named(condition: JsonValue, pointer: str) -> Iterator[tuple[str, str, str]]:
    """The tasks that a condition names: where, whom, and in which direction."""
    if not isinstance(condition, dict):
        return
    source = text_of(condition, "source_task")
    if source is not None:
        yield f"{pointer}/source_task", source, "from"
    for target in TARGETS:
        heads = condition.get(target)
        if isinstance(heads, str):
            yield f"{pointer}/{target}", heads, "to"
        elif isinstance(heads, list):
            for index, head in enumerate(heads):
                if isinstance(head, str):
                    yield f"{pointer}/{target}/{index}", head, "to"


def _refuse(pointer: str, name: str | None, why: str, findings: Findings) -> None:
    message = f"{quoted(name or '')} runs when a run ends (compensate or finally): {why}"
    findings.error(pointer, "runs_at_end", message)
