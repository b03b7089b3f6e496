"""Explanations of runs that stand still, on both databases."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from api import shapes
from shared.explanation import Reason, explain
from shared.ids import BranchId, FlowRunId, WorkerId, new_id
from shared.models import Branch
from shared.queries.explain import Moment, read_standing
from shared.status import Outcome, RunStatus
from shared.store.branches import Claim, claim_branches
from shared.store.freeing import rescue_branches
from shared.store.workers import AdvertisedType, Registration, register_workers
from shared.validation import validate_definition
from tests.api_client import FLOW, open_client, settings_for
from tests.integration.engine_rig import MODULE, Rig, open_rig, rig
from tests.waiting import wait_until

__all__ = ["rig"]

UNKNOWN = "01980f2e-8a00-7000-8000-3f1b5d7a9c24"


@pytest.fixture
def client(database_url: str, tmp_path: Path) -> Iterator[TestClient]:
    with open_client(settings_for(database_url, tmp_path)) as client:
        yield client


def _reasons(rig: Rig, run_id: FlowRunId) -> dict[str, Reason]:
    settings = rig.engine.settings
    with rig.engine.database.snapshot() as connection:
        moment = Moment(
            datetime.now(UTC),
            rig.engine.clock.now(),
            settings.lease_seconds,
            settings.heartbeat_seconds,
            settings.max_losses,
        )
        standing = read_standing(connection, run_id, moment)
    assert standing is not None
    return {reason.code: reason for reason in map(explain, standing.facts)}


async def _told(rig: Rig, run_id: FlowRunId, code: str) -> Reason:
    await wait_until(lambda: code in _reasons(rig, run_id), description=code)
    return _reasons(rig, run_id)[code]


@asynccontextmanager
async def _narrow_rig(database_url: str, redis_url: str) -> AsyncIterator[Rig]:
    """An engine with one slot."""
    async with open_rig(database_url, redis_url, (MODULE,), worker_concurrency=1) as rig:
        yield rig


async def _stranger(rig: Rig, heartbeat: float | None = None) -> WorkerId:
    """Another worker, which registers and then does nothing more."""
    worker = WorkerId(new_id())
    beat = rig.engine.clock.now() if heartbeat is None else heartbeat
    kind = AdvertisedType("plain", "", None, "")
    registration = Registration(worker, "elsewhere", 1, "0", ("default",), 2, (kind,), beat)
    await rig.engine.writer.call(register_workers, registration)
    return worker


async def _claim_for(rig: Rig, worker: WorkerId, run_id: FlowRunId) -> None:
    """Let another worker claim the branch of a run."""
    wish = Claim(
        worker_id=worker,
        queues=("default",),
        task_types={"plain"},
        limit=1,
        max_losses=rig.engine.settings.max_losses,
        branch_ids=tuple(_branches(rig, run_id)),
    )
    assert len(await rig.engine.writer.call(claim_branches, wish)) == 1


def _branches(rig: Rig, run_id: FlowRunId) -> list[BranchId]:
    table = Branch.__table__
    query = select(table.c.id).where(table.c.flow_run_id == run_id)
    with rig.engine.database.read() as connection:
        return [BranchId(one) for one in connection.execute(query).scalars()]


def _single(**task: Any) -> dict[str, Any]:
    return {"id": "one", "start_task": "a", "tasks": [{"name": "a", **task}], "conditions": []}


def _diamond(left: dict[str, Any], right: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": "diamond",
        "start_task": "split",
        "tasks": [
            {"name": "split", "type": "plain"},
            {"name": "left", **left},
            {"name": "right", **right},
            {"name": "meet", "type": "plain"},
        ],
        "conditions": [
            {"source_task": "split", "target_task_success": ["left", "right"]},
            {"source_task": "left", "target_task_success": "meet"},
            {"source_task": "right", "target_task_success": "meet"},
        ],
    }


def test_an_unknown_run_is_not_found(client: TestClient) -> None:
    assert client.get(f"/flows/{UNKNOWN}/explain").status_code == 404


def test_without_workers_a_run_waits_for_one(client: TestClient) -> None:
    run_id = client.post("/run-flow", json={"flow": FLOW}).json()["flow_run_id"]
    answer = client.get(f"/flows/{run_id}/explain")
    told = shapes.Explanation.model_validate_json(answer.content)
    assert [reason.code for reason in told.reasons] == ["no_worker"]
    assert told.summary == told.reasons[0].message


async def test_a_sleep_and_an_attempt_and_a_signal_are_told(rig: Rig) -> None:
    sleep = await rig.submit(_single(type="sleep", params={"for": "1h"}))
    assert "sleeps in a until" in (await _told(rig, sleep, "sleeps")).message
    retry = {"max_attempts": 3, "delay": 600, "jitter": False}
    again = await rig.submit(_single(type="flaky", retry=retry))
    assert "attempt 2 of 3 of a" in (await _told(rig, again, "waits_for_attempt")).message
    signal = await rig.submit(_single(type="wait_for_signal", params={"signal": "go"}))
    assert "signal go" in (await _told(rig, signal, "waits_for_signal")).message


async def test_a_join_tells_whom_it_waits_for(rig: Rig) -> None:
    run_id = await rig.submit(_diamond({"type": "plain"}, {"type": "hangs"}))
    reason = await _told(rig, run_id, "waits_at_join")
    assert reason.data["waits_for"] == [{"branch": "main/split:right", "task": "right"}]
    assert (await _told(rig, run_id, "running")).task == "right"
    assert await rig.cancel(run_id)


async def test_a_join_that_was_missed_says_by_whom(rig: Rig) -> None:
    failing = {"type": "scripted", "params": {"succeeds": False}}
    run_id = await rig.submit(_diamond({"type": "plain"}, failing))
    await rig.ended(run_id)
    reason = _reasons(rig, run_id)["join_not_run"]
    assert reason.data["missed_by"] == [{"branch": "main/split:right", "task": "right"}]
    assert "over" in _reasons(rig, run_id)


async def test_a_branch_tells_of_those_that_go_before_it_and_of_queues_that_nobody_takes(
    rig: Rig,
) -> None:
    rig.engine.claimer.stop()
    await rig.submit(_single(type="plain", priority=5))
    await rig.submit(_single(type="plain", priority=-5))
    run_id = await rig.submit(_single(type="plain"))
    reason = await _told(rig, run_id, "waits_for_slot")
    assert reason.data["ahead"] == 1
    elsewhere = await rig.submit(_single(type="plain", queue="gpu"))
    assert "no live worker serves queue gpu" in (await _told(rig, elsewhere, "no_worker")).message


async def test_a_branch_without_a_slot_tells_how_many_are_before_it(
    database_url: str, redis_url: str
) -> None:
    async with _narrow_rig(database_url, redis_url) as rig:
        first = await rig.submit(_single(type="hangs"))
        assert (await _told(rig, first, "running")).task == "a"
        waiting = [await rig.submit(_single(type="plain")) for _ in range(2)]
        reason = await _told(rig, waiting[1], "waits_for_slot")
        assert (reason.data["ahead"], reason.data["workers"], reason.data["slots"]) == (1, 1, 1)
        assert "behind 1 other branch on queue default" in reason.message
        assert await rig.cancel(first) == "cancelled"
        for run_id in waiting:
            await rig.ended(run_id)


async def test_a_type_that_no_live_worker_runs_is_named(rig: Rig) -> None:
    judged = validate_definition(_single(type="unheard_of"))
    assert judged.flow is not None
    run_id = await rig.submit_flow(judged.flow, judged.definition_json)
    reason = await _told(rig, run_id, "no_worker_for_type")
    assert "runs task type unheard_of" in reason.message
    assert (reason.data["workers"], reason.data["workers_of_type"]) == (1, 0)
    await rig.cancel(run_id)


async def test_a_branch_that_has_cost_workers_their_lives_is_tried_alone(
    database_url: str, redis_url: str
) -> None:
    async with _narrow_rig(database_url, redis_url) as rig:
        busy = await rig.submit(_single(type="hangs"))
        await _told(rig, busy, "running")
        run_id = await rig.submit(_single(type="plain"))
        for _ in range(rig.engine.settings.max_losses - 1):
            worker = await _stranger(rig)
            await _claim_for(rig, worker, run_id)
            with rig.engine.database.write() as connection:
                rescue_branches(connection, [worker], rig.engine.clock.now())
        reason = await _told(rig, run_id, "tried_alone")
        assert (reason.data["losses"], reason.data["max_losses"]) == (2, 3)
        await rig.cancel(busy)
        assert (await rig.ended(run_id)).outcome == Outcome.SUCCESS


async def test_a_worker_that_has_fallen_silent_is_named_with_its_rescue(
    database_url: str, redis_url: str
) -> None:
    async with _narrow_rig(database_url, redis_url) as rig:
        busy = await rig.submit(_single(type="hangs"))
        await _told(rig, busy, "running")
        run_id = await rig.submit(_single(type="plain"))
        worker = await _stranger(rig)
        await _claim_for(rig, worker, run_id)
        reason = await _told(rig, run_id, "worker_silent")
        assert (reason.data["worker"], reason.data["host"]) == (worker, "elsewhere")
        assert f"by worker {worker} on elsewhere, which has been silent for" in reason.message
        await rig.cancel(run_id)
        await rig.cancel(busy)


async def test_a_list_tells_its_items_and_an_item_that_it_is_held_back(rig: Rig) -> None:
    params = {"item": "${item}", "index": "${index}"}
    listed = {"for_each": '["hang", "ok", "ok"]', "concurrency": 1, "params": params}
    run_id = await rig.submit(_single(type="picky", **listed))
    held_back = await _told(rig, run_id, "item_held_back")
    assert (held_back.data["concurrency"], held_back.task) == (1, "a")
    reason = await _told(rig, run_id, "waits_for_items")
    assert reason.message.endswith("waits in a for 3 of 3 items.")
    assert (await _told(rig, run_id, "running")).branch == "main/a[0]"
    await rig.cancel(run_id)


@pytest.mark.parametrize(
    ("task", "status", "told"),
    [
        ({"type": "plain"}, RunStatus.COMPLETED, "it completed with success at "),
        (
            {"type": "scripted", "params": {"succeeds": False}},
            RunStatus.COMPLETED,
            "it completed with failure at ",
        ),
        ({"type": "raises"}, RunStatus.FAILED, "with RuntimeError: boom."),
        ({"type": "hangs"}, RunStatus.CANCELLED, "it was cancelled at "),
    ],
)
async def test_a_run_that_is_over_tells_how(
    rig: Rig, task: dict[str, Any], status: RunStatus, told: str
) -> None:
    run_id = await rig.submit(_single(**task))
    if status is RunStatus.CANCELLED:
        await _told(rig, run_id, "running")
        await rig.cancel(run_id)
    assert (await rig.ended(run_id)).status == status
    reasons = _reasons(rig, run_id)
    assert list(reasons) == ["over"]
    assert told in reasons["over"].message


async def test_a_join_waits_for_so_many_and_tells_who_missed_it(rig: Rig) -> None:
    failing = {"type": "scripted", "params": {"succeeds": False}}
    flow = _diamond({"type": "plain"}, failing)
    flow["tasks"] += [{"name": "slow", "type": "hangs"}]
    flow["tasks"][3]["join"] = 2
    flow["conditions"][0]["target_task_success"] = ["left", "right", "slow"]
    flow["conditions"] += [{"source_task": "slow", "target_task_success": "meet"}]
    run_id = await rig.submit(flow)
    await wait_until(
        lambda: (
            _reasons(rig, run_id).get("waits_at_join") is not None
            and _reasons(rig, run_id)["waits_at_join"].data["missed"] == 1
        ),
        description="right missed the join",
    )
    reason = _reasons(rig, run_id)["waits_at_join"]
    assert (reason.data["arrived"], reason.data["needed"]) == (1, 2)
    assert reason.data["waits_for"] == [{"branch": "main/split:slow", "task": "slow"}]
    await rig.cancel(run_id)
    await rig.ended(run_id)
    stopped = _reasons(rig, run_id)["join_not_run"]
    assert (stopped.data["why"], stopped.data["arrived"]) == ("stopped", 1)
    assert "the run ended before it was decided; 1 branch waited at it" in stopped.message


async def test_a_join_that_too_few_could_reach_says_so(rig: Rig) -> None:
    failing = {"type": "scripted", "params": {"succeeds": False}}
    flow = _diamond({"type": "plain"}, failing)
    flow["tasks"][3]["join"] = 2
    run_id = await rig.submit(flow)
    assert (await rig.ended(run_id)).status == RunStatus.FAILED
    reasons = _reasons(rig, run_id)
    assert "JoinUnmet" in reasons["over"].message
    reason = reasons["join_not_run"]
    assert (reason.data["why"], reason.data["needed"], reason.data["arrived"]) == ("unmet", 2, 1)
    assert reason.data["missed_by"] == [{"branch": "main/split:right", "task": "right"}]


async def test_an_attempt_that_a_later_one_made_good_missed_nothing(rig: Rig) -> None:
    failing = {"type": "scripted", "params": {"succeeds": False}}
    retry = {"max_attempts": 2, "delay": 0.01}
    mended = {"type": "flaky", "params": {"attempt": 2}, "retry": retry}
    run_id = await rig.submit(_diamond(mended, failing))
    await rig.ended(run_id)
    reason = _reasons(rig, run_id)["join_not_run"]
    assert reason.data["missed_by"] == [{"branch": "main/split:right", "task": "right"}]
    assert (reason.data["why"], reason.data["arrived"]) == ("missed", 1)


async def test_who_came_to_a_join_alone_has_not_waited_there(rig: Rig) -> None:
    flow: dict[str, Any] = {
        "id": "ways",
        "start_task": "a",
        "tasks": [
            {"name": "a", "type": "plain"},
            {"name": "b", "type": "plain"},
            {"name": "meet", "type": "unheard_of"},
        ],
        "conditions": [
            {"source_task": "a", "target_task_success": "meet", "target_task_failure": "b"},
            {"source_task": "b", "target_task_success": "meet"},
        ],
    }
    judged = validate_definition(flow)
    assert judged.flow is not None
    run_id = await rig.submit_flow(judged.flow, judged.definition_json)
    assert (await _told(rig, run_id, "no_worker_for_type")).task == "meet"
    await rig.cancel(run_id)
    await rig.ended(run_id)
    assert list(_reasons(rig, run_id)) == ["over"]


async def test_a_join_that_a_finished_run_left_behind_was_stopped(rig: Rig) -> None:
    flow = _diamond({"type": "plain"}, {"type": "hangs"})
    flow["tasks"] += [{"name": "nap", "type": "naps"}, {"name": "done", "type": "finish"}]
    flow["conditions"][0]["target_task_success"] = ["left", "right", "nap"]
    flow["conditions"] += [{"source_task": "nap", "target_task_success": "done"}]
    run_id = await rig.submit(flow)
    assert "completed" in (await _told(rig, run_id, "over")).message
    reason = _reasons(rig, run_id)["join_not_run"]
    assert (reason.data["why"], reason.data["arrived"]) == ("stopped", 1)


async def test_what_is_told_is_of_one_moment(rig: Rig) -> None:
    """What is committed while the facts are read is not seen by half of them."""
    run_id = await rig.submit(_single(type="hangs"))
    await _told(rig, run_id, "running")
    table = Branch.__table__
    query = select(table.c.state).where(table.c.flow_run_id == run_id)
    with rig.engine.database.snapshot() as connection:
        before = connection.execute(query).scalar_one()
        await rig.cancel(run_id)
        assert connection.execute(query).scalar_one() == before == "running"
    with rig.engine.database.read() as connection:
        assert connection.execute(query).scalar_one() == "done"
