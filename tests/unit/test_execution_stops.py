"""Timeouts and cancels: an attempt ends, whatever its task makes of being stopped."""

import asyncio
import contextlib
import logging
import time

import pytest

from shared.task_context import TaskContext
from shared.tasks import task
from tests.unit.execution_rig import cancel_when_started, error_of, executor, registry, run
from worker.execution import Executor

__all__ = ["executor", "registry"]


async def test_timeout_is_an_error_of_its_own_and_shows_where_it_stood(executor: Executor) -> None:
    cleaned: list[bool] = []

    @task("slow")
    async def slow() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            cleaned.append(True)

    result = await run(executor, slow, timeout_seconds=0.05)
    error = error_of(result)
    assert (result.reason, error["type"]) == ("timed_out", "TaskTimeout")
    assert error["message"] == "the attempt took longer than its timeout of 0.05 s"
    assert "await asyncio.sleep(30)" in error["traceback"]
    assert "worker/" not in error["traceback"]
    assert cleaned == [True]


async def test_result_after_the_timeout_does_not_count(executor: Executor) -> None:
    @task("stubborn")
    async def stubborn() -> bool:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
        return True

    assert error_of(await run(executor, stubborn, timeout_seconds=0.02))["type"] == "TaskTimeout"
    current = asyncio.current_task()
    assert current is not None
    assert current.cancelling() == 0


async def test_task_that_swallows_its_stop_for_ever_is_closed(executor: Executor) -> None:
    @task("immortal")
    async def immortal() -> None:
        while True:
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                logging.getLogger("immortal").warning("not me")

    started = time.monotonic()
    result = await run(executor, immortal, timeout_seconds=0.02)
    assert time.monotonic() - started < 3
    assert error_of(result)["type"] == "TaskTimeout"
    assert [line.message[:21] for line in result.logs] == ["not me", "task_ignored_its_stop"]


async def test_task_that_breaks_while_it_is_closed_changes_nothing(executor: Executor) -> None:
    @task("sore_loser")
    async def sore_loser() -> None:
        try:
            while True:
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(30)
        finally:
            raise ValueError("last words")

    result = await run(executor, sore_loser, timeout_seconds=0.02)
    assert error_of(result)["type"] == "TaskTimeout"
    assert result.logs[-1].message == "task_could_not_be_closed: ValueError"


async def test_attempt_that_is_thrown_away_closes_its_task(executor: Executor) -> None:
    closed: list[str] = []

    @task("waits")
    async def waits() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            closed.append("coroutine")

    @task("waits_on_a_thread")
    def waits_on_a_thread() -> None: ...

    for function in (waits, waits_on_a_thread):
        attempt = run(executor, function)
        attempt.send(None)
        attempt.close()
    assert closed == ["coroutine"]


async def test_timeouts_of_the_tasks_own_are_its_own_business(executor: Executor) -> None:
    @task("careful")
    async def careful() -> bool:
        for _ in range(3):
            try:
                async with asyncio.timeout(0.01):
                    await asyncio.sleep(30)
            except TimeoutError:
                # Longer than the grace after which a task that ignores a cancel is closed.
                await asyncio.sleep(0.3)
        return True

    assert (await run(executor, careful)).kind == "success"


@pytest.mark.parametrize("reaction", ["raises", "returns", "breaks", "ignores"])
async def test_cancel_reaches_the_task_and_then_the_caller(
    executor: Executor, reaction: str
) -> None:
    started = asyncio.Event()

    @task("long")
    async def long(context: TaskContext) -> bool:
        started.set()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            context.log.info("told to stop")
            if reaction == "raises":
                raise
            if reaction == "breaks":
                raise ValueError("while cleaning up") from None
            for _ in range(1_000_000 if reaction == "ignores" else 0):
                await asyncio.sleep(0)
        return True

    async with asyncio.TaskGroup() as group:
        running = group.create_task(run(executor, long))
        result = await cancel_when_started(running, started)
    assert result.kind == "cancelled"
    assert result.logs[0].message == "told to stop"
