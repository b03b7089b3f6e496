"""The decider, by properties: against an oracle that keeps no counters, in any order."""

import os
import random
from collections import Counter
from dataclasses import dataclass

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.flow import Flow
from shared.simulator import simulate
from shared.status import Outcome, RunStatus
from tests.unit.oracle import Oracle
from tests.unit.strategies import flows

EXAMPLES = int(os.environ.get("FLOW_TEST_EXAMPLES", "300"))
ORDERS = 5

thorough = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@dataclass(frozen=True)
class Script:
    """What every task comes to, and which conditions apply, by a seed."""

    outcomes: dict[str, Outcome]
    applying: dict[tuple[str, int], bool]
    heads: dict[str, tuple[str, ...]]

    def applies(self, task: str, _iteration: int, number: int) -> bool:
        return self.applying[task, number]


def _script(flow: Flow, seed: int) -> Script:
    """Errors only where they are handled: others end the run."""
    chosen = random.Random(seed)
    outcomes: dict[str, Outcome] = {}
    heads: dict[str, tuple[str, ...]] = {}
    applying: dict[tuple[str, int], bool] = {}
    for number, name in enumerate(flow.graph.names):
        for place in range(len(flow.graph.routes[number].rules)):
            applying[name, place] = chosen.random() < 0.5
        for outcome in chosen.choices(list(Outcome), weights=(7, 3, 2), k=50):
            targets = flow.decider.choose(name, outcome, lambda n, name=name: applying[name, n])  # type: ignore[misc]  # bound for the loop
            if targets is not None:
                outcomes[name] = outcome
                heads[name] = tuple(flow.graph.names[target] for target in targets)
                break
    return Script(outcomes, applying, heads)


@thorough
@given(flow=flows(), seed=st.integers(0, 2**32))
def test_every_order_of_completion_gives_what_the_oracle_says(flow: Flow, seed: int) -> None:
    script = _script(flow, seed)
    oracle = Oracle(flow.graph, script.outcomes, script.heads, lambda _: 0)
    oracle.run()
    for order in range(ORDERS):
        chosen = random.Random(seed + order)
        run = simulate(
            flow, lambda task, _: script.outcomes[task], chosen.randrange, script.applies
        )
        executed = Counter(visit.task for visit in run.visits)
        assert executed == Counter(oracle.executed)
        assert run.status is RunStatus.COMPLETED
        assert run.outcome is (Outcome.FAILURE if oracle.has_failure else Outcome.SUCCESS)


@thorough
@given(flow=flows(), seed=st.integers(0, 2**32))
def test_every_task_of_a_graph_without_cycles_runs_at_most_once(flow: Flow, seed: int) -> None:
    script = _script(flow, seed)
    pick = random.Random(seed).randrange
    run = simulate(flow, lambda task, _: script.outcomes[task], pick, script.applies)
    assert max(Counter(visit.task for visit in run.visits).values()) == 1


@thorough
@given(flow=flows(cyclic=True), seed=st.integers(0, 2**32))
def test_every_run_with_loops_ends_and_its_books_close(flow: Flow, seed: int) -> None:
    chosen = random.Random(seed)

    def outcome_of(_task: str, _iteration: int) -> Outcome:
        return chosen.choice((Outcome.SUCCESS, Outcome.FAILURE, Outcome.ERROR))

    def applies(_task: str, _iteration: int, _number: int) -> bool:
        return chosen.random() < 0.5

    # The simulator itself asserts that no count falls below zero and that all end at zero.
    run = simulate(flow, outcome_of, chosen.randrange, applies)
    if run.status is RunStatus.FAILED:
        assert len(run.visits) <= flow.definition.max_task_runs
    else:
        assert run.status is RunStatus.COMPLETED


@thorough
@given(flow=flows(cyclic=True), seed=st.integers(0, 2**32))
def test_what_conditions_choose_was_known_to_be_possible(flow: Flow, seed: int) -> None:
    chosen = random.Random(seed)
    for number, name in enumerate(flow.graph.names):
        for outcome in Outcome:
            possible = flow.graph.possible[number][outcome]
            targets = flow.decider.choose(name, outcome, lambda _: chosen.random() < 0.5)
            assert set(targets or ()) <= set(possible.targets)
            assert targets != () or possible.may_end or outcome is Outcome.ERROR


@thorough
@given(flow=flows(early=True), seed=st.integers(0, 2**32))
def test_joins_that_do_not_wait_for_everybody_leave_nothing_behind(flow: Flow, seed: int) -> None:
    script = _script(flow, seed)
    # The simulator itself asserts that no count falls below zero, that all end at zero and that
    # nobody is left waiting.
    run = simulate(
        flow, lambda task, _: script.outcomes[task], random.Random(seed).randrange, script.applies
    )
    assert run.status in (RunStatus.COMPLETED, RunStatus.FAILED)
    each = any(task.join == "each" for task in flow.tasks.values())
    if not each:
        assert max(Counter(visit.task for visit in run.visits).values()) == 1


@thorough
@given(flow=flows(early=True, cyclic=True), seed=st.integers(0, 2**32))
def test_joins_that_go_on_early_end_in_loops_too(flow: Flow, seed: int) -> None:
    chosen = random.Random(seed)

    def outcome_of(_task: str, _iteration: int) -> Outcome:
        return chosen.choice((Outcome.SUCCESS, Outcome.SUCCESS, Outcome.FAILURE))

    def applies(_task: str, _iteration: int, _number: int) -> bool:
        return chosen.random() < 0.5

    simulate(flow, outcome_of, chosen.randrange, applies)
