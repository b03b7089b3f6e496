"""The works' flows in the product's language, and the task that does nothing.

The workers load this file as a module of tasks, as they would load any user's.
"""

import json
from itertools import pairwise

from flow_manager import task

STEP = "bench_step"
COUNT = "bench_count"
NAP = "nap"


@task(STEP)
async def step() -> dict[str, object]:
    """The step that does nothing."""
    return {"success": True, "data": {}}


@task(COUNT)
async def count(n: int = 0) -> dict[str, object]:
    """The step that gives what it was given."""
    return {"success": True, "data": {"n": n}}


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


def counting(steps: int, param: str | None = None) -> bytes:
    """So many steps one after another; with ``param`` each reads the one before in its params."""
    names = [f"step_{number}" for number in range(steps)]
    params = {} if param is None else {"params": {param: f"${{get(previous, '{param}', 0) + 1}}"}}
    flow = {
        "id": f"counting-{steps}-{param}",
        "start_task": names[0],
        "tasks": [{"name": name, "type": COUNT, **params} for name in names],
        "conditions": [_condition(name, after) for name, after in pairwise(names)],
    }
    return json.dumps({"flow": flow}).encode()


def mapping(items: int) -> bytes:
    """One task that runs once an item of the input, and a join of what they give."""
    flow = {
        "id": f"list-{items}",
        "start_task": "each",
        "tasks": [{"name": "each", "type": STEP, "for_each": "input.items"}],
        "max_task_runs": 2 * items,
    }
    return json.dumps({"flow": flow}).encode()


def sleeping() -> bytes:
    """A run that sleeps until a time of its input."""
    flow = {
        "id": "sleeping",
        "start_task": NAP,
        "tasks": [{"name": NAP, "type": "sleep", "params": {"until": "${input.until}"}}],
    }
    return json.dumps({"flow": flow}).encode()


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
