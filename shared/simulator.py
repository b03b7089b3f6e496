"""Runs a flow in memory by outcomes alone, in any order of completion.

The caller says what each visit comes to and which of the active ones is over next: the rules
of branches and joins are held against this, and the engine as well. A simulation with data,
attempts, lists and time is ``shared.simulation``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shared.flow import Flow
from shared.simulation.branches import Branch, Branches, Change
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
    branches: Branches[None] = Branches(flow, lambda _join, _carried: None)
    visits: list[SimulatedVisit] = []
    active: list[Branch[None]] = []
    begun = _follow(active, branches.start(None))
    while active:
        if begun > flow.definition.max_task_runs:
            return _concluded(flow, visits, Ending(RunStatus.FAILED))
        branch = active.pop(pick(len(active)))
        task, iteration = branch.task, branch.iteration
        outcome = outcome_of(task, iteration)
        visits.append(SimulatedVisit(task, iteration, branch.path, outcome))

        def asked(number: int, task: str = task, iteration: int = iteration) -> bool:
            return applies(task, iteration, number)

        targets = flow.decider.choose(task, outcome, asked)
        if targets is None:
            return _concluded(flow, visits, Ending(RunStatus.FAILED))
        begun += _follow(active, branches.move(branch, outcome, targets, None))
        if branches.unmet is not None:
            return _concluded(flow, visits, Ending(RunStatus.FAILED))
    branches.check_books()
    outcome = Outcome.FAILURE if branches.failed else Outcome.SUCCESS
    return _concluded(flow, visits, Ending(RunStatus.COMPLETED, outcome))


def _concluded(flow: Flow, visits: Sequence[SimulatedVisit], ending: Ending) -> Simulation:
    undoing, undone = flow.undoing, list[str]()
    if undoing is not None:
        done = [visit.task for visit in reversed(visits) if visit.outcome is Outcome.SUCCESS]
        if ending.undoes:
            undone = [undoing.compensations[t] for t in done if t in undoing.compensations]
        if undoing.last is not None:
            undone.append(undoing.last)
    return Simulation(tuple(visits), ending.status, ending.outcome, tuple(undone))


def _follow(active: list[Branch[None]], change: Change[None]) -> int:
    """Bring ``active`` up to date; how many visits began."""
    for branch, _ in change.stopped:
        if branch in active:
            active.remove(branch)
    active.extend(change.begun)
    return len(change.begun)
