"""What a task raises: an error of its own frames, whatever it is."""

import asyncio
from typing import Any

import pytest

from shared.tasks import task
from tests.unit.execution_rig import error_of, executor, registry, run
from worker.execution import Executor
from worker.failures import cut_middle

__all__ = ["executor", "registry"]


async def test_error_starts_at_the_tasks_own_frames(executor: Executor) -> None:
    @task("broken")
    async def broken() -> None:
        await asyncio.sleep(0)
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise ValueError("outer") from error

    result = await run(executor, broken)
    error = error_of(result)
    assert (result.reason, error["type"], error["message"]) == ("raised", "ValueError", "outer")
    assert "KeyError: 'inner'" in error["traceback"]
    assert "direct cause" in error["traceback"]
    assert error["traceback"].count("in broken") == 2
    assert "worker/" not in error["traceback"]
    assert "shared/tasks.py" not in error["traceback"]


async def test_long_error_is_cut_in_its_middle(executor: Executor) -> None:
    @task("long")
    def long() -> None:
        raise ValueError("start" + "x" * 50_000 + "end")

    error = error_of(await run(executor, long))
    assert len(error["message"]) <= 2_000
    assert error["message"].startswith("start")
    assert error["message"].endswith("end")
    assert "characters left out" in error["message"]
    assert error["traceback"].startswith("Traceback")
    assert error["traceback"].endswith("end\n")
    assert len(error["traceback"]) <= 2_000
    assert cut_middle("short", 10) == "short"


@pytest.mark.parametrize(
    "raised", [SystemExit(1), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError("mine")]
)
@pytest.mark.parametrize("waits", [False, True])
async def test_nothing_that_a_task_raises_gets_out(
    executor: Executor, raised: BaseException, waits: bool
) -> None:
    @task("rude")
    async def rude() -> None:
        if waits:
            await asyncio.sleep(0)
        raise raised

    @task("rude_thread")
    def rude_thread() -> None:
        raise raised

    assert error_of(await run(executor, rude))["type"] == type(raised).__name__
    assert error_of(await run(executor, rude_thread))["type"] == type(raised).__name__


async def test_stop_iteration_on_a_thread_is_an_error(executor: Executor) -> None:
    @task("stops")
    def stops() -> Any:
        return next(iter(()))

    error = error_of(await asyncio.wait_for(run(executor, stops), 5))
    assert "StopIteration" in error["traceback"]


async def test_error_that_cannot_be_shown_is_still_an_error(executor: Executor) -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    @task("mute")
    async def mute() -> None:
        raise MuteError

    @task("odd")
    async def odd() -> None:
        raise ValueError("a\x00b\ud800")

    assert error_of(await run(executor, mute))["message"] == "(the error's message cannot be read)"
    assert error_of(await run(executor, odd))["message"] == "a\ufffdb?"


async def test_error_of_an_inner_task_keeps_its_own_frames(executor: Executor) -> None:
    async def inner() -> None:
        await asyncio.sleep(0)
        raise ValueError("deep inside")

    @task("outer")
    async def outer() -> None:
        await asyncio.create_task(inner())

    error = error_of(await run(executor, outer))
    assert "in outer" in error["traceback"]
    assert "in inner" in error["traceback"]
