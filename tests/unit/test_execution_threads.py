"""Tasks that are not async: each on a thread, and there are only so many."""

import asyncio
import contextvars
import threading
import time
from typing import Any

import orjson

from shared.task_context import TaskContext
from shared.tasks import task
from tests.unit.execution_rig import (
    cancel_when_started,
    error_of,
    executor,
    registry,
    released,
    run,
)
from tests.waiting import wait_until
from worker.execution import Executor

__all__ = ["executor", "registry", "released"]


async def test_sync_task_runs_on_a_thread_with_the_context(executor: Executor) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    variable.set("given")

    @task("threaded")
    def threaded(context: TaskContext) -> Any:
        context.log.info("on a thread")
        name = threading.current_thread().name
        return {"success": True, "data": {"variable": variable.get(), "thread": name}}

    result = await run(executor, threaded)
    data = orjson.loads(result.data or b"")
    assert data["variable"] == "given"
    assert data["thread"].startswith("flow-manager-task-")
    assert [line.message for line in result.logs] == ["on a thread"]


async def test_threads_are_bounded_and_waiting_for_one_is_not_the_tasks_time(
    executor: Executor,
) -> None:
    running: list[int] = []
    most: list[int] = []

    @task("busy")
    def busy() -> None:
        running.append(1)
        most.append(len(running))
        time.sleep(0.1)
        running.pop()

    async with asyncio.TaskGroup() as group:
        attempts = [group.create_task(run(executor, busy, timeout_seconds=1.0)) for _ in range(30)]
    assert {attempt.result().kind for attempt in attempts} == {"success"}
    assert max(most) == 2


async def test_sync_task_stops_at_its_heartbeat(executor: Executor) -> None:
    stopped = threading.Event()

    @task("loop")
    def loop(context: TaskContext) -> None:
        try:
            while True:
                time.sleep(0.005)
                context.heartbeat()
        finally:
            stopped.set()

    result = await run(executor, loop, timeout_seconds=0.05)
    assert error_of(result)["type"] == "TaskTimeout"
    assert stopped.is_set()
    assert result.logs == []


async def test_sync_task_that_hangs_is_left_behind_and_replaced(
    executor: Executor, released: threading.Event
) -> None:
    @task("hang")
    def hang() -> None:
        released.wait(20)

    @task("quick")
    def quick() -> None: ...

    for _ in range(2):
        result = await run(executor, hang, timeout_seconds=0.02)
        assert error_of(result)["type"] == "TaskTimeout"
        assert result.logs[-1].message.startswith("thread_abandoned")
        if _ == 0:
            assert (await run(executor, quick)).kind == "success"
    refused = error_of(await run(executor, quick))
    assert refused["type"] == "LimitExceeded"
    assert "worker_threads 2" in refused["message"]
    released.set()

    async def works_again() -> bool:
        return (await run(executor, quick)).kind == "success"

    await wait_until(works_again, description="the threads that were left behind are back")


async def test_cancelled_sync_task_is_told(executor: Executor) -> None:
    loop = asyncio.get_running_loop()
    started = asyncio.Event()

    @task("patient")
    def patient(context: TaskContext) -> None:
        loop.call_soon_threadsafe(started.set)
        while not context.cancelled:
            time.sleep(0.005)
        context.log.info("stopping")

    async with asyncio.TaskGroup() as group:
        running = group.create_task(run(executor, patient))
        result = await cancel_when_started(running, started)
    assert result.kind == "cancelled"
    assert [line.message for line in result.logs] == ["stopping"]


async def test_cancel_while_waiting_for_a_thread(
    executor: Executor, released: threading.Event
) -> None:
    entered: list[int] = []

    @task("hold")
    def hold() -> None:
        entered.append(1)
        released.wait(20)

    async with asyncio.TaskGroup() as group:
        holders = [group.create_task(run(executor, hold)) for _ in range(2)]
        await wait_until(lambda: len(entered) == 2, description="both threads are held")
        waiting = group.create_task(run(executor, hold))
        started = asyncio.Event()
        asyncio.get_running_loop().call_later(0.02, started.set)
        assert (await cancel_when_started(waiting, started)).kind == "cancelled"
        released.set()
    assert [holder.result().kind for holder in holders] == ["success", "success"]
