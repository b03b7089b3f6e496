"""Which task types there are: found by entry points and by ``FLOW_TASK_MODULES``.

A definition names a task type; only what stands here is ever run for it. Nothing is imported
by a name that came from a definition.

A plug-in that cannot be imported is listed under :attr:`Registry.problems` and does not stop
the others. Two task types of one name are refused, because which of them runs would depend on
the order in which a machine happens to find them.
"""

import difflib
import hashlib
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

from pydantic.errors import PydanticUserError

from shared.errors import InvalidTask, NotFound
from shared.params_schema import TaskTypes
from shared.task_context import Json
from shared.tasks import BaseTask, check_task, task_of

ENTRY_POINT_GROUP = "flow_manager.tasks"
"""Where distributions announce their tasks; the entry's name is the task's name."""

OWN_DISTRIBUTION = "flow-manager"
"""Ours, whose entry points are the built-in tasks."""


@dataclass(frozen=True, slots=True)
class TaskType:
    """What is told about a task type to who wants to use it."""

    name: str
    description: str
    params_schema: Json
    """JSON Schema of ``params``; None where anything goes."""
    source: str
    """Where it was found: ``distribution version (module:object)`` or ``module:object``."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A plug-in that is not there because of an error of its own."""

    source: str
    message: str
    traceback: str


@dataclass(frozen=True, slots=True)
class _Registered:
    task: type[BaseTask]
    source: str


class Registry:
    """Task types by name. Filled once at the start of a process, then only read."""

    def __init__(self) -> None:
        self._registered: dict[str, _Registered] = {}
        self._problems: list[Problem] = []

    def names(self) -> frozenset[str]:
        """The names of all task types that can be run here."""
        return frozenset(self._registered)

    def __contains__(self, name: object) -> bool:
        return name in self._registered

    def get(self, name: str) -> type[BaseTask]:
        """The task type of that name.

        Raises:
            NotFound: there is none; the message names similar ones.
        """
        registered = self._registered.get(name)
        if registered is None:
            near = difflib.get_close_matches(name[:200], self._registered, n=3)
            hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise NotFound(f"no task type {name[:200]!r} is registered{hint}")
        return registered.task

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The plug-ins that could not be loaded, with their errors."""
        return tuple(self._problems)

    def describe(self) -> list[TaskType]:
        """All task types by name, with the schemas of their params."""
        return [
            TaskType(
                name=name,
                description=registered.task.description(),
                params_schema=_schema(registered.task),
                source=registered.source,
            )
            for name, registered in sorted(self._registered.items())
        ]

    def types(self) -> TaskTypes:
        """The names of all task types, and the schemas of those that judge their params."""
        described = self.describe()
        return TaskTypes(
            names=frozenset(kind.name for kind in described),
            params_schemas={k.name: k.params_schema for k in described if k.params_schema},
        )

    def add(self, task: type[BaseTask], source: str | None = None) -> None:
        """Register ``task`` under its name. The same class twice is not an error.

        Raises:
            InvalidTask: it cannot be registered, or another class has its name.
        """
        check_task(task)
        source = source or f"{task.__module__}:{task.__qualname__}"
        present = self._registered.get(task.name)
        if present is None:
            self._registered[task.name] = _Registered(task, source)
        elif present.task is not task:
            raise InvalidTask(
                f"two task types are named {task.name!r}: {present.source} and {source}; "
                "rename one of them"
            )

    def note_problem(self, source: str, error: BaseException) -> None:
        """Remember that a plug-in could not be loaded."""
        lines = traceback.format_exception(error)
        message = f"{type(error).__name__}: {error}"
        self._problems.append(Problem(source, message, "".join(lines)))


def load_registry(task_modules: Sequence[str] = (), *, builtin: bool = True) -> Registry:
    """Find and import all task types.

    ``task_modules`` are names of modules, or paths of ``.py`` files, whose task classes and
    ``@task`` functions are registered. The current folder, or the folder of the file, is
    appended to ``sys.path`` and never put first: a user's ``shared/`` must not replace ours.
    Without ``builtin`` our own tasks are left out.

    Raises:
        InvalidTask: two task types have the same name.
    """
    registry = Registry()
    for entry in _entries():
        if builtin or _distribution(entry) != OWN_DISTRIBUTION:
            _load_entry(registry, entry)
    for name in task_modules:
        _load_module(registry, name)
    return registry


def announced_names() -> frozenset[str]:
    """The names that installed distributions announce, without importing anyone's code."""
    return frozenset(entry.name for entry in _entries())


def _entries() -> list[EntryPoint]:
    # Ours first: where another has the same name, the message then names the newcomer last.
    # An editable install may be listed twice; its entries are equal.
    found = {(e.name, e.value): e for e in entry_points(group=ENTRY_POINT_GROUP)}
    return sorted(
        found.values(), key=lambda e: (_distribution(e) != OWN_DISTRIBUTION, e.name, e.value)
    )


def _distribution(entry: EntryPoint) -> str:
    return entry.dist.name.lower().replace("_", "-") if entry.dist else ""


def _load_entry(registry: Registry, entry: EntryPoint) -> None:
    version = f" {entry.dist.version}" if entry.dist else ""
    source = f"{_distribution(entry) or 'unknown'}{version} ({entry.value})"
    try:
        found = task_of(entry.load())
        if found is None:
            raise InvalidTask(f"{entry.value} is neither a BaseTask class nor a @task function")
        if check_task(found).name != entry.name:
            raise InvalidTask(
                f"the entry point is named {entry.name!r} but its task {found.name!r}"
            )
    except (Exception, SystemExit) as error:  # noqa: BLE001  # a plug-in may raise anything
        registry.note_problem(source, error)
    else:
        registry.add(found, source)


def _load_module(registry: Registry, name: str) -> None:
    try:
        module = _import_file(Path(name)) if _is_path(name) else _import_module(name)
        found = [check_task(task) for task in _tasks_in(module)]
        if not found:
            raise InvalidTask(f"{name} holds no BaseTask class and no @task function")
    except (Exception, SystemExit) as error:  # noqa: BLE001  # a plug-in may raise anything
        registry.note_problem(name, error)
        return
    for task in found:
        registry.add(task, f"{name}:{task.__qualname__}")


def _tasks_in(module: ModuleType) -> Iterator[type[BaseTask]]:
    """The tasks that ``module`` itself defines, in the order written. What it only imported,
    such as ``BaseTask`` itself or a shared parent class, is not meant; neither is a class that
    has no name of its own (a parent of tasks)."""
    seen: set[type[BaseTask]] = set()
    for value in list(vars(module).values()):
        task = task_of(value)
        if task is None or task in seen or task.__module__ != module.__name__:
            continue
        seen.add(task)
        if "name" in task.__dict__:
            yield task


def _is_path(name: str) -> bool:
    return name.endswith(".py") or os.sep in name


def _import_module(name: str) -> ModuleType:
    _append_to_path(Path.cwd())
    return importlib.import_module(name)


def _import_file(path: Path) -> ModuleType:
    path = path.expanduser().resolve()
    # A name of its own, so that a file called json.py shadows nothing.
    name = f"flow_task_file_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    _append_to_path(path.parent)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    # pydantic and dataclasses look their module up while it is still being executed.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _append_to_path(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _schema(task: type[BaseTask]) -> Json:
    if task.Params is None:
        return None
    try:
        return task.Params.model_json_schema()
    except PydanticUserError:
        # A type of the user's own without a schema; params are checked by the model anyhow.
        return {"type": "object"}
