"""What a simulated run does before it is over: it undoes what succeeded, and runs its last task.

The rules are ``shared.undoing``'s; here they are carried out one visit after another.
"""

from collections import Counter, deque
from collections.abc import Mapping
from datetime import datetime

from shared.expressions.budget import Json
from shared.paths import FINALLY_PATH, undoing_path
from shared.simulation.branches import Branch
from shared.simulation.recall import Memory
from shared.simulation.values import Answer, Result
from shared.simulation.visits import Done, Visit
from shared.undoing import Ending, Succeeded, Undoing, plan, without_result


class EndingBranch:
    """The last branch of one run."""

    def __init__(self, undoing: Undoing, at: datetime) -> None:
        self._undoing = undoing
        self._at = at
        self._done: list[Done] = []
        self._left: deque[tuple[str, Done | None]] = deque()
        """What is still to be run, each with what it undoes."""
        self._visited: Counter[str] = Counter()
        self.ending: Ending | None = None
        """How the run will have ended, from when that is known."""

    def note(self, visit: Visit) -> None:
        """Remember a success, in case it has to be undone."""
        if visit.task in self._undoing.compensations:
            self._done.append(visit.done())

    def begin(self, ending: Ending) -> None:
        """Make the plan of what is to be done."""
        found = [
            Succeeded(str(place), one.task, one.iteration, one.index, place, self._at)
            for place, one in enumerate(self._done)
        ]
        planned = plan(self._undoing, found) if ending.undoes else []
        self._left.extend((one.task, self._done[one.undoes.position]) for one in planned)
        self.ending = Ending(ending.status, ending.outcome, ending.error, planned=len(planned))
        if self._undoing.last is not None:
            self._left.append((self._undoing.last, None))

    def next(self, results: Mapping[str, Result]) -> Visit | None:
        """The next visit; None where all is done. ``results`` are all of the run."""
        if not self._left:
            return None
        task, done = self._left.popleft()
        path, content = FINALLY_PATH, None
        if done is not None:
            path, content = undoing_path(done.task, done.iteration, done.index), done.content
        self._visited[task] += 1
        memory = Memory(results, None, content)
        branch = Branch(0, task, path, False, memory, self._visited[task])
        return Visit(branch, path, is_ending=True, undoes=done)

    def end(self, visit: Visit, answer: Answer) -> None:
        """Note what a visit has come to for good."""
        assert self.ending is not None
        if answer.kind in ("failure", "error"):
            error = answer.error or without_result(visit.task)
            undoes = None if visit.undoes is None else visit.undoes.task
            self.ending = self.ending.with_failure(visit.task, undoes, error)

    @property
    def told(self) -> Mapping[str, Json]:
        """What expressions see of how the run will have ended."""
        ending = self.ending
        if ending is None:
            return {}
        outcome = None if ending.outcome is None else ending.outcome.value
        return {"status": ending.status.value, "outcome": outcome, "error": ending.error}
