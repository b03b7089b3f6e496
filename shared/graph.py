"""The graph under a definition: who follows whom, where branches meet, what loops.

Built once for a definition and shared by validation, decisions, simulation and the page, so
that "valid" and "runs" cannot disagree.

Theory of operation
-------------------
Every task has three lists of possible successors, one an outcome; which of them follow in a
run its conditions decide (``shared.routing``). A depth-first walk from the start
task, in the order written, tells *back edges* (to a task that is being walked through, so to
an earlier one) from *forward edges*. Without the back edges the graph has no cycle.

A *join* is a task with forward edges from two or more tasks. For every task we keep two sets
of joins as bits of an integer: those that some forward path leads to (``reach``), and those
that a path of successes alone leads to (``success_reach``). With them a move of a branch
changes the books of those joins only that it cuts off or arrives at: a difference of two
integers.

The analysis is linear in tasks and edges, times a machine word for every 64 joins.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shared.definition import Condition, FlowDefinition, Tolerance, WaitFor, wait_for
from shared.routing import Possible, Routes, read_routes
from shared.status import Outcome

Mask = int
"""A set of joins, one bit each."""


@dataclass(frozen=True, slots=True)
class Graph:
    """The static facts about one definition. Every list is indexed by the task's number."""

    names: tuple[str, ...]
    numbers: dict[str, int]
    start: int
    routes: tuple[Routes, ...]
    possible: tuple[dict[Outcome, Possible], ...]
    order: tuple[int, ...]
    """The tasks that can be reached, every forward edge pointing onwards."""
    back_edges: frozenset[tuple[int, int]]
    joins: tuple[int, ...]
    """The tasks where branches meet, in :attr:`order`; a bit of a mask is a place in here."""
    bits: tuple[Mask, ...]
    """The join's own bit, 0 for every other task."""
    reach: tuple[Mask, ...]
    """The joins strictly behind a task by any forward path."""
    success_reach: tuple[Mask, ...]
    """The joins strictly behind a task by a path of successes."""
    early: dict[int, WaitFor]
    """The joins that go on before everybody has come."""
    has_each: bool
    """Whether a task runs once for each branch that comes, so that several may go on from it."""
    tolerances: tuple[Tolerance, ...]
    """How many branches may miss the join at a task."""

    def successors(self, task: str, outcome: Outcome) -> tuple[str, ...]:
        """The tasks that may follow ``task`` after ``outcome``; none where the branch ends."""
        return tuple(self.names[n] for n in self.possible[self.numbers[task]][outcome].targets)

    @property
    def has_cycle(self) -> bool:
        """Whether any task can be visited twice."""
        return bool(self.back_edges)

    @property
    def may_revisit(self) -> bool:
        """Whether a run can have several visits of one task."""
        return self.has_cycle or self.has_each

    def is_join(self, task: str) -> bool:
        """Whether branches meet at ``task``."""
        return bool(self.bits[self.numbers[task]])

    def joins_of(self, mask: Mask) -> Iterator[str]:
        """The names of the joins in ``mask``."""
        while mask:
            low = mask & -mask
            yield self.names[self.joins[low.bit_length() - 1]]
            mask ^= low

    def edges(self, number: int) -> tuple[int, ...]:
        """The tasks that an outcome of task ``number`` can lead to, each once."""
        return _edges(self.possible[number])

    def ancestors(self, task: str) -> frozenset[str]:
        """The tasks that can have run before ``task`` on some path."""
        sources = _sources(self)
        found: set[int] = set()
        pending = list(sources[self.numbers[task]])
        while pending:
            number = pending.pop()
            if number not in found:
                found.add(number)
                pending.extend(sources[number])
        return frozenset(self.names[number] for number in found)

    def captives(self, join: int) -> tuple[int, ...]:
        """The tasks from which a branch can lead nowhere but to ``join``, or end.

        They reach it by forward edges, and reach nothing that does not, short of it.
        """
        bit = self.bits[join]
        sources = _sources(self)
        # Whoever does not reach the join spoils everybody who leads to them.
        pending = [n for n in self.order if not self.reach[n] & bit and n != join]
        spoilt = set(pending)
        while pending:
            for source in sources[pending.pop()]:
                if source != join and source not in spoilt:
                    spoilt.add(source)
                    pending.append(source)
        return tuple(n for n in self.order if n != join and n not in spoilt)

    def known_before(self, wanted: Sequence[str]) -> tuple[tuple[Mask, Mask], ...]:
        """Which of ``wanted`` can, and which surely have, run before each task.

        Two sets a task, a bit for each of ``wanted``. What surely ran is told on the safe
        side: where branches of a fork meet, all of them count as having come.
        """
        bits = [0] * len(self.names)
        for place, name in enumerate(wanted):
            bits[self.numbers[name]] = 1 << place
        sources = _sources(self)
        can = [0] * len(self.names)
        for component in _components(self):
            inside = set(component)
            mask = 0
            for number in component:
                for source in sources[number]:
                    mask |= bits[source] if source in inside else can[source] | bits[source]
            for number in component:
                can[number] = mask
        surely = self._surely_before(bits, sources)
        return tuple(zip(can, surely, strict=True))

    def _surely_before(self, bits: Sequence[Mask], sources: Sequence[Sequence[int]]) -> list[Mask]:
        surely = [0] * len(self.names)
        for number in self.order:
            masks = [
                surely[source] | bits[source]
                for source in sources[number]
                if (source, number) not in self.back_edges
            ]
            together = 0 if self.bits[number] else -1
            for mask in masks:
                together = together | mask if self.bits[number] else together & mask
            surely[number] = together if masks else 0
        return surely

    def cycles_without_exit(self) -> list[list[str]]:
        """The groups of tasks that a branch can get into and never leave."""
        return [
            [self.names[number] for number in component]
            for component in _components(self)
            if self._is_trap(component)
        ]

    def _is_trap(self, component: Sequence[int]) -> bool:
        inside = set(component)
        first = component[0]
        if len(component) == 1 and first not in self.edges(first):
            return False
        return not any(
            possible.may_end or not inside.issuperset(possible.targets)
            for number in component
            for possible in self.possible[number].values()
        )


def build_graph(definition: FlowDefinition) -> Graph:
    """Analyse ``definition``, whose names must be known to be unique and to exist."""
    names = tuple(task.name for task in definition.tasks)
    numbers = {name: number for number, name in enumerate(names)}
    by_source: dict[str, list[Condition]] = {}
    for condition in definition.conditions:
        by_source.setdefault(condition.source_task, []).append(condition)

    routes = tuple(
        read_routes(by_source.get(task.name, []), task.route == "all", numbers)
        for task in definition.tasks
    )
    possible = tuple({outcome: r.possible(outcome) for outcome in Outcome} for r in routes)
    edges = [_edges(p) for p in possible]
    start = numbers[definition.start_task]
    order, back_edges = _walk(start, edges)
    each = {number for number, task in enumerate(definition.tasks) if task.join == "each"}
    joins = tuple(n for n in _find_joins(order, back_edges, edges) if n not in each)
    rules = {number: wait_for(definition.tasks[number].join) for number in joins}
    bits = [0] * len(names)
    for place, number in enumerate(joins):
        bits[number] = 1 << place
    on_success = [p[Outcome.SUCCESS].targets for p in possible]
    return Graph(
        names=names,
        numbers=numbers,
        start=start,
        routes=routes,
        possible=possible,
        order=order,
        back_edges=back_edges,
        joins=joins,
        bits=tuple(bits),
        reach=_reach(order, back_edges, edges, bits),
        success_reach=_reach(order, back_edges, on_success, bits),
        early={number: rule for number, rule in rules.items() if rule is not None},
        has_each=bool(each),
        tolerances=tuple(task.tolerate for task in definition.tasks),
    )


def _edges(possible: dict[Outcome, Possible]) -> tuple[int, ...]:
    success = possible[Outcome.SUCCESS].targets
    others = possible[Outcome.FAILURE].targets + possible[Outcome.ERROR].targets
    return tuple(dict.fromkeys(success + others)) if others and others != success else success


def _walk(
    start: int, edges: Sequence[tuple[int, ...]]
) -> tuple[tuple[int, ...], frozenset[tuple[int, int]]]:
    """Walk depth first; return the reached tasks in topological order and the back edges."""
    unseen, open_, closed = 0, 1, 2
    colour = bytearray(len(edges))
    back_edges: set[tuple[int, int]] = set()
    finished: list[int] = []
    stack = [(start, iter(edges[start]))]
    colour[start] = open_
    while stack:
        number, following = stack[-1]
        for target in following:
            if colour[target] == open_:
                back_edges.add((number, target))
            elif colour[target] == unseen:
                colour[target] = open_
                stack.append((target, iter(edges[target])))
                break
        else:
            stack.pop()
            colour[number] = closed
            finished.append(number)
    finished.reverse()
    return tuple(finished), frozenset(back_edges)


def _find_joins(
    order: tuple[int, ...],
    back_edges: frozenset[tuple[int, int]],
    edges: Sequence[tuple[int, ...]],
) -> tuple[int, ...]:
    sources = [0] * len(edges)
    for number in order:
        for target in edges[number]:
            if (number, target) not in back_edges:
                sources[target] += 1
    return tuple(number for number in order if sources[number] > 1)


def _reach(
    order: tuple[int, ...],
    back_edges: frozenset[tuple[int, int]],
    following: Sequence[tuple[int, ...]],
    bits: Sequence[Mask],
) -> tuple[Mask, ...]:
    reach = [0] * len(following)
    for number in reversed(order):
        mask = 0
        for target in following[number]:
            if (number, target) not in back_edges:
                mask |= reach[target] | bits[target]
        reach[number] = mask
    return tuple(reach)


def _sources(graph: Graph) -> list[list[int]]:
    sources: list[list[int]] = [[] for _ in graph.names]
    for number in graph.order:
        for target in graph.edges(number):
            sources[target].append(number)
    return sources


def _components(graph: Graph) -> list[list[int]]:
    """The strongly connected components of what can be reached (Kosaraju, without recursion)."""
    sources = _sources(graph)
    assigned = bytearray(len(graph.names))
    components: list[list[int]] = []
    # ``order`` is a reverse postorder of a walk over all edges, as the algorithm wants.
    for root in graph.order:
        if assigned[root]:
            continue
        assigned[root] = 1
        component, pending = [root], [root]
        while pending:
            for source in sources[pending.pop()]:
                if not assigned[source]:
                    assigned[source] = 1
                    component.append(source)
                    pending.append(source)
        components.append(component)
    return components
