"""The branches of one run and the books of its joins, in memory.

What ``shared.store`` does with rows in one transaction is done here with lists, by the same
decider, so that a simulated run takes the way that an executed one takes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from shared.decider import Head, JoinCount, Settlement, Targets, Verdict
from shared.flow import Flow
from shared.paths import head_path, merged_path
from shared.status import Outcome, Reason

Carried = TypeVar("Carried")
"""What a branch knows of the way behind it. Never changed, so heads of a fork share it."""


@dataclass(frozen=True, slots=True, eq=False)
class Branch(Generic[Carried]):
    """A branch at a task."""

    number: int
    """Its own as long as it goes on in place."""
    task: str
    path: str
    tracked: bool
    """Whether it is in the books of the joins."""
    carried: Carried
    iteration: int = 0
    """Which visit of the task it makes; 0 while it waits at a join."""


@dataclass(slots=True)
class Change(Generic[Carried]):
    """What the end of a visit brought about."""

    begun: list[Branch[Carried]] = field(default_factory=list)
    """Branches that begin a visit, in their order."""
    stopped: list[tuple[Branch[Carried], str]] = field(default_factory=list)
    """Branches whose visit was ended from outside, and why."""


class Branches(Generic[Carried]):
    """All branches of one run."""

    def __init__(self, flow: Flow, merge: Callable[[str, Sequence[Carried]], Carried]) -> None:
        """``merge`` says what the branch carries that a join makes of those that came."""
        self._flow = flow
        self._merge = merge
        self._books: dict[str, JoinCount] = {}
        self._running: dict[int, Branch[Carried]] = {}
        self._waiting: dict[str, list[Branch[Carried]]] = {}
        self._iterations: dict[str, int] = {}
        self._made = 0
        self._change: Change[Carried] = Change()
        self.failed = 0
        """Branches that ended after a failure."""
        self.unmet: str | None = None
        """The join that too few can reach any more, which fails the run."""

    @property
    def are_over(self) -> bool:
        """Whether none is left."""
        return not self._running and not any(self._waiting.values())

    @property
    def running(self) -> tuple[Branch[Carried], ...]:
        """Those that make a visit, the oldest first."""
        return tuple(self._running.values())

    def start(self, carried: Carried) -> Change[Carried]:
        """Begin the run."""
        self._begin(
            Branch(self._next_number(), self._flow.definition.start_task, "main", False, carried)
        )
        return self._taken()

    def move(
        self,
        branch: Branch[Carried],
        outcome: Outcome,
        targets: Targets,
        carried: Carried,
        cancels: Sequence[str] = (),
    ) -> Change[Carried]:
        """End the visit of a running branch, which leads to ``targets`` and ends the other
        branches at the tasks of ``cancels``."""
        del self._running[branch.number]
        move = self._flow.decider.move(branch.task, outcome, targets, tracked=branch.tracked)
        self.failed += move.failed
        self._follow(branch, move.heads, carried)
        changes = dict(move.changes)
        if cancels:
            reason = f"{Reason.CANCELLED_BY}:{branch.task}"
            _add(changes, self._cancel(set(cancels), reason, but=branch.number))
        self._settle(changes)
        return self._taken()

    def _taken(self) -> Change[Carried]:
        change, self._change = self._change, Change()
        return change

    def _next_number(self) -> int:
        self._made += 1
        return self._made

    def _follow(self, branch: Branch[Carried], heads: Sequence[Head], carried: Carried) -> None:
        forks = len(heads) > 1
        for head in heads:
            following = replace(branch, task=head.task, carried=carried, iteration=0)
            if forks:
                path = head_path(branch.path, branch.task, head.task)
                number = self._next_number()
                following = replace(following, number=number, path=path, tracked=True)
            if head.waits:
                self._waiting.setdefault(head.task, []).append(following)
            else:
                self._begin(following)

    def _begin(self, branch: Branch[Carried]) -> None:
        iteration = self._iterations.get(branch.task, 0) + 1
        self._iterations[branch.task] = iteration
        begun = replace(branch, iteration=iteration)
        self._running[branch.number] = begun
        self._change.begun.append(begun)

    def _settle(self, changes: dict[str, JoinCount]) -> None:
        # One join after another: what one does may take away what another one has.
        while changes and self.unmet is None:
            join, change = changes.popitem()
            count = self._books[join] = self._books.get(join, JoinCount()).plus(change)
            assert min(count) >= 0, f"the books of {join} are below zero: {count}"
            settlement = self._flow.decider.settle(join, count) if any(count) else None
            if settlement is not None:
                cancelled = self._carry_out(settlement)
                _add(changes, [settlement.changes, *cancelled])

    def _carry_out(self, settlement: Settlement) -> list[Mapping[str, JoinCount]]:
        """Do what was decided; what the branches that it ends change."""
        self.failed += settlement.failed
        if settlement.verdict is Verdict.UNMET:
            self.unmet = settlement.join
        arrived = self._waiting.pop(settlement.join, [])
        assert len(arrived) == settlement.arrived or settlement.verdict is Verdict.RESET
        if settlement.verdict is not Verdict.FIRE:
            return []
        reason = f"{Reason.JOIN_MET}:{settlement.join}"
        cancelled = self._cancel(set(settlement.cancels), reason)
        path = merged_path([branch.path for branch in arrived])
        carried = self._merge(settlement.join, [branch.carried for branch in arrived])
        self._begin(Branch(arrived[-1].number, settlement.join, path, True, carried))
        return cancelled

    def _cancel(
        self, tasks: set[str], reason: str, but: int | None = None
    ) -> list[Mapping[str, JoinCount]]:
        """End the branches at these tasks; what each of them changes."""
        decider = self._flow.decider
        left = []
        for branch in [b for b in self._running.values() if b.task in tasks and b.number != but]:
            del self._running[branch.number]
            if branch in self._change.begun:
                self._change.begun.remove(branch)
            self._change.stopped.append((branch, reason))
            left.append(decider.leave(branch.task, waits=False))
        for task in tasks & self._waiting.keys():
            staying = [branch for branch in self._waiting[task] if branch.number == but]
            left += [decider.leave(task, waits=True)] * (len(self._waiting[task]) - len(staying))
            self._waiting[task] = staying
        return left

    def check_books(self) -> None:
        """What holds when all branches are over: every book is back at zero."""
        assert not any(self._waiting.values()), "a branch waits for ever"
        assert not any(any(count) for count in self._books.values()), "the books do not close"


def _add(changes: dict[str, JoinCount], more: Sequence[Mapping[str, JoinCount]]) -> None:
    for one in more:
        for join, count in one.items():
            changes[join] = changes.get(join, JoinCount()).plus(count)
