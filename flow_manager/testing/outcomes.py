"""What a test says that tasks come to, and how that becomes the answer to an attempt."""

import inspect
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from pydantic import BaseModel

from shared.errors import InvalidInput
from shared.findings import nearest_names
from shared.simulated_tasks import answer_raised, answer_unasked, context_of, read_answer
from shared.simulation import Answer, Attempt
from shared.task_context import TaskContext
from shared.tasks import BaseTask, Finish, RunFlow, Suspend, TaskResult, task_of

Outcome: TypeAlias = Any
"""What attempts at a task come to: ``True`` or ``False``; its data; ``{"success": ..., "data":
...}`` or a :class:`TaskResult` as a task returns it; an exception to raise; a function, plain or
``async``, that is called with the context and returns any of these; a list of these for
consecutive attempts, of which the last one repeats; :class:`Items`."""

_RESULTS = (TaskResult, Suspend, Finish, RunFlow)


@dataclass(frozen=True, slots=True, init=False)
class Items:
    """Outcomes of a task with ``for_each``, one an item; the last one repeats."""

    outcomes: tuple[Outcome, ...]

    def __init__(self, *outcomes: Outcome) -> None:
        if not outcomes:
            raise InvalidInput("Items takes at least one outcome")
        object.__setattr__(self, "outcomes", outcomes)


class _Any(BaseTask):
    """Stands for a task type that is not there: any params fit."""

    name = "any"

    def run(self, context: TaskContext) -> None:
        """Never called."""


@dataclass(frozen=True, slots=True)
class Pending:
    """An answer that has to be waited for, on an event loop."""

    returned: Awaitable[Any]
    attempt: Attempt
    is_outcome: bool

    async def wait(self) -> Answer:
        """The answer."""
        try:
            come_to = await self.returned
        except Exception as error:  # noqa: BLE001  # the border of one attempt
            return _raised(error)
        return _answered(come_to, self.attempt, is_outcome=self.is_outcome)

    def close(self) -> None:
        """Never mind."""
        if inspect.iscoroutine(self.returned):
            self.returned.close()


class Answers:
    """Answers the attempts of one run."""

    def __init__(
        self, outcomes: Mapping[str, Outcome], tasks: Mapping[str, type[BaseTask]]
    ) -> None:
        self._outcomes = outcomes
        self._tasks = tasks
        """By the names of tasks, or of their types."""
        self._told: Counter[tuple[str, int | None]] = Counter()

    def __call__(self, attempt: Attempt) -> "Answer | Pending":
        """What an attempt comes to; to be awaited where the code that says it is ``async``."""
        task = self._tasks.get(attempt.task) or self._tasks.get(attempt.task_type)
        if attempt.task in self._outcomes:
            return self._told_by(self._outcome(attempt), task or _Any, attempt)
        if task is not None:
            instance = task()
            call = instance.resume if attempt.is_resumed else instance.run
            return _called(call, task, attempt, is_outcome=False)
        return answer_unasked(attempt)

    def _outcome(self, attempt: Attempt) -> Outcome:
        outcome, index = self._outcomes[attempt.task], attempt.index
        if isinstance(outcome, Items) and index is not None:
            outcome = outcome.outcomes[min(index, len(outcome.outcomes) - 1)]
        if not isinstance(outcome, list):
            return outcome
        key = (attempt.task, index)
        if not attempt.is_resumed:
            self._told[key] += 1
        return outcome[min(self._told[key], len(outcome)) - 1]

    def _told_by(
        self, outcome: Outcome, task: type[BaseTask], attempt: Attempt
    ) -> "Answer | Pending":
        if callable(outcome) and not _is_exception(outcome):
            return _called(outcome, task, attempt, is_outcome=True)
        return _answered(outcome, attempt, is_outcome=True)


def check_outcomes(outcomes: Mapping[str, Outcome], tasks: Sequence[str]) -> None:
    """Whether the outcomes are of tasks that there are, and of a kind that is known.

    Raises:
        InvalidInput: one is not.
    """
    for name, outcome in outcomes.items():
        if name not in tasks:
            nearest = nearest_names(name, tasks)
            hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
            raise InvalidInput(f"outcomes: the flow has no task {name!r}{hint}")
        for one in outcome.outcomes if isinstance(outcome, Items) else (outcome,):
            _check(name, one)


def _check(name: str, outcome: Outcome) -> None:
    if isinstance(outcome, list) and not outcome:
        raise InvalidInput(f"outcomes: the list of {name!r} is empty")
    for one in outcome if isinstance(outcome, list) else (outcome,):
        if not (callable(one) or _is_exception(one) or _is_result(one)):
            raise InvalidInput(f"outcomes: {name!r}: {_no_outcome(one)}")


def read_tasks(
    tasks: Mapping[str, object] | Sequence[object],
) -> dict[str, type[BaseTask]]:
    """Task types by the names under which a test gives them, or by their own.

    Raises:
        InvalidInput: one is neither a ``BaseTask`` class nor a ``@task`` function.
    """
    given = tasks if isinstance(tasks, Mapping) else {_own_name(one): one for one in tasks}
    found: dict[str, type[BaseTask]] = {}
    for name, one in given.items():
        task = task_of(one)
        if task is None:
            raise InvalidInput(f"tasks: {name!r} is neither a BaseTask class nor a @task function")
        found[name] = task
    return found


def _own_name(one: object) -> str:
    task = task_of(one)
    return repr(one) if task is None else task.name


def _called(
    function: Callable[[TaskContext], Any],
    task: type[BaseTask],
    attempt: Attempt,
    *,
    is_outcome: bool,
) -> "Answer | Pending":
    """Call what says what an attempt comes to."""

    try:
        returned = function(context_of(task, attempt))
    except Exception as error:  # noqa: BLE001  # the border of one attempt
        return _raised(error)
    if inspect.isawaitable(returned):
        return Pending(returned, attempt, is_outcome)
    return _answered(returned, attempt, is_outcome=is_outcome)


def _answered(returned: Any, attempt: Attempt, *, is_outcome: bool) -> Answer:
    """The answer by what a task returned, or by what a test says that it comes to."""
    try:
        return read_answer(_returned(returned) if is_outcome else returned, attempt)
    except Exception as error:  # noqa: BLE001  # the border of one attempt
        return _raised(error)


def _returned(outcome: Outcome) -> Any:
    """An outcome as a task would return it, or raise it."""
    if _is_exception(outcome):
        raise outcome
    if not _is_result(outcome):
        raise InvalidInput(_no_outcome(outcome))
    is_plain = isinstance(outcome, BaseModel) or (
        isinstance(outcome, dict)
        and not ("success" in outcome and outcome.keys() <= {"success", "data"})
    )
    return TaskResult(success=True, data=outcome) if is_plain else outcome


def _is_result(outcome: Outcome) -> bool:
    """Whether it is what a task returns, or its data."""
    return outcome is None or isinstance(outcome, (bool, dict, BaseModel, *_RESULTS))


def _no_outcome(outcome: Outcome) -> str:
    return (
        f"{type(outcome).__name__} is no outcome: give True, False, a dict, a TaskResult, an "
        "exception, a function, or a list of them"
    )


def _is_exception(outcome: Outcome) -> bool:
    if isinstance(outcome, type):
        return issubclass(outcome, BaseException)
    return isinstance(outcome, BaseException)


def _raised(error: Exception) -> Answer:
    # From the first frame on that is not this module's.
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next
    text = "".join(traceback.format_exception(type(error), error, frames))
    return answer_raised(error, text)
