"""What the tasks of the faults wrote down about their executions."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

Attempted: TypeAlias = tuple[str, str, int, int | None]


@dataclass(frozen=True, slots=True)
class Entry:
    """A task began or ended, by its own account."""

    event: str
    run: str
    task: str
    iteration: int
    index: int | None
    """Of the item, where the task runs once an item."""
    attempt: int
    pid: int
    at: float
    """Wall clock, in seconds."""

    @property
    def visit(self) -> Attempted:
        """Which visit of which task of which run, or which item of it."""
        return self.run, self.task, self.iteration, self.index


class Journal:
    """Reads the file that the tasks append to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def entries(self, event: str | None = None) -> list[Entry]:
        """All entries so far, in order; a line that is being written is left out."""
        if not self.path.exists():
            return []
        whole = self.path.read_bytes().rpartition(b"\n")[0]
        found = [Entry(**json.loads(line)) for line in whole.splitlines()]
        return [entry for entry in found if event is None or entry.event == event]

    def starts(self, run: str, task: str) -> list[Entry]:
        """When a task of a run was begun."""
        return [e for e in self.entries("start") if e.run == run and e.task == task]

    def repeated(self) -> list[tuple[str, str, int, int | None, int]]:
        """Attempts that were executed more than once: there are none."""
        counts = Counter((*entry.visit, entry.attempt) for entry in self.entries("start"))
        return [attempt for attempt, count in counts.items() if count > 1]
