"""Whatever is asked for, a simulation is answered or refused, and ends."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.control_tasks import control_schemas
from shared.errors import InvalidDefinition, LimitExceeded
from shared.settings import Settings
from shared.simulation.document import run_document
from shared.simulation_requests import read_simulation
from tests.unit.scripted import forking, looping
from tests.unit.simulating import AT

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=5),
    lambda inside: (
        st.lists(inside, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["success", "data", "error", "seconds", "items", "type", "message", "x"]
            ),
            inside,
            max_size=3,
        )
    ),
    max_leaves=8,
)
OUTCOMES = st.one_of(
    st.sampled_from([True, False, "error", "timeout", [False, True], {"seconds": "1h"}]), JSON
)
CHOSEN = Settings(simulation_max_attempts=300)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    flow=st.one_of(forking(), forking(each=True), looping(), JSON),
    outcomes=st.one_of(st.dictionaries(st.sampled_from(["t0", "t1", "t2", "t3"]), OUTCOMES), JSON),
    given_input=st.one_of(st.just({"n": 3, "items": [1, 2]}), JSON),
)
def test_every_request_is_answered_or_refused(flow: Any, outcomes: Any, given_input: Any) -> None:
    body = {"flow": flow, "input": given_input, "outcomes": outcomes}
    try:
        request = read_simulation(body, CHOSEN, control_schemas())
        run = request.carry_out(CHOSEN, AT)
    except (InvalidDefinition, LimitExceeded):
        return
    assert run_document(run)["status"] in ("completed", "failed")
    assert len(run.task_runs) <= 900
