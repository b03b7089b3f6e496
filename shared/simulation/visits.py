"""One visit of a simulated run: its attempts and, where it goes through a list, its items."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import orjson

from shared.expressions.budget import Json
from shared.paths import item_path
from shared.simulation.answers import is_success
from shared.simulation.branches import Branch
from shared.simulation.recall import Memory
from shared.simulation.values import Answer, SimulatedTaskRun, load
from shared.status import TaskRunStatus


@dataclass(frozen=True, slots=True)
class EndedItem:
    """What one item came to."""

    index: int
    data: bytes | None
    error: bytes | None


@dataclass(frozen=True, slots=True)
class Done:
    """A success that may have to be undone."""

    task: str
    iteration: int
    index: int | None
    item: bytes | None
    content: bytes | None


@dataclass(slots=True, eq=False)
class Visit:
    """A visit that is not over, or has just ended."""

    branch: Branch[Memory]
    path: str
    parent: "Visit | None" = None
    """Of an item's visit: the one that goes through the list."""
    index: int | None = None
    content: bytes | None = None
    """The item, as JSON."""
    failed_attempts: int = 0
    began_seconds: float = 0.0
    """When the first attempt began."""
    is_over: bool = False
    is_ending: bool = False
    """Whether it is a part of the run's ending."""
    undoes: Done | None = None
    """What it undoes there; None for the last task."""
    items: "list[Visit]" = field(default_factory=list)
    held_back: "deque[Visit]" = field(default_factory=deque)
    """Items that wait until fewer run at once."""
    items_left: int = 0
    items_failed: int = 0
    _run: SimulatedTaskRun | None = None
    _ended: list[EndedItem] = field(default_factory=list)

    @property
    def task(self) -> str:
        """The task that is visited."""
        return self.branch.task

    @property
    def item(self) -> Json:
        """The item, where it is one's visit; of what it undoes, in an ending."""
        return load(self.content if self.undoes is None else self.undoes.item)

    @property
    def place(self) -> int | None:
        """The place of that item in its list."""
        return self.index if self.undoes is None else self.undoes.index

    @property
    def task_run(self) -> SimulatedTaskRun:
        """Its last attempt."""
        assert self._run is not None, "a visit has a task run from its first attempt on"
        return self._run

    def open(self, task_type: str, at: float, into: list[SimulatedTaskRun]) -> None:
        """Begin an attempt."""
        if not self.failed_attempts:
            self.began_seconds = at
        self._run = SimulatedTaskRun(
            name=self.task,
            type=task_type,
            branch=self.path,
            iteration=self.branch.iteration,
            index=self.index,
            attempt=self.failed_attempts + 1,
            started_seconds=at,
        )
        into.append(self._run)

    def close(self, answer: Answer, at: float) -> None:
        """End the attempt that runs."""
        run = self.task_run
        run.status = TaskRunStatus.SUCCESS if is_success(answer) else TaskRunStatus.FAILED
        run.reason, run.content, run.error = answer.reason, answer.content, answer.error
        run.finished_seconds, run.waits_for = at, None

    def stop(self, reason: str, at: float) -> None:
        """End the visit from outside, with all its items."""
        self.is_over = True
        self.stop_items(reason, at)
        run = self._run
        if run is not None and run.finished_seconds is None:
            run.status, run.reason = TaskRunStatus.CANCELLED, reason
            run.finished_seconds = at

    def done(self) -> Done:
        """The visit as a success that may have to be undone."""
        return Done(
            self.task, self.branch.iteration, self.index, self.content, self.task_run.content
        )

    # A list.

    def split(self, items: Sequence[bytes], at_once: int) -> "Iterator[Visit]":
        """Make a visit an item; those that may begin now are given."""
        self.items_left = len(items)
        for index, content in enumerate(items):
            path = item_path(self.path, self.task, index)
            visit = Visit(self.branch, path, self, index, content)
            self.items.append(visit)
            if index < at_once:
                yield visit
            else:
                self.held_back.append(visit)

    def end_item(self, item: "Visit", answer: Answer) -> None:
        """Count an item that has ended."""
        item.is_over = True
        self.items_left -= 1
        self.items_failed += not is_success(answer)
        error = None if answer.error is None else orjson.dumps(answer.error)
        self._ended.append(EndedItem(item.index or 0, answer.content, error))

    def stop_items(self, reason: str, at: float) -> None:
        """End the items that are still open."""
        for item in self.items:
            if not item.is_over:
                item.stop(reason, at)

    def collected(self) -> list[EndedItem]:
        """The items that have a result, in their order."""
        return sorted(self._ended, key=lambda ended: ended.index)
