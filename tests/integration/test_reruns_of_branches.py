"""Reruns of what goes on side by side, waits, or stops others; and of random flows."""

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from sqlalchemy import select

from shared.ids import FlowRunId, new_id
from shared.models import TaskRun
from shared.simulator import simulate
from shared.status import Outcome, RunStatus, TaskRunStatus
from shared.store.signals import NewSignal, send_signals
from shared.store.upkeep import prune_runs
from shared.validation import validate_definition
from tests.integration.engine_rig import Rig, rig
from tests.integration.engine_tasks import Counted
from tests.integration.store_rig import NOW
from tests.waiting import wait_until

__all__ = ["rig"]

COUNTED = {"type": "counted"}
RANDOM_FLOWS = 12


@pytest.fixture(autouse=True)
def _nothing_counted() -> Iterator[None]:
    Counted.made.clear()
    Counted.does.clear()
    yield
    Counted.does.clear()


def _flow(tasks: dict[str, dict[str, Any]], **following: Any) -> dict[str, Any]:
    return {
        "id": "branches",
        "start_task": next(iter(tasks)),
        "tasks": [{"name": name, **COUNTED, **fields} for name, fields in tasks.items()],
        "conditions": [
            {"source_task": source, "target_task_success": targets}
            for source, targets in following.items()
        ],
    }


def _named(*names: str, **others: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: {} for name in names} | others


def _made(run_id: FlowRunId) -> Counter[str]:
    return Counted.made.get(run_id, Counter())


def _task_runs(rig: Rig, run_id: FlowRunId) -> list[Any]:
    table = TaskRun.__table__
    query = select(table).where(table.c.flow_run_id == run_id).order_by(table.c.id)
    with rig.engine.database.read() as connection:
        return list(connection.execute(query))


def _kept(rig: Rig, run_id: FlowRunId) -> Counter[str]:
    rows = _task_runs(rig, run_id)
    return Counter(row.task for row in rows if (row.reason or "").startswith("kept:"))


async def test_branches_that_do_not_meet_keep_each_its_own_results(rig: Rig) -> None:
    """Their visits of one task are numbered as they come, in each run another way."""
    tasks = _named(
        "split", "a", "b", "c", twice={"join": "each", "params": {"of": "${previous.of}"}}
    )
    for name in "abc":
        tasks[name] = {"params": {"of": name}}
    flow = _flow({**tasks, "last": {}}, split=["a", "b", "c"], a="twice", b="twice", c="twice")
    flow["conditions"].append(
        {
            "source_task": "twice",
            "when": "tasks.split.success and previous.of == 'b'",
            "target_task_success": "last",
        }
    )
    flow["tasks"][4]["join"] = "each"
    Counted.does["last"] = "fail"
    source = await rig.submit(flow)
    await rig.ended(source)
    Counted.does.clear()
    again = await rig.rerun(source, flow)
    assert (await rig.ended(again)).outcome == Outcome.SUCCESS
    assert _made(again) == {"last": 1}
    assert _kept(rig, again)["twice"] == 3
    for row in _task_runs(rig, again):
        if row.task == "twice":
            assert orjson.loads(row.data) == {"of": row.branch[-1]}


async def test_a_join_that_went_on_early_is_kept_for_who_came_first(rig: Rig) -> None:
    tasks = _named("split", "quick", "slow", "after", meet={"join": "any"})
    flow = _flow(tasks, split=["quick", "slow"], quick="meet", slow="meet", meet="after")
    Counted.does |= {"slow": "hang", "after": "fail"}
    source = await rig.submit(flow)
    await rig.ended(source)
    del Counted.does["after"]
    again = await rig.rerun(source, flow)
    run = await rig.ended(again)
    assert (run.status, run.outcome) == (RunStatus.COMPLETED, Outcome.SUCCESS)
    assert _kept(rig, again) == {"split": 1, "quick": 1, "meet": 1}
    assert _made(again)["after"] == 1
    # What was stopped has no result: it began once more, and was stopped once more.
    slow = [row for row in _task_runs(rig, again) if row.task == "slow"]
    assert all(row.status == TaskRunStatus.CANCELLED for row in slow)


async def test_what_finished_its_run_finishes_the_rerun(rig: Rig) -> None:
    tasks = _named("split", "quick", "slow", done={"type": "finish", "params": {"data": 7}})
    flow = _flow(tasks, split=["quick", "slow"], quick="done")
    Counted.does["slow"] = "hang"
    source = await rig.submit(flow)
    assert (await rig.ended(source)).status == RunStatus.COMPLETED
    assert rig.tasks(source)["done"].reason == "run_finished"
    again = await rig.rerun(source, flow)
    run = await rig.ended(again)
    assert (run.status, run.outcome) == (RunStatus.COMPLETED, Outcome.SUCCESS)
    assert _kept(rig, again) == {"split": 1, "quick": 1}


async def test_what_cancelled_others_cancels_them_again(rig: Rig) -> None:
    tasks = _named(
        "split", "quick", "slow", "after", stop={"type": "cancel", "params": {"tasks": ["slow"]}}
    )
    flow = _flow(tasks, split=["quick", "slow"], quick="stop", stop="after")
    Counted.does |= {"slow": "hang", "after": "fail"}
    source = await rig.submit(flow)
    await rig.ended(source)
    del Counted.does["after"]
    again = await rig.rerun(source, flow)
    run = await rig.ended(again)
    assert (run.status, run.outcome) == (RunStatus.COMPLETED, Outcome.SUCCESS)
    assert _kept(rig, again) == {"split": 1, "quick": 1}


async def test_a_wait_for_a_signal_or_an_attempt_is_not_made_again(rig: Rig) -> None:
    retry = {"max_attempts": 2, "delay": 0.01}
    tasks = _named(
        "begin",
        ask={"type": "wait_for_signal", "params": {"signal": "go"}},
        flaky={"type": "flaky", "params": {"attempt": 2}, "retry": retry},
        last={"params": {"said": "${tasks.ask.data.said}"}},
    )
    flow = _flow(tasks, begin="ask", ask="flaky", flaky="last")
    Counted.does["last"] = "raise"
    source = await rig.submit(flow)
    await rig.engine.writer.call(
        send_signals,
        NewSignal(source, "go", b'{"said": "yes"}', NOW, rig.engine.clock.now()),
    )
    await rig.ended(source)
    Counted.does.clear()
    again = await rig.rerun(source, flow)
    run = await rig.ended(again)
    assert orjson.loads(run.output) == {"said": "yes"}
    assert _kept(rig, again) == {"begin": 1, "ask": 1, "flaky": 1}
    assert {row.attempt for row in _task_runs(rig, again)} == {1}


async def test_a_cancelled_run_goes_on_with_what_was_stopped(rig: Rig) -> None:
    flow = _flow(_named("a", "b", "c"), a="b", b="c")
    Counted.does["b"] = "hang"
    source = await rig.submit(flow)
    await wait_until(lambda: "b" in _made(source), description="b has begun")
    await rig.cancel(source)
    await rig.ended(source)
    Counted.does.clear()
    again = await rig.rerun(source, flow)
    assert (await rig.ended(again)).outcome == Outcome.SUCCESS
    assert _made(again) == {"b": 1, "c": 1}


async def test_a_source_is_not_pruned_while_its_rerun_needs_it(rig: Rig) -> None:
    flow = _flow(_named("a", "b", "c"), a="b", b="c")
    source = await rig.submit(flow)
    await rig.ended(source)
    Counted.does["b"] = "hang"
    again = await rig.rerun(source, flow, task="b")
    await wait_until(lambda: "b" in _made(again), description="b has begun")
    late = NOW.replace(year=2100)
    with rig.engine.database.write() as connection:
        assert prune_runs(connection, late) == 0
    await rig.cancel(again)
    await rig.ended(again)
    with rig.engine.database.write() as connection:
        assert prune_runs(connection, late) == 2


@pytest.mark.parametrize("undone", ["begin", "each", "each[1]"])
async def test_what_was_undone_runs_again(rig: Rig, undone: str) -> None:
    flow = _flow(_named("begin", each={"for_each": "[1, 2]"}, last={}), begin="each", each="last")
    source = await rig.submit(flow)
    await rig.ended(source)
    rows = _task_runs(rig, source)
    index = 1 if "[" in undone else -1
    victim = next(r for r in rows if (r.task, r.item_index) == (undone[:5].strip("["), index))
    table = TaskRun.__table__
    row = {**victim._mapping, "id": new_id(), "task": "undo", "previous_id": victim.id}
    row["item_index"] = -1
    with rig.engine.database.write() as connection:
        connection.execute(table.insert(), row | {"branch": f"ending/undo:{undone}"})
    again = await rig.rerun(source, flow)
    assert (await rig.ended(again)).outcome == Outcome.SUCCESS
    assert _kept(rig, again) == ({} if undone == "begin" else {"begin": 1})
    assert _made(again)["each[0]"] == _made(again)["each[1]"] == _made(again)["last"] == 1


async def test_random_flows_are_run_again_to_what_they_would_have_come_to(rig: Rig) -> None:
    """Everything succeeds the second time; nothing is made again that no failure leads to."""
    for seed in range(RANDOM_FLOWS):
        chance = random.Random(seed)
        flow, behind = _random_flow(chance)
        names = [task["name"] for task in flow["tasks"]]
        Counted.does = {name: "fail" for name in names if chance.random() < 0.35}
        source = await rig.submit(flow)
        await rig.ended(source)
        first = {row.task: row for row in _task_runs(rig, source)}
        # A failure leads nowhere in these flows: each one ended its branch.
        failed = {name for name, row in first.items() if row.status == TaskRunStatus.FAILED}
        after = failed.union(*(behind[name] for name in failed))
        Counted.does = {}
        again = await rig.rerun(source, flow)
        run = await rig.ended(again)
        judged = validate_definition(flow).flow
        assert judged is not None
        expected = simulate(judged, lambda *_: Outcome.SUCCESS)
        assert (run.status, run.outcome) == (expected.status, expected.outcome), seed
        assert Counter(r.task for r in _task_runs(rig, again)) == Counter(
            visit.task for visit in expected.visits
        ), seed
        assert set(_kept(rig, again)) == set(first) - after, seed
        assert set(_made(again)) == {v.task for v in expected.visits} - (set(first) - after), seed


def _random_flow(chance: random.Random) -> tuple[dict[str, Any], dict[str, set[str]]]:
    """A flow whose edges lead to later tasks, and what is behind each of its tasks."""
    count = chance.randint(4, 10)
    names = [f"t{number}" for number in range(count)]
    following: dict[str, list[str]] = {}
    for number, name in enumerate(names[:-1]):
        later = names[number + 1 :]
        following[name] = chance.sample(later, min(len(later), chance.choice([1, 1, 2, 3])))
    behind: dict[str, set[str]] = {name: set() for name in names}
    for name in reversed(names):
        for target in following.get(name, []):
            behind[name] |= {target} | behind[target]
    return _flow(_named(*names), **following), behind
