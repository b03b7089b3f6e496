"""The expressions of a definition, read once: what goes into tasks, what conditions ask.

Only tasks that hold an expression appear here, so a definition without any costs nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import JsonValue

from shared.definition import FlowDefinition, TaskDefinition, bare_expression
from shared.expressions import Expression, Template, parse_expression, parse_template

MARK = "${"
"""What every expression in a text begins with."""


@dataclass(frozen=True, slots=True)
class TaskData:
    """The expressions of one task and of its conditions."""

    params: Template | None = None
    """None where the params are taken as they stand."""
    for_each: Expression | None = None
    whens: tuple[Expression | None, ...] = ()
    """Of the task's conditions, in the order written."""

    @property
    def before(self) -> frozenset[str]:
        """The tasks whose results are read before the task runs."""
        params = self.params.task_names if self.params is not None else frozenset()
        return params if self.for_each is None else params | self.for_each.task_names

    @property
    def after(self) -> frozenset[str]:
        """The tasks whose results its conditions read."""
        return frozenset().union(*(when.task_names for when in self.whens if when is not None))

    @property
    def secrets(self) -> frozenset[str]:
        """The secrets that go into it."""
        references = () if self.params is None else self.params.references
        return frozenset(r.key for r in references if r.kind == "secrets" and r.key is not None)


@dataclass(frozen=True, slots=True)
class DataFlow:
    """All expressions of one definition."""

    tasks: Mapping[str, TaskData] = field(default_factory=dict)
    output: Template | None = None
    """None where the run's output is the data of its last task."""

    def of(self, task: str) -> TaskData:
        """The expressions of a task; none for most."""
        return self.tasks.get(task, _NO_DATA)


_NO_DATA = TaskData()


def read_data_flow(definition: FlowDefinition) -> DataFlow:
    """Read the expressions of a definition that is known to be valid."""
    whens: dict[str, list[Expression | None]] = {}
    for condition in definition.conditions:
        asked = None if condition.when is None else _read(condition.when)
        whens.setdefault(condition.source_task, []).append(asked)
    found: dict[str, TaskData] = {}
    for task in definition.tasks:
        data = _read_task(task, whens.get(task.name, ()))
        if data is not None:
            found[task.name] = data
    output = None if definition.output is None else parse_template(definition.output)
    return DataFlow(found, output)


def _read_task(task: TaskDefinition, whens: Sequence[Expression | None]) -> TaskData | None:
    params = None
    if task.params and holds_expression(task.params):
        params = parse_template(task.params)
    for_each = None if task.for_each is None else _read(task.for_each)
    if params is None and for_each is None and not any(whens):
        return None
    return TaskData(params, for_each, tuple(whens) if any(whens) else ())


def _read(text: str) -> Expression:
    return parse_expression(bare_expression(text)[0])


def holds_expression(value: JsonValue) -> bool:
    """Whether any string in ``value`` may hold an expression."""
    pending = [value]
    while pending:
        one = pending.pop()
        if isinstance(one, str):
            if MARK in one:
                return True
        elif isinstance(one, dict):
            # Keys too: that they hold none is a finding, and not for here to decide.
            pending.extend(one)
            pending.extend(one.values())
        elif isinstance(one, list):
            pending.extend(one)
    return False
