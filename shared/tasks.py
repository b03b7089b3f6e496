"""What a task is: the classes and the decorator that people write their work with.

A task type is a subclass of :class:`BaseTask`, or a function under :func:`task`. This module
says what such code may look like. What it is handed is in ``shared.task_context``; finding it is
``shared.registry``'s work and running it ``worker.execution``'s. Nothing here knows a database,
a queue or a run.

What ``run`` may return, and nothing else, so that a forgotten ``return`` or a wrong shape is
an error at once and not a strange value three tasks later:

========================================  ==================================================
``{"success": bool, "data": JSON}``       the result; ``data`` may be left out (``{}``)
:class:`TaskResult`                       the same as an object
``True``, ``False``, ``None``             success, failure, success; ``data`` is ``{}``
:class:`Suspend`                          wait without holding a worker, then ``resume``
:class:`Finish`                           end the whole run as completed
:class:`RunFlow`                          run a stored definition, then ``resume``
========================================  ==================================================
"""

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, TypeAlias, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.errors import PydanticUserError

from shared.errors import InvalidTask
from shared.task_context import Json, TaskContext

MAX_NAME_LENGTH = 200
"""As long as a task's name in a definition, because a type is named there."""


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What a task came to: a success or a failure, and its data."""

    success: bool
    data: Json = field(default_factory=dict)
    """JSON, or a pydantic model. What the next task sees as ``previous``."""
    cancels: tuple[str, ...] = ()
    """Tasks of the flow: the branches of this run that stand at them now end, their task runs
    cancelled. They have failed nobody, and joins do not wait for them any more."""


@dataclass(frozen=True, slots=True)
class Suspend:
    """Returned by a task that wants to be woken later and hold no worker until then.

    The wait survives restarts. When it is over the task's ``resume`` is called, maybe on
    another machine: what it needs must be in its params or in the world, not on ``self``.
    """

    until: datetime | None = None
    """A time with a time zone. One in the past wakes at once."""
    seconds: float | None = None
    """From now on. Of both at most one is given, and exactly one where ``signal`` is not."""
    signal: str | None = None
    """The name of a signal that ends the wait; with a time, whichever comes first."""

    def __post_init__(self) -> None:
        if self.until is not None and self.seconds is not None:
            raise ValueError("Suspend takes either until or seconds")
        if self.until is None and self.seconds is None and not self.signal:
            raise ValueError("Suspend takes until, seconds or a signal")
        if self.signal is not None and not 0 < len(self.signal) <= MAX_NAME_LENGTH:
            raise ValueError(f"Suspend: a signal has 1 to {MAX_NAME_LENGTH} characters")
        if self.until is not None and self.until.utcoffset() is None:
            raise ValueError("Suspend: until needs a time zone")
        # Written so that NaN is refused as well.
        if self.seconds is not None and not 0 <= self.seconds <= MAX_SUSPEND_SECONDS:
            raise ValueError(
                f"Suspend: seconds must lie between 0 and {MAX_SUSPEND_SECONDS}, not {self.seconds}"
            )


@dataclass(frozen=True, slots=True)
class Finish:
    """Returned by a task that ends the whole run as completed; what still runs is cancelled."""

    data: Json = field(default_factory=dict)
    """JSON: the run's output, where its definition does not say otherwise."""


@dataclass(frozen=True, slots=True)
class RunFlow:
    """Returned by a task that wants a stored definition run, and to go on when that is over.

    The run is stored in the same transaction as the wait, so there is one of it however often
    a worker dies. The task's ``resume`` is then called with what it came to.
    """

    flow_id: str
    version: int | None = None
    """The newest where it is None."""
    input: Json = field(default_factory=dict)
    """JSON."""


MAX_SUSPEND_SECONDS = 10 * 366 * 86_400
"""Ten years: longer is a mistake of units."""

TaskOutput: TypeAlias = dict[str, Json] | TaskResult | Suspend | Finish | RunFlow | bool | None
"""All that ``run`` may return; the table above says what each means."""


class BaseTask:
    """A task type. Subclasses have a ``name`` and a ``run``; the docstring describes it.

    A fresh instance is made, without arguments, for each attempt.
    """

    name: ClassVar[str]
    Params: ClassVar[type[BaseModel] | None] = None
    """What ``params`` must look like. Checked before ``run`` is called."""
    needs_results: ClassVar[bool] = True
    """False where neither ``context.tasks`` nor ``context.previous`` is ever read: they need
    not be loaded then, and are empty."""

    run_is_async: ClassVar[bool] = True
    """Read off ``run``: a synchronous one is run on a thread."""
    resume_is_async: ClassVar[bool] = True

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # Read once here, because asking costs more than a whole attempt may.
        cls.run_is_async = inspect.iscoroutinefunction(cls.run)
        own_resume = cls.resume is not BaseTask.resume
        cls.resume_is_async = (
            inspect.iscoroutinefunction(cls.resume) if own_resume else cls.run_is_async
        )

    def run(self, context: TaskContext) -> Awaitable[TaskOutput] | TaskOutput:
        """Do the work: ``async def`` on the event loop, or plain ``def`` on a thread.

        Raising is a breakage and fails the attempt; a "no" is ``{"success": False}``.
        """
        raise NotImplementedError(f"{type(self).__name__} has no run()")

    def resume(self, context: TaskContext) -> Awaitable[TaskOutput] | TaskOutput:
        """Called instead of ``run`` when a :class:`Suspend` is over. Runs again by default,
        which is how a task that polls is written."""
        return self.run(context)

    @classmethod
    def description(cls) -> str:
        """The docstring, as shown to who chooses a task type."""
        return inspect.cleandoc(cls.__doc__ or "") if "__doc__" in cls.__dict__ else ""


def check_task(candidate: type[BaseTask]) -> type[BaseTask]:
    """``candidate``, if it can be registered.

    Raises:
        InvalidTask: its name cannot stand in a definition, or it lacks ``run``.
    """
    name = getattr(candidate, "name", None)
    where = f"{candidate.__module__}.{candidate.__qualname__}"
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME_LENGTH or name == "end":
        raise InvalidTask(
            f"{where}: name must be a text of 1 to {MAX_NAME_LENGTH} characters and not 'end'"
        )
    if not name.isprintable():
        raise InvalidTask(f"{where}: name {name!r} holds characters that cannot be printed")
    if candidate.run is BaseTask.run:
        raise InvalidTask(f"{where}: task {name!r} has no run()")
    params = candidate.Params
    if params is not None and BaseModel not in getattr(params, "__mro__", ()):
        raise InvalidTask(f"{where}: Params of task {name!r} must be a pydantic model")
    return candidate


# --- The short way: a function -------------------------------------------------------------------

Function = TypeVar("Function", bound=Callable[..., Any])

_MARK = "__flow_task__"
_CONTEXT = "context"
"""A parameter of that name gets the :class:`TaskContext` instead of one of the params."""


def task(name: str) -> Callable[[Function], Function]:
    """Make a function the task type ``name``. The function itself stays as it is.

    Its parameters are taken from the task's ``params`` by their names and checked against
    their annotations; one called ``context`` gets the :class:`TaskContext`. ``async def`` runs
    on the event loop, ``def`` on a thread.

    Raises:
        InvalidTask: the name or the parameters cannot be used.
    """
    if not isinstance(name, str):
        raise InvalidTask('@task needs the name of the task type: @task("resize")')

    def mark(function: Function) -> Function:
        setattr(function, _MARK, check_task(_task_of(name, function)))
        return function

    return mark


def task_of(value: object) -> type[BaseTask] | None:
    """The task type that ``value`` is, or that :func:`task` made of it."""
    if isinstance(value, type) and issubclass(value, BaseTask):
        return value
    marked = getattr(value, _MARK, None)
    return marked if isinstance(marked, type) and issubclass(marked, BaseTask) else None


def _task_of(name: str, function: Callable[..., Any]) -> type[BaseTask]:
    if not inspect.isfunction(function) or inspect.isasyncgenfunction(function):
        raise InvalidTask(f"@task({name!r}) must stand over a def or an async def")
    parameters = inspect.signature(function).parameters
    takes_context = _CONTEXT in parameters
    model, fields, open_ended = _params_model(name, function)

    def arguments(context: TaskContext) -> dict[str, Any]:
        params = context.params
        found = {parameter: getattr(params, field_) for parameter, field_ in fields}
        if open_ended:
            found.update(params.model_extra)
        if takes_context:
            found[_CONTEXT] = context
        return found

    run: Callable[[BaseTask, TaskContext], Any]
    if inspect.iscoroutinefunction(function):

        async def run(self: BaseTask, context: TaskContext) -> Any:
            return await function(**arguments(context))
    else:

        def run(self: BaseTask, context: TaskContext) -> Any:
            return function(**arguments(context))

    body = {
        "__doc__": function.__doc__,
        "__module__": function.__module__,
        "__qualname__": function.__qualname__,
        "name": name,
        "Params": model,
        "needs_results": takes_context,
        "run": run,
    }
    return type(function.__name__, (BaseTask,), body)


def _params_model(
    name: str, function: Callable[..., Any]
) -> tuple[type[BaseModel], list[tuple[str, str]], bool]:
    """The model of a function's parameters, which parameter is which of its fields, and
    whether it takes any others (``**params``)."""
    try:
        annotations = get_type_hints(function, include_extras=True)
    except (NameError, TypeError) as error:
        raise InvalidTask(f"@task({name!r}): an annotation cannot be read: {error}") from error
    definitions: dict[str, Any] = {}
    fields: list[tuple[str, str]] = []
    open_ended = False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name == _CONTEXT:
            continue
        if parameter.kind is parameter.VAR_KEYWORD:
            open_ended = True
            continue
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
            raise InvalidTask(
                f"@task({name!r}): parameter {parameter.name!r} cannot be given by its name"
            )
        # Under names of our own, so that a parameter may be called `json` or `_x`, too.
        own_name = f"parameter_{len(fields)}"
        default = ... if parameter.default is parameter.empty else parameter.default
        definitions[own_name] = (
            annotations.get(parameter.name, Any),
            Field(default, alias=parameter.name, title=parameter.name),
        )
        fields.append((parameter.name, own_name))
    config = ConfigDict(extra="allow" if open_ended else "forbid")
    try:
        model = create_model(
            function.__name__, __config__=config, __module__=function.__module__, **definitions
        )
    except PydanticUserError as error:
        raise InvalidTask(f"@task({name!r}): {error.message}") from error
    return model, fields, open_ended
