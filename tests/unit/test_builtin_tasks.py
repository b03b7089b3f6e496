"""The built-in task types, one attempt each."""

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from tests.unit.execution_rig import builtin, error_of, executor, registry
from worker.execution import Executor

__all__ = ["executor", "registry"]


async def test_noop_takes_anything(executor: Executor) -> None:
    assert (await builtin(executor, "noop", params={"x": 1})).data == b"{}"


@pytest.mark.parametrize(
    ("duration", "seconds"), [(30, 30), (0.5, 0.5), ("30s", 30), ("1.5h", 5_400), ("2 d", 172_800)]
)
async def test_sleep_asks_to_be_woken(executor: Executor, duration: object, seconds: float) -> None:
    before = datetime.now(UTC)
    result = await builtin(executor, "sleep", params={"for": duration})
    assert result.kind == "suspended"
    assert result.wake_at is not None
    assert abs((result.wake_at - before).total_seconds() - seconds) < 1


async def test_sleep_does_not_wait_where_the_time_has_come(executor: Executor) -> None:
    assert (await builtin(executor, "sleep")).kind == "success"
    past = await builtin(executor, "sleep", params={"until": "2001-01-01T00:00:00Z"})
    assert past.kind == "success"
    resumed = await builtin(executor, "sleep", params={"for": 60}, resumed=True)
    assert resumed.kind == "success"


@pytest.mark.parametrize(
    "params",
    [
        {"for": -1},
        {"for": "soon"},
        {"for": 1e300},
        {"until": "2031-01-01T00:00:00"},
        {"for": 1, "until": "2031-01-01T00:00:00Z"},
        {"seconds": 3},
    ],
)
async def test_sleep_refuses_what_is_no_time(executor: Executor, params: dict[str, Any]) -> None:
    error = error_of(await builtin(executor, "sleep", params=params))
    assert error["type"] == "InvalidParams"


async def test_fail_raises_its_message(executor: Executor) -> None:
    error = error_of(await builtin(executor, "fail", params={"message": "on purpose"}))
    assert (error["type"], error["message"]) == ("TaskFailed", "on purpose")


async def test_example_tasks_hand_data_on(executor: Executor) -> None:
    fetched = orjson.loads((await builtin(executor, "fetch_data")).data or b"")
    assert fetched == {"rows": 3, "values": [1, 2, 3]}
    processed = await builtin(executor, "process_data", previous=fetched)
    stored = await builtin(executor, "store_data", previous=orjson.loads(processed.data or b""))
    assert stored.data == b'{"stored":3,"total":12.0}'
    joined = {"one": fetched, "two": fetched, "noop": {}, "none": None}
    assert (await builtin(executor, "store_data", previous=joined)).data == (
        b'{"stored":6,"total":12}'
    )


async def test_example_tasks_say_no_where_there_is_nothing(executor: Executor) -> None:
    fetched = await builtin(executor, "fetch_data", params={"available": False})
    assert (fetched.kind, fetched.reason) == ("failure", "returned_failure")
    assert (await builtin(executor, "process_data", previous=None)).kind == "failure"


async def test_fetch_takes_values_of_the_input(executor: Executor) -> None:
    result = await builtin(executor, "fetch_data", input={"values": [5, "x", True, 7]})
    assert result.data == b'{"rows":2,"values":[5,7]}'
