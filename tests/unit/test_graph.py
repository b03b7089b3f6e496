"""The graph, held against what a naive enumeration of its paths says."""

from collections.abc import Callable, Iterator
from itertools import pairwise

from hypothesis import given, settings

from shared.flow import Flow
from shared.graph import Graph
from shared.status import Outcome
from tests.unit.strategies import flows

both = settings(deadline=None, max_examples=200)
Following = Callable[[int], tuple[int, ...]]


def _closure(first: set[int], following: Following) -> set[int]:
    """Everything that can be reached from ``first``, itself included."""
    found = set(first)
    while more := {target for number in found for target in following(number)} - found:
        found |= more
    return found


def _forward(graph: Graph, edges: Following) -> Following:
    return lambda n: tuple(target for target in edges(n) if (n, target) not in graph.back_edges)


def _paths(graph: Graph, number: int, path: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Every path without a repetition, and each again with the task that would repeat."""
    yield (*path, number)
    for target in graph.edges(number):
        if target in path or target == number:
            yield (*path, number, target)
        else:
            yield from _paths(graph, target, (*path, number))


@both
@given(flow=flows(cyclic=True, max_tasks=6))
def test_what_can_be_reached_is_in_the_order_once_and_forward_edges_point_onwards(
    flow: Flow,
) -> None:
    graph = flow.graph
    assert sorted(graph.order) == sorted(_closure({graph.start}, graph.edges))
    place = {number: index for index, number in enumerate(graph.order)}
    forward = _forward(graph, graph.edges)
    assert all(place[n] < place[target] for n in graph.order for target in forward(n))


@both
@given(flow=flows(cyclic=True, max_tasks=6))
def test_every_cycle_has_a_back_edge_and_every_back_edge_closes_a_cycle(flow: Flow) -> None:
    graph = flow.graph
    cycles = [
        path[path.index(path[-1]) :]
        for path in _paths(graph, graph.start, ())
        if path[-1] in path[:-1]
    ]
    for cycle in cycles:
        assert graph.back_edges & set(pairwise(cycle))
    for source, target in graph.back_edges:
        assert source in _closure({target}, graph.edges)
    assert graph.has_cycle is bool(cycles)


@both
@given(flow=flows(cyclic=True, max_tasks=6))
def test_joins_are_the_tasks_that_several_forward_edges_lead_to(flow: Flow) -> None:
    graph = flow.graph
    forward = _forward(graph, graph.edges)
    expected = {
        number
        for number in range(len(graph.names))
        if sum(number in forward(source) for source in graph.order) > 1
    }
    assert set(graph.joins) == expected
    assert {n for n, name in enumerate(graph.names) if graph.is_join(name)} == expected


@both
@given(flow=flows(cyclic=True))
def test_the_joins_behind_a_task_are_those_that_its_forward_edges_reach(flow: Flow) -> None:
    graph = flow.graph
    for number in graph.order:
        for mask, edges in (
            (graph.reach[number], graph.edges),
            (graph.success_reach[number], lambda n: graph.possible[n][Outcome.SUCCESS].targets),
        ):
            forward = _forward(graph, edges)
            behind = _closure(set(forward(number)), forward)
            expected = {graph.names[n] for n in behind & set(graph.joins)}
            assert set(graph.joins_of(mask)) == expected


@both
@given(flow=flows(cyclic=True, max_tasks=6))
def test_ancestors_are_the_tasks_on_some_path_before(flow: Flow) -> None:
    graph = flow.graph
    before: dict[int, set[int]] = {number: set() for number in range(len(graph.names))}
    for number in graph.order:
        for target in _closure(set(graph.edges(number)), graph.edges):
            before[target].add(number)
    for number, name in enumerate(graph.names):
        assert graph.ancestors(name) == {graph.names[n] for n in before[number]}


@both
@given(flow=flows(cyclic=True, max_tasks=6))
def test_a_task_is_in_a_cycle_without_exit_when_nothing_it_leads_to_ends_or_leaves(
    flow: Flow,
) -> None:
    graph = flow.graph

    def is_trapped(number: int) -> bool:
        behind = _closure({number}, graph.edges)
        return all(
            not any(graph.possible[n][outcome].may_end for outcome in Outcome)
            and number in _closure({n}, graph.edges)
            for n in behind
        )

    expected = {graph.names[number] for number in graph.order if is_trapped(number)}
    found = [name for trap in graph.cycles_without_exit() for name in trap]
    assert len(found) == len(set(found))
    assert set(found) == expected


@both
@given(flow=flows(cyclic=True))
def test_successors_are_told_by_name(flow: Flow) -> None:
    graph = flow.graph
    for number, name in enumerate(graph.names):
        for outcome in Outcome:
            told = tuple(graph.names[n] for n in graph.possible[number][outcome].targets)
            assert graph.successors(name, outcome) == told
