"""Simulated runs with data, attempts, lists, waits and time."""

from datetime import timedelta
from typing import Any

import pytest

from shared.errors import LimitExceeded
from shared.simulation import Bounds, SimulatedRun, SimulatedTaskRun
from shared.status import Outcome, RunStatus, TaskRunStatus
from shared.times import iso_time
from tests.unit.simulating import AT, flow_of, simulated

PLAIN: dict[str, Any] = {}
FORK = (("split", ["a", "b"]), ("a", "meet"), ("b", "meet"))


def _runs(run: SimulatedRun, task: str) -> list[SimulatedTaskRun]:
    return [one for one in run.task_runs if one.name == task]


def test_expressions_see_what_tasks_gave() -> None:
    flow = flow_of(
        {"a": PLAIN, "b": {"params": {"n": "${previous.n + input.more}"}}, "c": PLAIN, "d": PLAIN},
        ("a", "b"),
        ("b", "c", "end", {"when": "tasks.a.data.n > 5"}),
        ("b", "d"),
        output={"n": "${tasks.a.data.n}", "by": "${tasks.b.success}"},
    )
    run = simulated(flow, {"a": {"data": {"n": 3}}}, given={"more": 4})
    assert run.path == ["a", "b", "d"]
    assert _runs(run, "b")[0].params == {"n": 7}
    assert run.output == {"n": 3, "by": True}


def test_a_join_sees_what_all_its_branches_came_to() -> None:
    flow = flow_of({"split": PLAIN, "a": PLAIN, "b": PLAIN, "meet": {"type": "transform"}}, *FORK)
    flow["tasks"][3]["params"] = {"before": "${previous}", "a": "${tasks.a.data}"}
    run = simulated(flow, {"a": {"data": 1}, "b": {"data": 2}})
    assert run.output == {"before": {"a": 1, "b": 2}, "a": 1}


def test_the_output_is_by_default_the_data_of_the_last_task() -> None:
    assert simulated(flow_of({"a": PLAIN}), {"a": {"data": [1]}}).output == [1]


def test_attempts_are_counted_by_the_policy_and_take_time() -> None:
    flow = flow_of({"a": {"retry": {"max_attempts": 3, "delay": 10, "backoff": 3}}})
    run = simulated(flow, {"a": "error"})
    assert run.status is RunStatus.FAILED
    assert [one.started_seconds for one in _runs(run, "a")] == [0, 10, 40]
    assert run.path == ["a"]
    run = simulated(flow, {"a": ["error", "timeout", True]})
    assert run.outcome is Outcome.SUCCESS
    assert [one.attempt for one in _runs(run, "a")] == [1, 2, 3]


def test_a_failure_is_not_tried_again_unless_told() -> None:
    flow = flow_of({"a": {"retry": 3}})
    assert len(simulated(flow, {"a": [False, True]}).task_runs) == 1
    flow = flow_of({"a": {"retry": {"on": ["failure"]}}})
    assert simulated(flow, {"a": [False, True]}).outcome is Outcome.SUCCESS


def test_an_error_goes_where_the_condition_says() -> None:
    flow = flow_of(
        {"a": PLAIN, "mend": {"params": {"of": "${tasks.a.error.type}"}}},
        ("a", "end", "end", {"target_task_error": "mend"}),
    )
    run = simulated(flow, {"a": {"error": {"type": "ValueError", "message": "no"}}})
    assert (run.path, run.outcome) == (["a", "mend"], Outcome.SUCCESS)
    assert _runs(run, "mend")[0].params == {"of": "ValueError"}


def test_an_unhandled_error_stops_the_other_branches() -> None:
    flow = flow_of({"split": PLAIN, "a": PLAIN, "b": PLAIN, "meet": PLAIN}, *FORK)
    run = simulated(flow, {"a": "error", "b": {"seconds": 60}})
    assert run.status is RunStatus.FAILED
    assert (run.error["task"], run.error["type"]) == ("a", "Exception")
    other = _runs(run, "b")[0]
    assert (other.status, other.reason) == (TaskRunStatus.CANCELLED, "sibling_failed:a")


def test_a_list_keeps_its_order_and_its_concurrency() -> None:
    flow = flow_of(
        {"m": {"for_each": "input", "concurrency": 2, "params": {"i": "${item}:${index}"}}}
    )
    outcomes = {"m": {"items": [{"data": n, "seconds": 30 - 10 * n} for n in range(3)]}}
    run = simulated(flow, outcomes, given=["x", "y", "z"])
    assert run.output == [0, 1, 2]
    items = [one for one in _runs(run, "m") if one.index is not None]
    assert [one.params for one in items] == [{"i": "x:0"}, {"i": "y:1"}, {"i": "z:2"}]
    assert [one.started_seconds for one in items] == [0, 0, 20]
    assert [one.branch for one in items] == ["main/m[0]", "main/m[1]", "main/m[2]"]
    assert run.path == ["m"]


def test_items_are_tried_again_each_by_itself() -> None:
    flow = flow_of({"m": {"for_each": "input", "retry": {"delay": 0}}})
    run = simulated(flow, {"m": ["error", {"data": "good"}]}, given=[1, 2])
    assert run.output == ["good", "good"]
    assert len(run.task_runs) == 5


@pytest.mark.parametrize(
    ("tolerate", "outcome"), [(0, Outcome.FAILURE), (1, Outcome.SUCCESS), ("all", Outcome.SUCCESS)]
)
def test_a_list_allows_as_many_failures_as_it_tolerates(tolerate: Any, outcome: Outcome) -> None:
    flow = flow_of({"m": {"for_each": "input", "tolerate": tolerate}})
    run = simulated(flow, {"m": {"items": [True, False, True]}}, given=[1, 2, 3])
    assert run.outcome is outcome


def test_an_item_too_many_stops_the_others() -> None:
    flow = flow_of({"m": {"for_each": "input"}})
    outcomes = {"m": {"items": [{"seconds": 9}, {"error": "no"}]}}
    run = simulated(flow, outcomes, given=[1, 2])
    assert run.status is RunStatus.FAILED
    assert run.error["message"] == "item 1: no"
    stopped = next(one for one in run.task_runs if one.index == 0)
    assert (stopped.status, stopped.reason) == (TaskRunStatus.CANCELLED, "sibling_failed:m[1]")


def test_an_empty_list_is_a_success() -> None:
    run = simulated(flow_of({"m": {"for_each": "input"}}), given=[])
    assert (run.outcome, run.output, len(run.task_runs)) == (Outcome.SUCCESS, [], 1)


def test_who_sleeps_is_woken_by_the_clock_of_the_run() -> None:
    until = iso_time(AT + timedelta(hours=2))
    flow = flow_of(
        {
            "nap": {"type": "sleep", "params": {"for": "90m"}},
            "then": {"type": "sleep", "params": {"until": until}},
            "now": {"type": "transform", "params": {"now": "${now()}"}},
        },
        ("nap", "then"),
        ("then", "now"),
    )
    run = simulated(flow)
    assert run.seconds == 7_200
    assert run.output == {"now": until}


def test_a_signal_that_is_given_ends_its_wait() -> None:
    flow = flow_of({"w": {"type": "wait_for_signal", "params": {"signal": "ok", "timeout": "1h"}}})
    run = simulated(flow, signals={"ok": {"by": "me"}})
    assert (run.output, run.seconds) == ({"by": "me"}, 0)
    run = simulated(flow)
    assert (run.error["type"], run.seconds) == ("TaskTimeout", 3_600)


def test_a_wait_for_what_never_comes_leaves_the_run_running() -> None:
    flow = flow_of({"w": {"type": "wait_for_signal", "params": {"signal": "ok"}}})
    run = simulated(flow)
    assert (run.status, run.outcome) == (RunStatus.RUNNING, None)
    assert run.task_runs[0].waits_for == "ok"


def test_the_timeouts_of_task_and_run_are_kept() -> None:
    slow = {"a": {"seconds": 100}}
    run = simulated(flow_of({"a": {"timeout": "10s"}}), slow)
    assert (run.error["type"], run.task_runs[0].reason, run.seconds) == (
        "TaskTimeout",
        "timed_out",
        10,
    )
    run = simulated(flow_of({"a": PLAIN}, timeout="30s"), slow)
    assert (run.error["type"], run.seconds) == ("RunTimeout", 30)
    assert run.task_runs[0].reason == "run_timed_out"


def test_finish_ends_the_run_and_stops_what_runs() -> None:
    tasks = {"split": PLAIN, "a": {"type": "finish", "params": {"done": True}}, "b": PLAIN}
    run = simulated(flow_of(tasks, ("split", ["a", "b"])), {"b": {"seconds": 9}})
    assert (run.status, run.output) == (RunStatus.COMPLETED, {"done": True})
    assert _runs(run, "b")[0].reason == "run_finished:a"


def test_cancel_ends_the_branches_at_a_task() -> None:
    tasks = {"split": PLAIN, "a": {"type": "cancel", "params": {"tasks": ["b"]}}, "b": PLAIN}
    run = simulated(flow_of(tasks | {"meet": PLAIN}, *FORK), {"b": {"seconds": 9}})
    assert run.path == ["split", "a", "b", "meet"]
    assert (_runs(run, "b")[0].reason, run.seconds) == ("cancelled_by:a", 0)


def test_fail_fails_the_run() -> None:
    run = simulated(flow_of({"a": {"type": "fail", "params": {"message": "no more"}}}))
    assert (run.error["type"], run.error["message"]) == ("TaskFailed", "no more")


@pytest.mark.parametrize(("rest", "reason"), [("cancel", "join_met:meet"), ("run", None)])
def test_an_early_join_goes_on_with_the_first(rest: str, reason: str | None) -> None:
    tasks = {"split": PLAIN, "a": PLAIN, "b": PLAIN, "meet": {"join": {"rest": rest}}}
    run = simulated(flow_of(tasks, *FORK), {"a": {"seconds": 9}})
    assert run.path == ["split", "a", "b", "meet"]
    assert _runs(run, "a")[0].reason == reason
    assert run.outcome is Outcome.SUCCESS


def test_a_join_that_too_few_can_reach_fails_the_run() -> None:
    tasks = {"split": PLAIN, "a": PLAIN, "b": PLAIN, "meet": {"join": 2}}
    run = simulated(flow_of(tasks, *FORK), {"a": False})
    assert (run.status, run.error["type"]) == (RunStatus.FAILED, "JoinUnmet")


def test_a_task_that_joins_nobody_runs_for_each() -> None:
    tasks = {"split": PLAIN, "a": PLAIN, "b": PLAIN, "meet": {"join": "each"}}
    run = simulated(flow_of(tasks, *FORK))
    assert [one.iteration for one in _runs(run, "meet")] == [1, 2]


def test_route_all_follows_every_condition_that_applies() -> None:
    flow = flow_of(
        {"a": {"route": "all"}, "b": PLAIN, "c": PLAIN, "d": PLAIN},
        ("a", "b", "end", {"when": "input.n > 1"}),
        ("a", "c", "end", {"when": "input.n > 2"}),
        ("a", "d"),
    )
    assert simulated(flow, given={"n": 2}).path == ["a", "b", "d"]


def test_an_expression_that_breaks_off_is_an_error_of_its_task() -> None:
    flow = flow_of({"a": PLAIN, "b": {"params": {"n": "${previous.n}"}, "retry": 3}}, ("a", "b"))
    run = simulated(flow)
    assert (run.error["task"], run.error["type"]) == ("b", "ExpressionError")
    assert len(run.task_runs) == 2
    flow = flow_of({"a": PLAIN, "b": PLAIN}, ("a", "b", "end", {"when": "previous.n > 1"}))
    run = simulated(flow)
    assert "condition 1 of 'a'" in run.error["message"]
    run = simulated(flow_of({"a": PLAIN}, output={"n": "${tasks.a.data.n}"}))
    assert (run.error["task"], run.error["type"]) == (None, "ExpressionError")


def test_a_loop_without_end_fails_at_its_limit() -> None:
    flow = flow_of({"a": PLAIN}, ("a", "end", "a"), max_task_runs=7)
    run = simulated(flow, {"a": False})
    assert (run.error["type"], len(run.task_runs)) == ("TaskRunLimit", 7)


def test_a_secret_is_never_asked_for() -> None:
    run = simulated(flow_of({"a": {"params": {"token": "Bearer ${secrets.TOKEN}"}}}))
    assert run.task_runs[0].params == {"token": "Bearer ***"}


def test_what_was_assumed_is_told() -> None:
    tasks = {"a": PLAIN, "b": PLAIN, "c": {"type": "noop"}}
    run = simulated(flow_of(tasks, ("a", "b"), ("b", "c")), {"a": True})
    assert run.assumed == ("b",)


def test_the_same_outcomes_give_the_same_run() -> None:
    flow = flow_of(
        {"split": PLAIN, "a": {"retry": 2}, "b": PLAIN, "meet": {"for_each": "input"}}, *FORK
    )
    outcomes = {"a": ["error", True], "b": {"seconds": 1}}
    told = [
        [(one.name, one.branch, one.started_seconds) for one in run.task_runs]
        for run in (simulated(flow, outcomes, given=[1, 2]) for _ in range(2))
    ]
    assert told[0] == told[1]


@pytest.mark.parametrize(
    ("bounds", "what"),
    [(Bounds(max_attempts=50), "50 attempts"), (Bounds(max_bytes=500), "500 bytes")],
)
def test_it_goes_no_further_than_its_bounds(bounds: Bounds, what: str) -> None:
    flow = flow_of({"a": PLAIN}, ("a", "end", "a"))
    with pytest.raises(LimitExceeded, match=what):
        simulated(flow, {"a": {"success": False, "data": "x" * 40}}, bounds=bounds)


def test_a_list_is_no_longer_than_its_bound() -> None:
    flow = flow_of({"a": {"for_each": "input"}})
    run = simulated(flow, given=[1, 2, 3], bounds=Bounds(max_items=2))
    assert "over max_items (2)" in run.error["message"]


def test_it_takes_no_longer_than_it_may() -> None:
    flow = flow_of({"a": PLAIN}, ("a", "end", "a"))
    with pytest.raises(LimitExceeded, match="longer than 0 s"):
        simulated(flow, {"a": False}, timeout_seconds=0)


def test_a_clock_beyond_all_dates_is_a_limit() -> None:
    flow = flow_of({"a": PLAIN}, ("a", "end", "a"))
    with pytest.raises(LimitExceeded, match="year 9999"):
        simulated(flow, {"a": {"success": False, "seconds": "3000d"}})


TRIP = flow_of(
    {
        "flight": {"compensate": "refund"},
        "rooms": {"for_each": "input", "compensate": "leave", "tolerate": "all"},
        "charge": PLAIN,
        "refund": {"params": {"booking": "${previous.booking}"}, "retry": {"delay": "1m"}},
        "leave": {"params": {"room": "${item}", "place": "${index}", "was": "${previous}"}},
        "report": {"type": "transform", "params": {"status": "${run.status}"}},
    },
    ("flight", "rooms"),
    ("rooms", "charge"),
    timeout="1h",
    **{"finally": "report"},
)


def test_what_succeeded_is_undone_the_latest_first() -> None:
    outcomes = {
        "flight": {"data": {"booking": 7}},
        "rooms": {"items": [{"data": 1}, False, {"data": 3}]},
        "charge": {"error": {"type": "Declined", "message": "no"}},
    }
    run = simulated(TRIP, outcomes, given=["a", "b", "c"])
    assert run.status is RunStatus.FAILED
    assert run.error["type"] == "Declined"
    assert run.path == ["flight", "rooms", "charge", "leave", "leave", "refund", "report"]
    undone = [(one.branch, one.iteration, one.params) for one in _runs(run, "leave")]
    assert undone == [
        ("ending/undo:rooms[2]", 1, {"room": "c", "place": 2, "was": 3}),
        ("ending/undo:rooms[0]", 2, {"room": "a", "place": 0, "was": 1}),
    ]
    assert _runs(run, "refund")[0].params == {"booking": 7}
    last = _runs(run, "report")[0]
    assert (last.branch, last.data) == ("ending/finally", {"status": "failed"})


def test_a_success_undoes_nothing_and_keeps_its_output() -> None:
    run = simulated(TRIP, {"charge": {"data": "paid"}}, given=[])
    assert run.path == ["flight", "rooms", "charge", "report"]
    assert (run.outcome, run.output) == (Outcome.SUCCESS, "paid")


def test_a_compensation_that_fails_is_told() -> None:
    outcomes = {"flight": {"data": {"booking": 7}}, "charge": False, "refund": "error"}
    run = simulated(TRIP, outcomes, given=[])
    assert (run.status, run.outcome, run.output) == (RunStatus.FAILED, Outcome.FAILURE, None)
    assert run.error["type"] == "CompensationFailed"
    assert "refund (of flight)" in run.error["message"]
    assert len(_runs(run, "refund")) == 3
    assert run.path[-1] == "report"


def test_no_timeout_cuts_an_ending_short() -> None:
    outcomes = {
        "flight": {"data": {"booking": 7}},
        "charge": {"seconds": "2h"},
        "refund": {"seconds": "3h"},
    }
    run = simulated(TRIP, outcomes, given=[])
    assert run.error["type"] == "RunTimeout"
    assert _runs(run, "refund")[0].status is TaskRunStatus.SUCCESS
    assert run.seconds == 4 * 3_600


def test_a_last_task_that_fails_fails_the_run() -> None:
    run = simulated(TRIP, {"report": False}, given=[])
    assert (run.status, run.error["type"]) == (RunStatus.FAILED, "FinallyFailed")


def test_values_that_grow_too_deep_are_an_error_of_their_task() -> None:
    flow = flow_of(
        {"a": {"type": "transform", "params": {"deeper": "${previous}"}}, "b": PLAIN},
        ("a", "b"),
        ("b", "a", "end", {"when": "iteration < 400"}),
    )
    flow["tasks"][1] = {"name": "b", "type": "transform", "params": {"it": "${previous}"}}
    run = simulated(flow)
    assert run.status is RunStatus.FAILED
    assert run.error["type"] in ("ExpressionError", "InvalidTaskResult")


def test_an_output_too_deep_to_be_written_fails_the_run() -> None:
    deep: Any = 0
    for _ in range(240):
        deep = [deep]
    output: Any = "${tasks.a.data}"
    for _ in range(50):
        output = [output]
    run = simulated(flow_of({"a": PLAIN}, output=output), {"a": {"data": deep}})
    assert (run.error["type"], run.error["task"]) == ("ExpressionError", None)
    assert "nested too deeply" in run.error["message"]
