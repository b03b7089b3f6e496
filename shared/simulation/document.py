"""A simulated run as JSON: in the shape of a run, with the seconds of its own clock."""

import orjson

from shared.expressions.budget import Json
from shared.simulation.values import SimulatedRun, SimulatedTaskRun


def run_document(run: SimulatedRun) -> dict[str, Json]:
    """What can be written by orjson; data is put in as it was given."""
    return {
        "flow_id": run.flow_id,
        "status": run.status.value,
        "outcome": None if run.outcome is None else run.outcome.value,
        "input": run.input,
        "output": _raw(run.content),
        "error": run.error,
        "path": run.path,
        "tasks": [_task_run(one) for one in run.task_runs],
        "seconds": round(run.seconds, 6),
        "assumed": list(run.assumed),
    }


def _task_run(run: SimulatedTaskRun) -> dict[str, Json]:
    finished = run.finished_seconds
    return {
        "name": run.name,
        "type": run.type,
        "branch": run.branch,
        "iteration": run.iteration,
        "index": run.index,
        "attempt": run.attempt,
        "status": run.status.value,
        "success": run.success,
        "reason": run.reason,
        "params": _raw(run.params_content),
        "data": _raw(run.content),
        "error": run.error,
        "waits_for": run.waits_for,
        "started_seconds": round(run.started_seconds, 6),
        "finished_seconds": None if finished is None else round(finished, 6),
    }


def _raw(content: bytes | None) -> orjson.Fragment | None:
    return None if content is None else orjson.Fragment(content)
