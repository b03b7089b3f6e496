"""Reruns on both databases: what is kept is not executed again, what comes after is."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from sqlalchemy import select

from shared.ids import FlowRunId
from shared.models import TaskRun
from shared.status import Outcome, RunStatus, TaskRunStatus
from tests.integration.engine_rig import Rig, rig
from tests.integration.engine_tasks import Counted
from tests.waiting import wait_until

__all__ = ["rig"]

Edge = tuple[str, Any] | tuple[str, Any, Any] | tuple[str, Any, Any, Any]


@pytest.fixture(autouse=True)
def _nothing_counted() -> Iterator[None]:
    Counted.made.clear()
    Counted.does.clear()
    yield
    Counted.does.clear()


def _flow(names: str, *edges: Edge, **tasks: dict[str, Any]) -> dict[str, Any]:
    fields = ("target_task_success", "target_task_failure", "target_task_error")
    listed = names.split()
    return {
        "id": "again",
        "start_task": listed[0],
        "tasks": [{"name": name, "type": "counted", **tasks.get(name, {})} for name in listed],
        "conditions": [
            {"source_task": source, **dict(zip(fields, targets, strict=False))}
            for source, *targets in edges
        ],
    }


FORK = _flow(
    "split left right deep meet after",
    ("split", ["left", "right"]),
    ("left", "deep"),
    ("deep", "meet"),
    ("right", "meet"),
    ("meet", "after"),
)


def _made(run_id: FlowRunId) -> Counter[str]:
    """What was executed in a run."""
    return Counted.made.get(run_id, Counter())


def _kept(rig: Rig, run_id: FlowRunId) -> Counter[str]:
    """The tasks of a run whose results were kept, by how often."""
    table = TaskRun.__table__
    query = select(table.c.task, table.c.item_index, table.c.status).where(
        table.c.flow_run_id == run_id, table.c.reason.startswith("kept:")
    )
    with rig.engine.database.read() as connection:
        rows = connection.execute(query).all()
    assert {row.status for row in rows} <= {TaskRunStatus.SUCCESS, TaskRunStatus.FAILED}
    return Counter(row.task + ("" if row.item_index < 0 else f"[{row.item_index}]") for row in rows)


async def test_only_the_failed_branch_of_a_fork_and_what_follows_runs_again(rig: Rig) -> None:
    Counted.does["right"] = "fail"
    source = await rig.submit(FORK)
    assert (await rig.ended(source)).outcome == Outcome.FAILURE
    Counted.does.clear()
    again = await rig.rerun(source, FORK)
    run = await rig.ended(again)
    assert (run.status, run.outcome, run.rerun_of) == (
        RunStatus.COMPLETED,
        Outcome.SUCCESS,
        source,
    )
    assert _made(again) == {"right": 1, "meet": 1, "after": 1}
    assert _kept(rig, again) == {"split": 1, "left": 1, "deep": 1}


async def test_an_error_is_run_again_with_what_it_stopped(rig: Rig) -> None:
    Counted.does |= {"right": "raise", "deep": "hang"}
    source = await rig.submit(FORK)
    await wait_until(lambda: rig.run(source).status != RunStatus.RUNNING, description="over")
    assert rig.run(source).status == RunStatus.FAILED
    finished = {
        name for name, row in rig.tasks(source).items() if row.status == TaskRunStatus.SUCCESS
    }
    Counted.does.clear()
    again = await rig.rerun(source, FORK)
    assert (await rig.ended(again)).outcome == Outcome.SUCCESS
    assert set(_kept(rig, again)) == finished
    assert set(_made(again)) == set(rig.tasks(again)) - finished


async def test_from_a_task_on_it_and_all_that_comes_after_it_runs_again(rig: Rig) -> None:
    source = await rig.submit(FORK)
    await rig.ended(source)
    again = await rig.rerun(source, FORK, task="deep")
    assert (await rig.ended(again)).outcome == Outcome.SUCCESS
    assert _made(again) == {"deep": 1, "meet": 1, "after": 1}
    assert _kept(rig, again) == {"split": 1, "left": 1, "right": 1}


async def test_a_rerun_of_what_succeeded_keeps_everything(rig: Rig) -> None:
    source = await rig.submit(FORK)
    output = (await rig.ended(source)).output
    again = await rig.rerun(source, FORK)
    run = await rig.ended(again)
    assert (run.outcome, run.output) == (Outcome.SUCCESS, output)
    assert not _made(again)
    assert set(_kept(rig, again).values()) == {1}


async def test_of_a_list_the_failed_item_alone_runs_again(rig: Rig) -> None:
    flow = _flow(
        "begin each after",
        ("begin", "each"),
        ("each", "after"),
        each={"for_each": "input.items", "params": {"item": "${item}"}},
        after={"params": {"all": "${tasks.each.data}"}},
    )
    Counted.does["each[1]"] = "fail"
    source = await rig.submit(flow, {"items": ["a", "b", "c"]})
    assert (await rig.ended(source)).outcome == Outcome.FAILURE
    # Too many had failed with the second: those that had not ended by then run as well.
    finished = {name for name in _made(source) if name != "each[1]"} - {"begin"}
    stopped = {
        f"each[{row.item_index}]"
        for row in _task_runs(rig, source)
        if row.status == TaskRunStatus.CANCELLED and row.item_index >= 0
    }
    Counted.does.clear()
    again = await rig.rerun(source, flow, given={"items": ["a", "b", "c"]})
    run = await rig.ended(again)
    assert run.outcome == Outcome.SUCCESS
    assert orjson.loads(run.output) == {"all": [{"item": "a"}, {"item": "b"}, {"item": "c"}]}
    assert set(_kept(rig, again)) == {"begin"} | finished - stopped
    assert _made(again)["each[1]"] == 1
    assert set(_kept(rig, again)).isdisjoint(_made(again))


async def test_an_item_that_is_another_one_is_not_kept(rig: Rig) -> None:
    flow = _flow(
        "each",
        each={"for_each": "input.items", "tolerate": 0, "params": {"item": "${item}"}},
    )
    Counted.does["each[2]"] = "fail"
    source = await rig.submit(flow | {"tasks": [flow["tasks"][0]]}, {"items": [1, 2, 3]})
    await rig.ended(source)
    Counted.does.clear()
    again = await rig.rerun(source, flow, given={"items": [1, 7, 3]})
    run = await rig.ended(again)
    assert orjson.loads(run.output) == [{"item": 1}, {"item": 7}, {"item": 3}]
    assert _made(again)["each[1]"] == 1


async def test_a_loop_keeps_its_rounds_before_the_failure(rig: Rig) -> None:
    flow = _flow(
        "begin poll look done",
        ("begin", "poll"),
        ("poll", "look"),
        poll={"params": {"n": "${iteration}"}},
        look={"params": {"n": "${previous.n}"}},
    )
    flow["conditions"] += [
        {
            "source_task": "look",
            "when": "tasks.look.data.n < 3",
            "target_task_success": "poll",
        },
        {"source_task": "look", "target_task_success": "done"},
    ]
    Counted.does["done"] = "raise"
    source = await rig.submit(flow)
    assert (await rig.ended(source)).status == RunStatus.FAILED
    Counted.does.clear()
    again = await rig.rerun(source, flow)
    assert (await rig.ended(again)).outcome == Outcome.SUCCESS
    assert _made(again) == {"done": 1}
    assert _kept(rig, again) == {"begin": 1, "poll": 3, "look": 3}
    from_look = await rig.rerun(source, flow, task="look")
    await rig.ended(from_look)
    assert _kept(rig, from_look) == {"begin": 1, "poll": 1}
    assert _made(from_look) == {"look": 3, "poll": 2, "done": 1}


async def test_a_failure_that_was_handled_is_kept(rig: Rig) -> None:
    flow = _flow(
        "risky fallback broken rescue end_task",
        ("risky", "end", "fallback"),
        ("fallback", "broken"),
        ("broken", "end_task", "end", "rescue"),
        ("rescue", "end_task"),
    )
    Counted.does |= {"risky": "fail", "broken": "raise", "end_task": "fail"}
    source = await rig.submit(flow)
    assert (await rig.ended(source)).outcome == Outcome.FAILURE
    Counted.does.clear()
    again = await rig.rerun(source, flow)
    assert (await rig.ended(again)).outcome == Outcome.SUCCESS
    assert _made(again) == {"end_task": 1}
    tasks = rig.tasks(again)
    assert (tasks["risky"].status, tasks["broken"].status) == ("failed", "failed")
    assert orjson.loads(tasks["broken"].error)["message"] == "boom"


async def test_a_corrected_task_and_what_follows_it_runs_again(rig: Rig) -> None:
    flow = _flow(
        "first second third",
        ("first", "second"),
        ("second", "third"),
        second={"params": {"x": 1}},
        third={"params": {"was": "${previous.x}"}},
    )
    source = await rig.submit(flow)
    await rig.ended(source)
    corrected = orjson.loads(orjson.dumps(flow))
    corrected["tasks"][1]["params"] = {"x": 2}
    corrected["tasks"][0] |= {"description": "as before", "timeout": 30}
    again = await rig.rerun(source, corrected)
    run = await rig.ended(again)
    assert orjson.loads(run.output) == {"was": 2}
    assert _made(again) == {"second": 1, "third": 1}


async def test_a_task_put_in_between_makes_what_follows_run_again(rig: Rig) -> None:
    flow = _flow("first second third", ("first", "second"), ("second", "third"))
    source = await rig.submit(flow)
    await rig.ended(source)
    corrected = _flow(
        "first check second third",
        ("first", "check"),
        ("check", "second"),
        ("second", "third"),
    )
    again = await rig.rerun(source, corrected)
    assert (await rig.ended(again)).outcome == Outcome.SUCCESS
    assert _kept(rig, again) == {"first": 1}
    assert _made(again) == {"check": 1, "second": 1, "third": 1}


async def test_a_rerun_of_a_rerun_keeps_what_both_did(rig: Rig) -> None:
    flow = _flow("a b c d", ("a", "b"), ("b", "c"), ("c", "d"))
    Counted.does["b"] = "raise"
    first = await rig.submit(flow)
    await rig.ended(first)
    del Counted.does["b"]
    Counted.does["d"] = "fail"
    second = await rig.rerun(first, flow)
    assert (await rig.ended(second)).outcome == Outcome.FAILURE
    Counted.does.clear()
    third = await rig.rerun(second, flow)
    assert (await rig.ended(third)).outcome == Outcome.SUCCESS
    assert _made(second) == {"b": 1, "c": 1, "d": 1}
    assert _made(third) == {"d": 1}
    assert _kept(rig, third) == {"a": 1, "b": 1, "c": 1}


def _task_runs(rig: Rig, run_id: FlowRunId) -> list[Any]:
    table = TaskRun.__table__
    with rig.engine.database.read() as connection:
        return list(connection.execute(select(table).where(table.c.flow_run_id == run_id)))
