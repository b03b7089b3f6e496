"""What happens next: the rules of branches, forks and joins, as values.

Pure: no clock, no database, no await. A caller tells what a task came to and gets back a
:class:`Move`; it applies the move's changes to the run's books, and asks :meth:`Decider.settle`
about every join whose ``upstream`` came to zero, until none is left. The store does this with
rows in one transaction, the simulator with a dictionary; both get the same run.

Theory of operation
-------------------
The books of a run are its number of active branches and, for every join, four numbers:

``upstream``   active branches that can still reach the join (a branch that waits at the join
               itself is not one of them; one that waits at an earlier join is),
``arrived``    branches that wait at it,
``missed``     branches that a failure turned away from it for good,
``fired``      1 where it went on early (``any``, or so many) and others can still come.

While a run has one branch nothing can meet, so nothing is kept (``tracked`` is false). The
first fork enters its heads into the books; from then on every branch is tracked.

A join is decided by the move that brings ``upstream`` to zero: it *fires* when somebody
arrived and no more missed it than it tolerates, is *closed* when more did (whoever waits there
ends as a failure, which in turn misses the joins behind it), and its books go back to zero. A
branch that goes back in a loop counts as upstream again, so the next round is a new decision.

A join that waits for so many is decided by the arrival that makes them complete. Those who come
later are *absorbed*: they end there, and have failed nobody. Where nobody can come any more and
not enough did, it is *unmet*, which is an error.

A failure misses the joins on the success path of its task that its branch can then no longer
reach. A success misses none.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple

from shared.definition import WaitFor, allowed_failures
from shared.graph import Graph, Mask
from shared.routing import Applies
from shared.status import Outcome

Targets = tuple[int, ...]
"""The numbers of the tasks that a branch goes on to."""

_MOVES_KEPT = 100_000
"""Moves remembered of one definition: data may choose among very many."""


class JoinCount(NamedTuple):
    """The books of a join, or a change of them."""

    upstream: int = 0
    arrived: int = 0
    missed: int = 0
    fired: int = 0

    def plus(self, other: "JoinCount") -> "JoinCount":
        """Both together."""
        return JoinCount(
            self.upstream + other.upstream,
            self.arrived + other.arrived,
            self.missed + other.missed,
            self.fired + other.fired,
        )


class Head(NamedTuple):
    """Where a branch goes on."""

    task: str
    waits: bool
    """Whether it arrives at a join there, which decides when it goes on."""


@dataclass(frozen=True, slots=True)
class Move:
    """What the end of one visit changes."""

    heads: tuple[Head, ...]
    """None: the branch ends. One: it goes on. More: it forks."""
    changes: Mapping[str, JoinCount]
    """What is added to the books of which joins."""
    active: int
    """What is added to the run's number of active branches."""
    failed: int
    """1 where the branch ended after a failure or an error."""


class Verdict(StrEnum):
    """What becomes of a join that nothing can reach any more."""

    FIRE = "fire"
    """Its task runs now, once, on one of the branches that wait there."""
    CLOSE = "close"
    """It was missed: the branches that wait there end."""
    ABSORB = "absorb"
    """It ran already: the branches that wait there end."""
    UNMET = "unmet"
    """Too few can come any more: the run fails."""
    RESET = "reset"
    """Nobody came."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """How a join was decided, and what that changes."""

    join: str
    verdict: Verdict
    changes: Mapping[str, JoinCount]
    active: int
    failed: int
    arrived: int
    """How many branches wait there: one goes on (``FIRE``) or none."""
    cancels: tuple[str, ...] = ()
    """With ``FIRE``: the branches at these tasks can lead nowhere but here, and end."""


@dataclass(frozen=True, slots=True)
class Decider:
    """Decides for the runs of one definition. What it says is remembered."""

    graph: Graph
    _moves: dict[tuple[str, Outcome, tuple[int, ...], bool], Move] = field(
        default_factory=dict, repr=False
    )

    _choices: dict[tuple[str, Outcome], Targets | None] = field(default_factory=dict, repr=False)

    def choose(self, task: str, outcome: Outcome, applies: Applies | None = None) -> Targets | None:
        """Where the conditions of ``task`` lead after ``outcome``.

        None where it is an error that nobody handles: the run fails. ``applies`` says of the
        n-th condition of the task whether its ``when`` is true.
        """
        routes = self.graph.routes[self.graph.numbers[task]]
        if applies is not None and routes.is_conditional:
            return routes.choose(outcome, applies)
        key = (task, outcome)
        if key not in self._choices:
            self._choices[key] = routes.choose(outcome)
        return self._choices[key]

    def asks(self, task: str) -> bool:
        """Whether conditions of ``task`` have a ``when``."""
        return self.graph.routes[self.graph.numbers[task]].is_conditional

    def move(self, task: str, outcome: Outcome, targets: Targets, *, tracked: bool) -> Move:
        """What follows after a visit of ``task`` came to ``outcome`` and leads to ``targets``.

        ``tracked`` says whether the branch is in the books of the joins: every branch but
        the first of a run, which is alone until it forks.
        """
        key = (task, outcome, targets, tracked)
        move = self._moves.get(key)
        if move is None:
            if len(self._moves) >= _MOVES_KEPT:
                self._moves.clear()
            move = self._moves[key] = self._decide(task, outcome, targets, tracked)
        return move

    def settle(self, join: str, count: JoinCount) -> Settlement | None:
        """What becomes of ``join``, given its books; None while it has to wait."""
        number = self.graph.numbers[join]
        rule = self.graph.early.get(number)
        if rule is not None:
            return self._settle_early(join, number, rule, count)
        if count.upstream > 0:
            return None
        allowed = allowed_failures(self.graph.tolerances[number], count.arrived + count.missed)
        if count.missed > allowed:
            return self._close(join, number, count)
        if not count.arrived:
            return Settlement(join, Verdict.RESET, {join: _emptied(count)}, 0, 0, 0)
        return self._fire(join, number, count, _emptied(count))

    def leave(self, task: str, *, waits: bool) -> Mapping[str, JoinCount]:
        """What the end of a branch at ``task`` changes that was cancelled, ``waits`` where it
        waited at the join there. It has failed nobody."""
        changes: dict[str, JoinCount] = {}
        if waits:
            _add(changes, task, JoinCount(arrived=-1))
        for join in self.graph.joins_of(self.graph.reach[self.graph.numbers[task]]):
            _add(changes, join, JoinCount(upstream=-1))
        return changes

    def _settle_early(
        self, join: str, number: int, rule: WaitFor, count: JoinCount
    ) -> Settlement | None:
        is_last = count.upstream == 0
        if count.fired:
            if not count.arrived and not is_last:
                return None
            gone = _emptied(count) if is_last else JoinCount(arrived=-count.arrived)
            changes = {join: gone}
            self._enter(changes, self.graph.reach[number], 0, -count.arrived)
            verdict = Verdict.ABSORB if count.arrived else Verdict.RESET
            return Settlement(join, verdict, changes, -count.arrived, 0, count.arrived)
        if count.arrived >= rule.wait_for:
            books = _emptied(count)
            if not is_last:
                books = JoinCount(arrived=-count.arrived, fired=1)
            settlement = self._fire(join, number, count, books)
            if is_last or rule.rest == "run":
                return settlement
            names = tuple(self.graph.names[n] for n in self.graph.captives(number))
            return replace(settlement, cancels=names)
        if not is_last:
            return None
        verdict = Verdict.UNMET if count.arrived or count.missed else Verdict.RESET
        return Settlement(join, verdict, {join: _emptied(count)}, 0, 0, count.arrived)

    def _fire(self, join: str, number: int, count: JoinCount, books: JoinCount) -> Settlement:
        merged = count.arrived - 1
        changes = {join: books}
        self._enter(changes, self.graph.reach[number], 0, -merged)
        return Settlement(join, Verdict.FIRE, changes, -merged, 0, count.arrived)

    def _close(self, join: str, number: int, count: JoinCount) -> Settlement:
        gone = count.arrived
        changes = {join: _emptied(count)}
        missed = self.graph.success_reach[number]
        self._enter(changes, self.graph.reach[number], missed, -gone)
        verdict = Verdict.CLOSE if gone else Verdict.RESET
        return Settlement(join, verdict, changes, -gone, gone, gone)

    def _decide(self, task: str, outcome: Outcome, targets: Targets, tracked: bool) -> Move:
        graph = self.graph
        is_failure = outcome is not Outcome.SUCCESS
        counted = tracked or len(targets) > 1
        heads = tuple(Head(graph.names[t], counted and bool(graph.bits[t])) for t in targets)
        return Move(
            heads=heads,
            changes=self._changes(task, heads, is_failure, tracked) if counted else {},
            active=len(targets) - 1,
            failed=1 if is_failure and not targets else 0,
        )

    def _changes(
        self, task: str, heads: tuple[Head, ...], is_failure: bool, tracked: bool
    ) -> dict[str, JoinCount]:
        graph = self.graph
        number = graph.numbers[task]
        changes: dict[str, JoinCount] = {}
        masks: Counter[Mask] = Counter()
        ahead: Mask = 0
        for head in heads:
            target = graph.numbers[head.task]
            masks[graph.reach[target]] += 1
            ahead |= graph.reach[target] | graph.bits[target]
            if head.waits:
                _add(changes, head.task, JoinCount(arrived=1))
        if tracked:
            masks[graph.reach[number]] -= 1
        # Bits that a leaving and an arriving mask share cancel out; most moves leave few.
        self._add_upstream(changes, masks)
        if tracked and is_failure:
            for join in graph.joins_of(graph.success_reach[number] & ~ahead):
                _add(changes, join, JoinCount(missed=1))
        return changes

    def _add_upstream(self, changes: dict[str, JoinCount], masks: "Counter[Mask]") -> None:
        shared_bits: Mask = -1
        for mask in masks:
            shared_bits &= mask
        total = sum(masks.values())
        for mask, times in masks.items():
            for join in self.graph.joins_of(mask & ~shared_bits):
                _add(changes, join, JoinCount(upstream=times))
        if total and masks:
            for join in self.graph.joins_of(shared_bits):
                _add(changes, join, JoinCount(upstream=total))

    def _enter(
        self, changes: dict[str, JoinCount], behind: Mask, missed: Mask, branches: int
    ) -> None:
        """Let ``-branches`` waiting branches leave the books of the joins ``behind``."""
        if not branches:
            return
        for join in self.graph.joins_of(behind):
            _add(changes, join, JoinCount(upstream=branches))
        for join in self.graph.joins_of(missed):
            _add(changes, join, JoinCount(missed=-branches))


def _add(changes: dict[str, JoinCount], join: str, count: JoinCount) -> None:
    present = changes.get(join)
    changes[join] = count if present is None else present.plus(count)


def _emptied(count: JoinCount) -> JoinCount:
    """What brings the books of a join that nothing can reach back to zero."""
    return JoinCount(0, -count.arrived, -count.missed, -count.fired)
