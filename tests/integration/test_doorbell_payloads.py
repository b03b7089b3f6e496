"""What is planted in Redis is refused, never loaded, and holds nothing up."""

import asyncio
import pickle
from collections.abc import Callable
from typing import Any

import orjson
import pytest
import structlog
from arq.constants import job_key_prefix
from arq.worker import func

from tests.integration.doorbell_rig import (
    QUEUE,
    Runner,
    doorbell,
    id_of,
    queue_length,
    ringing,
    running,
)
from tests.servers import Valkey
from tests.waiting import wait_until


class Planted:
    """What a pickle would run when it is loaded."""

    executed: list[str] = []  # noqa: RUF012  # shared on purpose: unpickling has no instance

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return (Planted.executed.append, ("executed",))


@pytest.mark.parametrize("job_id", ["branches:1:planted", "planted"])
async def test_a_planted_pickle_is_refused_removed_and_never_loaded(
    valkey: Valkey, job_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    payload = pickle.dumps({"t": 1, "f": "run_branches", "a": (Planted(),), "k": {}, "et": 1})
    runner = Runner()

    async def other(ctx: dict[Any, Any]) -> None:
        raise AssertionError("nobody asked for this")

    with valkey.client() as client, structlog.testing.capture_logs() as logs:
        client.set(job_key_prefix + job_id, payload, ex=60)
        client.zadd(QUEUE, {job_id: 1})
        worker = doorbell(valkey.url, runner, func(other, name="other"), poll_delay=0.05)
        async with running(worker):
            await wait_until(lambda: client.zcard(QUEUE) == 0, description="it was removed")
            await asyncio.sleep(0.2)
        assert client.get(job_key_prefix + job_id) is None
    refusals = [line for line in logs if line["event"] == "ring_refused"]
    refusals += [line for line in caplog.messages if "deserializing job" in line]  # type: ignore[misc]  # arq's own lines are text
    assert len(refusals) == 1
    assert runner.handed == []
    assert Planted.executed == []


@pytest.mark.parametrize(
    "value",
    [
        {"t": None, "f": "other", "a": [[id_of("a")]], "k": {}, "et": 1},
        {"t": None, "f": "run_branches", "a": [], "k": {}, "et": 1},
        {"t": None, "f": "run_branches", "a": [[1]], "k": {}, "et": 1},
        {"t": None, "f": "run_branches", "a": [["no id"]], "k": {}, "et": 1},
        {"f": "run_branches"},
        [],
    ],
)
async def test_what_is_not_a_ring_is_refused_and_the_next_answered(
    valkey: Valkey, value: object
) -> None:
    runner = Runner()
    with valkey.client() as client:
        client.set(f"{job_key_prefix}branches:1:x", orjson.dumps(value), ex=60)
        client.zadd(QUEUE, {"branches:1:x": 1})
    async with running(doorbell(valkey.url, runner)), ringing(valkey.url) as ringer:
        ringer.ring(["good"])
        await wait_until(lambda: runner.handed == ["good"], description="the good one came")
    assert queue_length(valkey) == 0
