"""Simulated runs of flows whose course is known, and of random ones against the oracle."""

from typing import Any

from shared.definition import FlowDefinition
from shared.flow import Flow, prepare_flow
from shared.simulator import Simulation, simulate
from shared.status import Outcome, RunStatus

SUCCESS, FAILURE = Outcome.SUCCESS, Outcome.FAILURE


def _flow(*edges: tuple[str, Any, Any], max_task_runs: int = 100) -> Flow:
    """A flow of conditions: source, target after a success, target after a failure."""
    named = [[e[0], *(n for t in e[1:] for n in ([t] if isinstance(t, str) else t))] for e in edges]
    names = dict.fromkeys(name for group in named for name in group if name != "end")
    definition = {
        "id": "known",
        "start_task": edges[0][0],
        "tasks": [{"name": name} for name in names],
        "conditions": [
            {"source_task": s, "target_task_success": a, "target_task_failure": b}
            for s, a, b in edges
        ],
        "max_task_runs": max_task_runs,
    }
    return prepare_flow(FlowDefinition.model_validate(definition), "")


def _run(flow: Flow, *failing: str) -> Simulation:
    return simulate(flow, lambda task, _: FAILURE if task in failing else SUCCESS)


def _tasks(run: Simulation) -> list[str]:
    return [visit.task for visit in run.visits]


FORK = _flow(
    ("split", ["a", "b"], "end"), ("a", "join", "end"), ("b", "join", "end"), ("join", "end", "end")
)


def test_a_chain_runs_to_its_end() -> None:
    run = _run(_flow(("a", "b", "end"), ("b", "c", "end")))
    assert _tasks(run) == ["a", "b", "c"]
    assert (run.status, run.outcome) == (RunStatus.COMPLETED, SUCCESS)


def test_a_failure_that_ends_a_branch_is_the_outcome_of_the_run() -> None:
    run = _run(_flow(("a", "b", "end"), ("b", "c", "end")), "b")
    assert _tasks(run) == ["a", "b"]
    assert (run.status, run.outcome) == (RunStatus.COMPLETED, FAILURE)


def test_a_failure_that_is_led_on_is_no_failure_of_the_run() -> None:
    run = _run(_flow(("a", "b", "mend")), "a")
    assert _tasks(run) == ["a", "mend"]
    assert run.outcome is SUCCESS


def test_branches_of_a_fork_meet_once() -> None:
    run = _run(FORK)
    assert _tasks(run) == ["split", "a", "b", "join"]
    assert [visit.path for visit in run.visits] == ["main", "main/split:a", "main/split:b", "main"]
    assert run.outcome is SUCCESS


def test_a_join_that_a_failure_missed_does_not_run() -> None:
    run = _run(FORK, "b")
    assert _tasks(run) == ["split", "a", "b"]
    assert run.outcome is FAILURE


def test_a_success_that_ends_a_branch_misses_no_join() -> None:
    flow = _flow(("split", ["a", "b"], "end"), ("a", "join", "end"), ("b", "end", "join"))
    assert _tasks(_run(flow)) == ["split", "a", "b", "join"]


def test_a_loop_counts_its_rounds() -> None:
    flow = _flow(("poll", "end", "poll"))
    run = simulate(flow, lambda _, iteration: SUCCESS if iteration == 3 else FAILURE)
    assert [visit.iteration for visit in run.visits] == [1, 2, 3]
    assert run.outcome is SUCCESS


def test_a_loop_that_does_not_end_fails_at_the_limit() -> None:
    run = _run(_flow(("poll", "end", "poll"), max_task_runs=5), "poll")
    assert run.status is RunStatus.FAILED
    assert run.outcome is None
    assert len(run.visits) == 5


def test_an_ending_undoes_the_successes_of_a_run_that_did_not_end_well() -> None:
    definition = {
        "id": "trip",
        "start_task": "a",
        "tasks": [
            {"name": "a", "compensate": "una"},
            {"name": "b", "compensate": "unb"},
            {"name": "c"},
            *({"name": name} for name in ("una", "unb", "tidy")),
        ],
        "conditions": [
            {"source_task": "a", "target_task_success": "b"},
            {"source_task": "b", "target_task_success": "c"},
        ],
        "finally": "tidy",
    }
    flow = prepare_flow(FlowDefinition.model_validate(definition), "")
    assert _run(flow).ending == ("tidy",)
    assert _run(flow, "c").ending == ("unb", "una", "tidy")
    assert _run(flow, "b").ending == ("una", "tidy")
    broken = simulate(flow, lambda task, _: Outcome.ERROR if task == "c" else SUCCESS)
    assert (broken.status, broken.ending) == (RunStatus.FAILED, ("unb", "una", "tidy"))
