"""Compensations and the last task, run by an engine: what was done is undone in reverse."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import orjson
import pytest
from pydantic import JsonValue
from sqlalchemy import select

from shared.ids import FlowRunId
from shared.models import Compensation, FlowRun, TaskRun
from shared.queries.endings import left_to_undo
from shared.status import Outcome, RunStatus
from shared.store.signals import NewSignal, send_signals
from tests.integration.engine_rig import Rig, rig
from tests.waiting import wait_until

__all__ = ["rig"]

Task = dict[str, Any]


def _saga(*tasks: Task, others: Sequence[Task] = (), **flow: JsonValue) -> Task:
    """Tasks one after another, and those that run at the end."""
    names = [task["name"] for task in tasks]
    return {
        "id": "trip",
        "start_task": names[0],
        "tasks": [*tasks, *others],
        "conditions": [
            {"source_task": source, "target_task_success": target}
            for source, target in pairwise(names)
        ],
        **flow,
    }


def _does(name: str, undone_by: str | None = None, **fields: Any) -> Task:
    """A task that succeeds and gives its name."""
    task = {"name": name, "type": "echo", "params": {"did": name}, **fields}
    return task if undone_by is None else {**task, "compensate": undone_by}


def _undoes(name: str, **fields: Any) -> Task:
    """A task that tells what it undoes."""
    told = {"undone": "${previous}", "status": "${run.status}", "error": "${run.error}"}
    return {"name": name, "type": "echo", "params": told, **fields}


BREAKS: Task = {"name": "breaks", "type": "raises"}
FAILS: Task = {"name": "fails", "type": "scripted", "params": {"succeeds": False}}
HANGS: Task = {"name": "hangs"}
TWO = (_does("flight", "cancel_flight"), _does("hotel", "cancel_hotel"))
UNDO = (_undoes("cancel_hotel"), _undoes("cancel_flight"))


def _ending(rig: Rig, run_id: FlowRunId) -> list[Any]:
    """The task runs of the run's ending, as they began."""
    table = TaskRun.__table__
    with rig.engine.database.read() as connection:
        rows = connection.execute(
            select(table)
            .where(table.c.flow_run_id == run_id, table.c.branch.startswith("ending"))
            .order_by(table.c.id)
        ).all()
        left = select(Compensation.__table__).where(Compensation.__table__.c.flow_run_id == run_id)
        assert left_to_undo(connection, run_id) == len(connection.execute(left).all()) == 0
    return list(rows)


def _told(rows: Sequence[Any]) -> list[tuple[str, Any]]:
    return [(row.task, orjson.loads(row.data)["undone"]) for row in rows]


def _let_pass(rig: Rig, run_id: FlowRunId) -> None:
    """Let the time of a run be over."""
    table = FlowRun.__table__
    with rig.engine.database.write() as connection:
        connection.execute(
            table.update().where(table.c.id == run_id).values(deadline=datetime.now(UTC))
        )


async def _signal(rig: Rig, run_id: FlowRunId, name: str) -> None:
    signal = NewSignal(run_id, name, b"null", datetime.now(UTC), rig.engine.clock.now())
    await rig.engine.writer.call(send_signals, signal)


async def _running(rig: Rig, run_id: FlowRunId, task: str) -> None:
    await wait_until(lambda: rig.visits(run_id)[task] == 1, description=f"{task} has begun")


async def test_an_error_undoes_what_succeeded_in_reverse_order(rig: Rig) -> None:
    run_id = await rig.submit(_saga(*TWO, BREAKS, others=UNDO))
    run = await rig.ended(run_id)
    error = orjson.loads(run.error)
    assert (run.status, run.outcome, run.ending) == (RunStatus.FAILED, Outcome.FAILURE, None)
    assert (error["task"], error["type"]) == ("breaks", "RuntimeError")
    rows = _ending(rig, run_id)
    assert _told(rows) == [
        ("cancel_hotel", {"did": "hotel"}),
        ("cancel_flight", {"did": "flight"}),
    ]
    assert [row.branch for row in rows] == ["ending/undo:hotel", "ending/undo:flight"]
    seen = orjson.loads(rows[0].data)
    assert (seen["status"], seen["error"]["type"]) == ("failed", "RuntimeError")


async def test_a_run_that_ends_with_a_failure_is_undone_and_completes(rig: Rig) -> None:
    run_id = await rig.submit(_saga(*TWO, FAILS, others=UNDO, output={"n": 7}))
    run = await rig.ended(run_id)
    assert (run.status, run.outcome) == (RunStatus.COMPLETED, Outcome.FAILURE)
    assert orjson.loads(run.output) == {"n": 7}
    rows = _ending(rig, run_id)
    assert [row.task for row in rows] == ["cancel_hotel", "cancel_flight"]
    assert orjson.loads(rows[0].data)["status"] == "completed"


async def test_a_run_that_succeeds_undoes_nothing(rig: Rig) -> None:
    run_id = await rig.submit(_saga(*TWO, others=UNDO))
    run = await rig.ended(run_id)
    assert (run.status, run.outcome) == (RunStatus.COMPLETED, Outcome.SUCCESS)
    assert orjson.loads(run.output) == {"did": "hotel"}
    assert _ending(rig, run_id) == []


async def test_a_cancelled_run_is_undone_before_it_counts_as_cancelled(rig: Rig) -> None:
    slow = {"name": "cancel_hotel", "type": "wait_for_signal", "params": {"signal": "go"}}
    run_id = await rig.submit(_saga(*TWO, HANGS, others=(slow, UNDO[1])))
    await _running(rig, run_id, "hangs")
    assert await rig.cancel(run_id) == "cancelling"
    await _running(rig, run_id, "cancel_hotel")
    assert rig.run(run_id).status == RunStatus.RUNNING
    assert await rig.cancel(run_id) == "ending"
    assert rig.tasks(run_id)["hangs"].reason == "run_cancelled"
    await _signal(rig, run_id, "go")
    run = await rig.ended(run_id)
    assert (run.status, run.outcome, run.error) == (RunStatus.CANCELLED, None, None)
    assert [row.task for row in _ending(rig, run_id)] == ["cancel_hotel", "cancel_flight"]
    assert await rig.cancel(run_id) == "over"


async def test_a_run_past_its_timeout_is_undone_however_long_that_takes(rig: Rig) -> None:
    slow = {"name": "cancel_flight", "type": "naps"}
    run_id = await rig.submit(
        _saga(_does("flight", "cancel_flight"), HANGS, others=[slow], timeout="1h")
    )
    await _running(rig, run_id, "hangs")
    _let_pass(rig, run_id)
    run = await rig.ended(run_id)
    assert run.status == RunStatus.FAILED
    assert orjson.loads(run.error)["type"] == "RunTimeout"
    (row,) = _ending(rig, run_id)
    assert (row.task, row.status, orjson.loads(row.data)) == (
        "cancel_flight",
        "success",
        {"woken": True},
    )


async def test_where_nothing_succeeded_nothing_is_undone(rig: Rig) -> None:
    run_id = await rig.submit(_saga({**BREAKS, "compensate": "cancel_hotel"}, others=UNDO[:1]))
    run = await rig.ended(run_id)
    assert run.status == RunStatus.FAILED
    assert rig.visits(run_id) == {"breaks": 1}


async def test_the_items_of_a_list_that_succeeded_are_undone_one_by_one(rig: Rig) -> None:
    book = {
        "name": "book",
        "type": "picky",
        "for_each": "['a', 'b', 'no', 'c']",
        "concurrency": 1,
        "params": {"item": "${item}", "index": "${index}"},
        "compensate": "unbook",
    }
    told = {"undone": "${previous.item}", "item": "${item}", "index": "${index}"}
    run_id = await rig.submit(_saga(book, others=[_does("unbook", params=told)]))
    run = await rig.ended(run_id)
    assert (run.status, run.outcome) == (RunStatus.COMPLETED, Outcome.FAILURE)
    rows = _ending(rig, run_id)
    assert [orjson.loads(row.data) for row in rows] == [
        {"undone": "b", "item": "b", "index": 1},
        {"undone": "a", "item": "a", "index": 0},
    ]
    assert [row.branch for row in rows] == ["ending/undo:book[1]", "ending/undo:book[0]"]
    assert [row.iteration for row in rows] == [1, 2]


async def test_every_visit_of_a_loop_is_undone(rig: Rig) -> None:
    flow = _saga(
        {"name": "step", "type": "scripted", "compensate": "back"},
        {"name": "check", "type": "third"},
        BREAKS,
        others=[_does("back", params={"undone": "${previous.iteration}"})],
    )
    flow["conditions"][1] |= {"target_task_failure": "step"}
    run_id = await rig.submit(flow)
    assert (await rig.ended(run_id)).status == RunStatus.FAILED
    rows = _ending(rig, run_id)
    assert [orjson.loads(row.data)["undone"] for row in rows] == [3, 2, 1]
    assert [row.branch for row in rows] == [
        "ending/undo:step#3",
        "ending/undo:step#2",
        "ending/undo:step",
    ]


async def test_branches_of_a_fork_are_undone_before_what_came_before_them(rig: Rig) -> None:
    heads = [f"head{number}" for number in range(8)]
    flow = _saga(
        _does("split", "undo_split"),
        others=[
            *(_does(head, "undo_head") for head in heads),
            _does("meet", "undo_meet"),
            BREAKS,
            *(_undoes(f"undo_{name}") for name in ("split", "head", "meet")),
        ],
    )
    flow["conditions"] = [
        {"source_task": "split", "target_task_success": heads},
        *({"source_task": head, "target_task_success": "meet"} for head in heads),
        {"source_task": "meet", "target_task_success": "breaks"},
    ]
    run_id = await rig.submit(flow)
    assert (await rig.ended(run_id)).status == RunStatus.FAILED
    undone = [name["did"] for _, name in _told(_ending(rig, run_id))]
    assert (undone[0], undone[-1]) == ("meet", "split")
    assert sorted(undone[1:-1]) == heads


async def test_a_compensation_is_tried_again_as_it_asks(rig: Rig) -> None:
    flaky = {
        "name": "cancel_flight",
        "type": "flaky",
        "retry": {"max_attempts": 3, "delay": 0.01},
    }
    run_id = await rig.submit(_saga(*TWO, BREAKS, others=(UNDO[0], flaky)))
    run = await rig.ended(run_id)
    assert orjson.loads(run.error)["type"] == "RuntimeError"
    rows = _ending(rig, run_id)
    assert [(row.task, row.attempt, row.status) for row in rows] == [
        ("cancel_hotel", 1, "success"),
        ("cancel_flight", 1, "failed"),
        ("cancel_flight", 2, "failed"),
        ("cancel_flight", 3, "success"),
    ]


@pytest.mark.parametrize("wrong", [BREAKS, FAILS], ids=["raises", "fails"])
async def test_a_compensation_that_fails_does_not_stop_the_others(rig: Rig, wrong: Task) -> None:
    broken = {**wrong, "name": "cancel_hotel"}
    run_id = await rig.submit(_saga(*TWO, FAILS, others=(broken, UNDO[1])))
    run = await rig.ended(run_id)
    error = orjson.loads(run.error)
    assert (run.status, run.outcome, run.output) == (RunStatus.FAILED, Outcome.FAILURE, None)
    assert (error["type"], error["task"]) == ("CompensationFailed", "cancel_hotel")
    assert error["message"] == "1 of 2 compensations failed: cancel_hotel (of hotel)"
    assert error["cause"] is None
    assert [(row.task, row.status) for row in _ending(rig, run_id)] == [
        ("cancel_hotel", "failed"),
        ("cancel_flight", "success"),
    ]


async def test_a_failed_compensation_keeps_what_the_run_failed_of(rig: Rig) -> None:
    broken = {**BREAKS, "name": "cancel_hotel"}
    run = await rig.ended(await rig.submit(_saga(*TWO, BREAKS, others=(broken, UNDO[1]))))
    error = orjson.loads(run.error)
    assert error["type"] == "CompensationFailed"
    assert (error["cause"]["task"], error["cause"]["message"]) == ("breaks", "boom")
    assert [f["task"] for f in error["failures"]] == ["cancel_hotel"]
    assert "Traceback" in error["traceback"]


FINAL_STATES: Mapping[str, tuple[Sequence[Task], RunStatus, Outcome | None]] = {
    "success": ((), RunStatus.COMPLETED, Outcome.SUCCESS),
    "failure": ((FAILS,), RunStatus.COMPLETED, Outcome.FAILURE),
    "error": ((BREAKS,), RunStatus.FAILED, Outcome.FAILURE),
}


@pytest.mark.parametrize("how", FINAL_STATES)
async def test_the_last_task_runs_once_after_everything(rig: Rig, how: str) -> None:
    more, status, outcome = FINAL_STATES[how]
    last = _undoes("clean_up")
    told = "${upper(run.outcome) if run.outcome else null}"
    last["params"] = {**last["params"], "outcome": told}
    run_id = await rig.submit(
        _saga(TWO[0], *more, others=[UNDO[1], last], **{"finally": "clean_up"})
    )
    run = await rig.ended(run_id)
    assert (run.status, run.outcome) == (status, outcome)
    rows = _ending(rig, run_id)
    undone = [] if outcome is Outcome.SUCCESS else ["cancel_flight"]
    assert [row.task for row in rows] == [*undone, "clean_up"]
    assert rows[-1].branch == "ending/finally"
    seen = orjson.loads(rows[-1].data)
    upper = None if outcome is None else outcome.upper()
    assert (seen["status"], seen["outcome"], seen["undone"]) == (status, upper, None)
    if outcome is Outcome.SUCCESS:
        # The output is that of the run, not of what cleans up behind it.
        assert orjson.loads(run.output) == {"did": "flight"}


async def test_the_last_task_of_a_cancelled_run_sees_all_results(rig: Rig) -> None:
    last = {"name": "report", "type": "scripted"}
    run_id = await rig.submit(_saga(*TWO, HANGS, others=[*UNDO, last], **{"finally": "report"}))
    await _running(rig, run_id, "hangs")
    assert await rig.cancel(run_id) == "cancelling"
    run = await rig.ended(run_id)
    assert run.status == RunStatus.CANCELLED
    seen = orjson.loads(rig.tasks(run_id)["report"].data)["seen"]
    assert seen == dict.fromkeys(["cancel_flight", "cancel_hotel", "flight", "hotel"], True)


async def test_a_last_task_that_fails_makes_a_good_run_failed(rig: Rig) -> None:
    last = {**BREAKS, "name": "clean_up"}
    run = await rig.ended(
        await rig.submit(_saga(_does("work"), others=[last], **{"finally": "clean_up"}))
    )
    error = orjson.loads(run.error)
    assert (run.status, run.outcome, run.output) == (RunStatus.FAILED, Outcome.FAILURE, None)
    assert (error["type"], error["task"]) == ("FinallyFailed", "clean_up")
    assert error["message"] == "the last task failed: RuntimeError: boom"


async def test_a_run_that_a_task_finishes_runs_its_last_task(rig: Rig) -> None:
    done = {"name": "done", "type": "finish", "params": {"n": 1}}
    run_id = await rig.submit(
        _saga(_does("work"), done, others=[_undoes("clean_up")], **{"finally": "clean_up"})
    )
    run = await rig.ended(run_id)
    assert (run.status, orjson.loads(run.output)) == (RunStatus.COMPLETED, {"n": 1})
    assert [row.task for row in _ending(rig, run_id)] == ["clean_up"]


async def test_a_run_that_passed_its_limit_of_task_runs_is_undone_all_the_same(rig: Rig) -> None:
    flow = _saga(
        _does("round", "back"),
        {"name": "check", "type": "scripted", "params": {"succeeds": False}},
        others=[_undoes("back")],
        max_task_runs=7,
    )
    flow["conditions"] = [
        {"source_task": "round", "target_task_success": "check"},
        {"source_task": "check", "target_task_success": "end", "target_task_failure": "round"},
    ]
    run_id = await rig.submit(flow)
    run = await rig.ended(run_id)
    assert orjson.loads(run.error)["type"] == "TaskRunLimit"
    assert len(_ending(rig, run_id)) == rig.visits(run_id)["round"] - (
        rig.tasks(run_id)["round"].status == "cancelled"
    )


async def test_an_output_that_cannot_be_filled_in_has_the_run_undone(rig: Rig) -> None:
    run_id = await rig.submit(_saga(*TWO, others=UNDO, output="${tasks.hotel.data.price}"))
    run = await rig.ended(run_id)
    assert orjson.loads(run.error)["type"] == "ExpressionError"
    assert [row.task for row in _ending(rig, run_id)] == ["cancel_hotel", "cancel_flight"]


async def test_a_late_word_that_the_run_was_stopped_does_not_stop_what_undoes_it(rig: Rig) -> None:
    slow = {"name": "cancel_flight", "type": "hangs", "timeout": 0.5}
    run_id = await rig.submit(_saga(TWO[0], BREAKS, others=[slow]))
    await _running(rig, run_id, "cancel_flight")
    rig.engine.runner.drop_runs([run_id])
    run = await rig.ended(run_id)
    assert orjson.loads(run.error)["type"] == "CompensationFailed"
    assert [(row.attempt, row.reason) for row in _ending(rig, run_id)] == [(1, "timed_out")]
