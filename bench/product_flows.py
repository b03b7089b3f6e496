"""The works' flows in the product's language, and the task that does nothing.

The workers load this file as a module of tasks, as they would load any user's.
"""

import json
from itertools import pairwise

from flow_manager import task

STEP = "bench_step"


@task(STEP)
async def step() -> dict[str, object]:
    """The step that does nothing."""
    return {"success": True, "data": {}}


def sequential(steps: int) -> bytes:
    """The definition of so many steps one after another, as a request's body."""
    names = [f"step_{number}" for number in range(steps)]
    edges = [_condition(name, after) for name, after in pairwise(names)]
    return _body(f"sequential-{steps}", names, edges)


def parallel(width: int) -> bytes:
    """The definition of a fork into so many steps, and a join."""
    names = [f"step_{number}" for number in range(width)]
    edges = [_condition("fork", names), *(_condition(name, "join") for name in names)]
    return _body(f"parallel-{width}", ["fork", *names, "join"], edges)


def _condition(source: str, target: str | list[str]) -> dict[str, object]:
    return {"source_task": source, "target_task_success": target}


def _body(flow_id: str, names: list[str], conditions: list[dict[str, object]]) -> bytes:
    flow = {
        "id": flow_id,
        "name": flow_id,
        "start_task": names[0],
        "tasks": [{"name": name, "type": STEP} for name in names],
        "conditions": conditions,
        # The default stops a flow short of 10,000 steps with a fork and a join.
        "max_task_runs": max(len(names), 100),
    }
    return json.dumps({"flow": flow}).encode()
