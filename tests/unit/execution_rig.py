"""One attempt in the process of a test, and what tests ask of its result."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import orjson
import pytest

from shared.registry import Registry, load_registry
from shared.settings import Settings
from shared.tasks import task_of
from worker.execution import AttemptResult, Execution, Executor

SETTINGS = Settings(
    task_timeout_seconds=5, max_error_characters=2_000, worker_threads=2, max_log_lines=50
)


@pytest.fixture
def registry() -> Registry:
    return load_registry()


@pytest.fixture
async def executor(registry: Registry) -> AsyncIterator[Executor]:
    executor = Executor(registry, SETTINGS)
    executor.stop_seconds = 0.2
    yield executor
    executor.close()


@pytest.fixture
def released() -> Iterator[threading.Event]:
    """Lets the threads of tasks that hang go on at the end of the test."""
    event = threading.Event()
    yield event
    event.set()


async def run(executor: Executor, function: Any, **given: Any) -> AttemptResult:
    """One attempt at a task that is only known here."""
    found = task_of(function)
    assert found is not None
    executor._registry.add(found)
    return await executor.execute(Execution(task_type=found.name, name=found.name, **given))


def error_of(result: AttemptResult) -> dict[str, str]:
    assert result.kind == "error"
    assert result.error is not None
    error: dict[str, str] = orjson.loads(result.error)
    assert set(error) == {"type", "message", "traceback"}
    return error


async def cancel_when_started(
    running: "asyncio.Task[Any]", started: asyncio.Event
) -> AttemptResult:
    async with asyncio.timeout(5):
        await started.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await running
    result = caught.value.args[0]
    assert isinstance(result, AttemptResult)
    return result


# --- The built-in task types ---------------------------------------------------------------------


async def builtin(executor: Executor, name: str, **given: Any) -> AttemptResult:
    return await executor.execute(Execution(task_type=name, name=name, **given))
