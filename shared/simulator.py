"""Runs a flow in memory, by the decider that the workers use.

A pure stand-in for database and queue: the books of the joins are a dictionary, and the
caller says what each visit comes to and which of the active branches is done next. Where a
definition leads under given outcomes is thereby known without running anything.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from shared.decider import JoinCount, Settlement, Verdict
from shared.flow import Flow
from shared.paths import head_path, merged_path
from shared.status import Outcome, RunStatus
from shared.undoing import Ending


@dataclass(frozen=True, slots=True)
class SimulatedVisit:
    """One visit of a task."""

    task: str
    iteration: int
    path: str
    """The branch that made it."""
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Simulation:
    """What a run came to."""

    visits: tuple[SimulatedVisit, ...]
    """In the order in which they ended."""
    status: RunStatus
    outcome: Outcome | None
    ending: tuple[str, ...] = ()
    """The tasks that run before it is over: what undoes a success, the latest first, and the
    last one. Of a list one stands for all its items."""


@dataclass(slots=True)
class _Branch:
    task: str
    path: str
    tracked: bool


def simulate(
    flow: Flow,
    outcome_of: Callable[[str, int], Outcome],
    pick: Callable[[int], int] = lambda _: 0,
    applies: Callable[[str, int, int], bool] = lambda _task, _iteration, _number: True,
) -> Simulation:
    """Run ``flow``.

    ``outcome_of(task, iteration)`` says what a visit comes to; ``pick(n)`` which of n active
    visits ends next, from 0; ``applies(task, iteration, n)`` whether the ``when`` of the
    task's n-th condition is true.
    """
    return _Simulator(flow, outcome_of, pick, applies).run()


class _Simulator:
    def __init__(
        self,
        flow: Flow,
        outcome_of: Callable[[str, int], Outcome],
        pick: Callable[[int], int],
        applies: Callable[[str, int, int], bool],
    ) -> None:
        self._applies = applies
        self._flow = flow
        self._outcome_of = outcome_of
        self._pick = pick
        self._books: dict[str, JoinCount] = {}
        self._active: list[_Branch] = []
        self._waiting: dict[str, list[_Branch]] = {}
        self._iterations: dict[str, int] = {}
        self._visits: list[SimulatedVisit] = []
        self._begun = 0
        self._failed = 0
        self._has_failed = False
        self._cancelled: list[Mapping[str, JoinCount]] = []
        """What the branches that a join has just ended change."""

    def run(self) -> Simulation:
        self._begin(_Branch(self._flow.definition.start_task, "main", tracked=False))
        while self._active:
            if self._has_failed or self._begun > self._flow.definition.max_task_runs:
                return self._concluded(Ending(RunStatus.FAILED))
            self._end_visit(self._active.pop(self._pick(len(self._active))))
        if self._has_failed:
            return self._concluded(Ending(RunStatus.FAILED))
        assert not any(self._waiting.values()), "a branch waits for ever"
        assert not any(any(count) for count in self._books.values()), "the books do not close"
        outcome = Outcome.FAILURE if self._failed else Outcome.SUCCESS
        return self._concluded(Ending(RunStatus.COMPLETED, outcome))

    def _concluded(self, ending: Ending) -> Simulation:
        undoing, undone = self._flow.undoing, list[str]()
        if undoing is not None:
            done = [v.task for v in reversed(self._visits) if v.outcome is Outcome.SUCCESS]
            if ending.undoes:
                undone = [undoing.compensations[t] for t in done if t in undoing.compensations]
            if undoing.last is not None:
                undone.append(undoing.last)
        return Simulation(tuple(self._visits), ending.status, ending.outcome, tuple(undone))

    def _begin(self, branch: _Branch) -> None:
        self._begun += 1
        self._active.append(branch)

    def _end_visit(self, branch: _Branch) -> None:
        iteration = self._iterations.get(branch.task, 0) + 1
        self._iterations[branch.task] = iteration
        outcome = self._outcome_of(branch.task, iteration)
        self._visits.append(SimulatedVisit(branch.task, iteration, branch.path, outcome))
        decider = self._flow.decider
        targets = decider.choose(
            branch.task, outcome, lambda number: self._applies(branch.task, iteration, number)
        )
        if targets is None:
            self._has_failed = True
            return
        move = decider.move(branch.task, outcome, targets, tracked=branch.tracked)
        self._failed += move.failed
        forks = len(move.heads) > 1
        for head in move.heads:
            path = head_path(branch.path, branch.task, head.task) if forks else branch.path
            following = _Branch(head.task, path, branch.tracked or forks)
            if head.waits:
                self._waiting.setdefault(head.task, []).append(following)
            else:
                self._begin(following)
        self._change(dict(move.changes))

    def _change(self, changes: dict[str, JoinCount]) -> None:
        # One join after another: what one does may take away what another one has.
        while changes and not self._has_failed:
            join, change = changes.popitem()
            count = self._books[join] = self._books.get(join, JoinCount()).plus(change)
            assert min(count) >= 0, f"the books of {join} are below zero: {count}"
            settlement = self._flow.decider.settle(join, count) if any(count) else None
            if settlement is not None:
                self._carry_out(settlement)
                for left in (settlement.changes, *self._cancelled):
                    for name, more in left.items():
                        changes[name] = changes.get(name, JoinCount()).plus(more)
                self._cancelled.clear()

    def _carry_out(self, settlement: Settlement) -> None:
        self._failed += settlement.failed
        if settlement.verdict is Verdict.UNMET:
            self._has_failed = True
        arrived = self._waiting.pop(settlement.join, [])
        assert len(arrived) == settlement.arrived or settlement.verdict is Verdict.RESET
        if settlement.verdict is Verdict.FIRE:
            self._cancel(set(settlement.cancels))
            path = merged_path([branch.path for branch in arrived])
            self._begin(_Branch(settlement.join, path, tracked=True))

    def _cancel(self, tasks: set[str]) -> None:
        """End the branches at these tasks."""
        decider = self._flow.decider
        for branch in [b for b in self._active if b.task in tasks]:
            self._active.remove(branch)
            self._cancelled.append(decider.leave(branch.task, waits=False))
        for task in tasks & self._waiting.keys():
            for branch in self._waiting.pop(task):
                self._cancelled.append(decider.leave(branch.task, waits=True))
