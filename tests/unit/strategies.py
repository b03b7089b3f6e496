"""Random definitions."""

from typing import Any

from hypothesis import strategies as st

from shared.definition import FlowDefinition
from shared.flow import Flow, prepare_flow


@st.composite
def flows(
    draw: st.DrawFn, *, cyclic: bool = False, early: bool = False, max_tasks: int = 9
) -> Flow:
    """A valid flow; without ``cyclic`` every edge leads to a later task. With ``early`` some
    joins do not wait for everybody."""
    rules: list[Any] = ["all"]
    if early:
        rests = ({"wait_for": n, "rest": rest} for n in (1, 2, 3) for rest in ("run", "cancel"))
        rules = ["all", "any", "each", 2, *rests]
    joins = st.sampled_from(rules)
    tolerances = st.sampled_from([0, 0, 1, "50%", "all"] if early else [0])
    routes = st.sampled_from(["first", "first", "all"])
    count = draw(st.integers(2, max_tasks))
    conditions: list[dict[str, object]] = []
    for number in range(count):
        first = 0 if cyclic else number + 1
        if first >= count or not draw(st.booleans() if number else st.just(True)):
            continue
        heads = st.lists(st.integers(first, count - 1), min_size=1, max_size=3, unique=True)
        for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
            condition: dict[str, object] = {"source_task": f"t{number}"}
            for field in ("target_task_success", "target_task_failure"):
                ends = draw(st.integers(0, 3)) == 0
                condition[field] = "end" if ends else [f"t{head}" for head in draw(heads)]
            if draw(st.integers(0, 2)) == 0:
                condition["target_task_error"] = [f"t{head}" for head in draw(heads)]
            if draw(st.integers(0, 3)) == 0:
                condition["outcome"] = "failure"
            if draw(st.integers(0, 2)) == 0:
                condition["when"] = "true"
            conditions.append(condition)
    definition = FlowDefinition.model_validate(
        {
            "id": "random",
            "start_task": "t0",
            "tasks": [
                {
                    "name": f"t{number}",
                    "type": "noop",
                    "route": draw(routes),
                    "join": draw(joins),
                    "tolerate": draw(tolerances),
                }
                for number in range(count)
            ],
            "conditions": conditions,
            "max_task_runs": 60,
        }
    )
    return prepare_flow(definition, "")
