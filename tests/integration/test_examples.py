"""The examples run, from their first task to their output, on both databases."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from shared.status import Outcome, RunStatus
from shared.store.signals import NewSignal, send_signals
from tests.integration.engine_rig import Rig, open_rig
from tests.waiting import wait_until

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
async def rig(database_url: str, redis_url: str) -> AsyncIterator[Rig]:
    async with open_rig(database_url, redis_url, (str(EXAMPLES / "media.py"),)) as rig:
        yield rig


@pytest.mark.parametrize(("approved", "ends_at"), [(True, "publish"), (False, "approve")])
async def test_the_media_example_is_published_when_it_is_approved(
    rig: Rig, approved: bool, ends_at: str
) -> None:
    document = orjson.loads((EXAMPLES / "media.json").read_bytes())
    run_id = await rig.submit(document["flow"], document["input"])
    await wait_until(
        lambda: "approve" in (tasks := rig.tasks(run_id)) and tasks["approve"].status == "waiting",
        description="the run waits for its approval",
    )
    await rig.engine.writer.call(
        send_signals,
        NewSignal(
            flow_run_id=run_id,
            name="approve",
            data=orjson.dumps({"approved": approved, "by": "ada"}),
            received_at=datetime.now(UTC),
            ready_at=rig.engine.clock.now() - 10,
        ),
    )
    run = await rig.ended(run_id)
    assert run.outcome == Outcome.SUCCESS
    visits = rig.visits(run_id)
    assert (visits["thumbnails"], visits["scan"], visits["shrink"]) == (4, 2, 1)
    assert (ends_at == "publish") == ("publish" in visits)
    if approved:
        assert orjson.loads(run.output) == {
            "picture": "old-harbour.jpg",
            "tags": ["harbour", "old"],
            "sizes": 3,
            "approved_by": "ada",
        }


async def test_the_trip_is_taken_back_when_the_card_is_declined(rig: Rig) -> None:
    document = orjson.loads((EXAMPLES / "trip.json").read_bytes())
    run_id = await rig.submit(document["flow"], document["input"])
    run = await rig.ended(run_id)
    assert run.status == RunStatus.FAILED
    tasks = rig.tasks(run_id)
    assert orjson.loads(tasks["cancel_flight"].data) == {"cancelled": "F-17"}
    assert rig.visits(run_id)["cancel_hotel"] == 2
    assert orjson.loads(tasks["report"].data) == {
        "status": "failed",
        "why": "the card was declined",
    }
