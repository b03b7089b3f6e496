"""The join rule by brute force: no counters, a search of the graph for every question.

Written from the rule as users are told it, to hold the decider against. For graphs without
cycles only.
"""

from collections.abc import Callable, Mapping

from shared.graph import Graph
from shared.status import Outcome

Outcomes = dict[str, Outcome]


class Oracle:
    """One run of one graph."""

    def __init__(
        self,
        graph: Graph,
        outcomes: Outcomes,
        heads: Mapping[str, tuple[str, ...]],
        pick: Callable[[int], int],
    ) -> None:
        self._graph = graph
        self._outcomes = outcomes
        self._heads = heads
        """Where each task leads after its outcome."""
        self._pick = pick
        self._running: list[str] = [graph.names[graph.start]]
        self._waiting: list[str] = []
        """The joins that branches wait at, one entry a branch."""
        self._missed: set[str] = set()
        self._forked = False
        self.executed: list[str] = []
        self.has_failure = False

    def run(self) -> None:
        """Run to the end."""
        while self._running or self._waiting:
            if self._running:
                self._finish(self._running.pop(self._pick(len(self._running))))
            self._decide_joins()

    def _finish(self, task: str) -> None:
        outcome = self._outcomes[task]
        self.executed.append(task)
        heads = self._heads[task]
        if outcome is not Outcome.SUCCESS:
            ahead = {name for head in heads for name in self._behind(head, both=True)}
            if self._forked:
                self._missed |= self._joins_on_success_path(task) - ahead - set(heads)
            self.has_failure |= not heads
        self._forked |= len(heads) > 1
        for head in heads:
            waits = self._forked and self._is_join(head)
            (self._waiting if waits else self._running).append(head)

    def _decide_joins(self) -> None:
        """Decide every join that nothing active can reach, until there is none."""
        while ready := [j for j in set(self._waiting) if not self._can_be_reached(j)]:
            join = ready[0]
            count = self._waiting.count(join)
            self._waiting = [name for name in self._waiting if name != join]
            if join in self._missed:
                self.has_failure = True
                self._missed |= self._joins_on_success_path(join)
                assert count
            else:
                self._running.append(join)

    def _can_be_reached(self, join: str) -> bool:
        others = [name for name in self._waiting if name != join]
        return any(join in self._behind(name, both=True) for name in self._running + others)

    def _behind(self, task: str, *, both: bool) -> set[str]:
        found: set[str] = set()
        pending = [task]
        while pending:
            name = pending.pop()
            for target in self._following(name, both=both):
                if target not in found:
                    found.add(target)
                    pending.append(target)
        return found

    def _following(self, name: str, *, both: bool) -> list[str]:
        outcomes = Outcome if both else [Outcome.SUCCESS]
        return [t for outcome in outcomes for t in self._graph.successors(name, outcome)]

    def _joins_on_success_path(self, task: str) -> set[str]:
        return {name for name in self._behind(task, both=False) if self._is_join(name)}

    def _is_join(self, task: str) -> bool:
        reached = {self._graph.names[self._graph.start]}
        reached |= self._behind(self._graph.names[self._graph.start], both=True)
        sources = {name for name in reached if task in self._following(name, both=True)}
        return len(sources) > 1
