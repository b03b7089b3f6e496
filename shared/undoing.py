"""What is undone when a run does not end well, and what runs last: rules, as values.

A run of a definition with ``compensate`` or ``finally`` does not get its final status at once.
How it will have ended is written down as its :class:`Ending`; then one branch, the *ending
branch*, visits the compensations of what succeeded one after another, the latest result first,
and at last the ``finally`` task. Only then the run is over. Nothing can cut an ending short: a
compensation that fails is noted, and the next one runs.

Pure: the store keeps the plan as rows and asks for the next one, the simulator walks the list.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple

import orjson
from pydantic import JsonValue

from shared.definition import FlowDefinition, TaskDefinition
from shared.status import Outcome, RunStatus

FAILURES_KEPT = 20
"""Compensations that an error names; of more it tells the number."""

Told = dict[str, JsonValue]
"""An error as JSON: ``type``, ``message``, ``traceback`` and what else there is to tell."""


@dataclass(frozen=True, slots=True)
class Undoing:
    """What a definition says about the ending of its runs."""

    compensations: Mapping[str, str]
    """Task -> the task that undoes it."""
    lists: frozenset[str]
    """Those of them that run once an item: undone item by item."""
    last: str | None
    """The ``finally`` task."""
    tasks: Mapping[str, TaskDefinition]
    """The tasks that run in an ending, by name."""


def read_undoing(definition: FlowDefinition) -> Undoing | None:
    """What ``definition`` says about endings; None where it says nothing."""
    compensations = {
        task.name: task.compensate for task in definition.tasks if task.compensate is not None
    }
    if not compensations and definition.finally_ is None:
        return None
    wanted = {*compensations.values(), definition.finally_}
    return Undoing(
        compensations=compensations,
        lists=frozenset(
            task.name
            for task in definition.tasks
            if task.name in compensations and task.for_each is not None
        ),
        last=definition.finally_,
        tasks={task.name: task for task in definition.tasks if task.name in wanted},
    )


class Succeeded(NamedTuple):
    """A task run that succeeded."""

    task_run_id: str
    task: str
    iteration: int
    item_index: int | None
    """Of an item of a list, its place."""
    position: int
    """Its place among the results of its run: of two of which one followed from the other, the
    later one has the higher."""
    finished_at: datetime


class Compensation(NamedTuple):
    """One thing to undo, and the task that does it."""

    task: str
    undoes: Succeeded


def plan(undoing: Undoing, succeeded: Iterable[Succeeded]) -> list[Compensation]:
    """What is to be undone of what succeeded, in the order in which that is done.

    Of a list each item is undone, not the visit that waited for them: where some items failed,
    it has no success of its own.
    """
    wanted = [
        one
        for one in succeeded
        if one.task in undoing.compensations
        and (one.item_index is not None) == (one.task in undoing.lists)
    ]
    wanted.sort(key=lambda one: (one.position, one.finished_at, one.task_run_id), reverse=True)
    return [Compensation(undoing.compensations[one.task], one) for one in wanted]


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run will have ended, while what it has to undo still runs."""

    status: RunStatus
    outcome: Outcome | None = None
    error: Told | None = None
    planned: int = 0
    """How many compensations there are in all."""
    failed: int = 0
    """How many of them failed for good."""
    failures: tuple[Told, ...] = field(default=())
    """The first of these: the error of each, with its ``task`` and what it ``undoes``."""
    last: Told | None = None
    """The error of the ``finally`` task, where that failed for good."""

    @property
    def undoes(self) -> bool:
        """Whether what succeeded is undone."""
        return self.status is not RunStatus.COMPLETED or self.outcome is Outcome.FAILURE

    def with_failure(self, task: str, undoes: str | None, error: Told) -> "Ending":
        """The ending after a task of it failed for good; ``undoes`` is None for the last."""
        told: Told = {**error, "task": task}
        if undoes is None:
            return replace(self, last=told)
        kept = self.failures
        if len(kept) < FAILURES_KEPT:
            # One traceback is enough to begin with; every task run has its own.
            told |= {"undoes": undoes} | ({"traceback": None} if kept else {})
            kept = (*kept, told)
        return replace(self, failed=self.failed + 1, failures=kept)

    def to_json(self) -> bytes:
        """The ending as it is stored with its run."""
        return orjson.dumps({name: getattr(self, name) for name in _STORED})

    def concluded(self) -> "Ending":
        """What the run came to when all of this is over."""
        if self.failed:
            return Ending(RunStatus.FAILED, Outcome.FAILURE, error=self._compensation_failed())
        if self.last is None:
            return self
        if self.status is RunStatus.COMPLETED:
            return Ending(RunStatus.FAILED, Outcome.FAILURE, error=self._finally_failed(self.last))
        return replace(self, error=self.error or self._finally_failed(self.last))

    def _compensation_failed(self) -> Told:
        named = ", ".join(f"{one['task']} (of {one['undoes']})" for one in self.failures)
        more = self.failed - len(self.failures)
        message = f"{self.failed} of {self.planned} compensations failed: {named}"
        message += f" and {more} more" if more else ""
        if self.last is not None:
            message += f"; the last task, {self.last['task']}, failed as well"
        first = self.failures[0]
        return {
            "task": first["task"],
            "type": "CompensationFailed",
            "message": message,
            "traceback": first.get("traceback"),
            "cause": self.error,
            "failures": [{k: v for k, v in f.items() if k != "traceback"} for f in self.failures],
        }

    @staticmethod
    def _finally_failed(error: Told) -> Told:
        return {
            "task": error["task"],
            "type": "FinallyFailed",
            "message": f"the last task failed: {error['type']}: {error['message']}",
            "traceback": error.get("traceback"),
        }


_STORED = ("status", "outcome", "error", "planned", "failed", "failures", "last")


def parse_ending(stored: bytes) -> Ending:
    """An ending as :meth:`Ending.to_json` wrote it down."""
    told = orjson.loads(stored)
    return Ending(
        status=RunStatus(told["status"]),
        outcome=None if told["outcome"] is None else Outcome(told["outcome"]),
        error=told["error"],
        planned=told["planned"],
        failed=told["failed"],
        failures=tuple(told["failures"]),
        last=told["last"],
    )


def without_result(task: str) -> Told:
    """The error of a task of an ending that returned a failure."""
    return {"type": "TaskFailed", "message": f"{task} returned a failure", "traceback": None}
