"""The decider, by properties: against an oracle that keeps no counters, in any order."""

import os
import random
from collections import Counter

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


def _outcomes(flow: Flow, seed: int) -> dict[str, Outcome]:
    chosen = random.Random(seed)
    return {
        name: Outcome.FAILURE if chosen.random() < 0.3 else Outcome.SUCCESS for name in flow.tasks
    }


@thorough
@given(flow=flows(), seed=st.integers(0, 2**32))
def test_every_order_of_completion_gives_what_the_oracle_says(flow: Flow, seed: int) -> None:
    outcomes = _outcomes(flow, seed)
    oracle = Oracle(flow.graph, outcomes, lambda _: 0)
    oracle.run()
    for order in range(ORDERS):
        chosen = random.Random(seed + order)
        run = simulate(flow, lambda task, _: outcomes[task], chosen.randrange)
        executed = Counter(visit.task for visit in run.visits)
        assert executed == Counter(oracle.executed)
        assert run.status is RunStatus.COMPLETED
        assert run.outcome is (Outcome.FAILURE if oracle.has_failure else Outcome.SUCCESS)


@thorough
@given(flow=flows(), seed=st.integers(0, 2**32))
def test_every_task_of_a_graph_without_cycles_runs_at_most_once(flow: Flow, seed: int) -> None:
    outcomes = _outcomes(flow, seed)
    run = simulate(flow, lambda task, _: outcomes[task], random.Random(seed).randrange)
    assert max(Counter(visit.task for visit in run.visits).values()) == 1


@thorough
@given(flow=flows(cyclic=True), seed=st.integers(0, 2**32))
def test_every_run_with_loops_ends_and_its_books_close(flow: Flow, seed: int) -> None:
    chosen = random.Random(seed)

    def outcome_of(_task: str, _iteration: int) -> Outcome:
        return chosen.choice((Outcome.SUCCESS, Outcome.FAILURE))

    # The simulator itself asserts that no count falls below zero and that all end at zero.
    run = simulate(flow, outcome_of, chosen.randrange)
    if run.status is RunStatus.FAILED:
        assert len(run.visits) <= flow.definition.max_task_runs
    else:
        assert run.status is RunStatus.COMPLETED
