"""One attempt: whatever a task does, the worker gets a result and lives on."""

import asyncio
import contextlib
import contextvars
import logging
import threading
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from pydantic import BaseModel

from shared.errors import NotFound
from shared.registry import Registry, load_registry
from shared.settings import Settings
from shared.tasks import BaseTask, EarlierResult, Suspend, TaskContext, TaskOutput, task, task_of
from tests.waiting import wait_until
from worker.execution import AttemptResult, Execution, Executor
from worker.failures import cut_middle

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


async def test_success_failure_and_data(executor: Executor) -> None:
    @task("double")
    async def double(x: int) -> dict[str, Any]:
        return {"success": x < 5, "data": {"x": 2 * x}}

    good = await run(executor, double, params={"x": 2})
    assert (good.kind, good.data, good.reason, good.error) == ("success", b'{"x":4}', None, None)
    bad = await run(executor, double, params={"x": 7})
    assert (bad.kind, bad.data, bad.reason) == ("failure", b'{"x":14}', "returned_failure")


async def test_context_carries_what_the_execution_says(executor: Executor) -> None:
    seen: list[TaskContext] = []

    @task("look")
    async def look(context: TaskContext) -> None:
        seen.append(context)

    earlier = {"a": EarlierResult(success=True, data={"x": 1})}
    await run(
        executor, look, input={"i": 1}, tasks=earlier, previous=[1], item="x", index=3, run_id="r",
        flow_id="f", branch="main/a", attempt=2, iteration=4, idempotency_key="k",
    )  # fmt: skip
    (context,) = seen
    assert (context.task_name, context.input, context.previous) == ("look", {"i": 1}, [1])
    assert context.tasks["a"].data == {"x": 1}
    assert (context.item, context.index, context.run_id, context.flow_id) == ("x", 3, "r", "f")
    assert (context.branch, context.attempt, context.iteration) == ("main/a", 2, 4)
    assert context.idempotency_key == "k"


async def test_params_that_do_not_fit_name_each_field_and_no_value(executor: Executor) -> None:
    @task("resize")
    async def resize(width: int, secret: int) -> None: ...

    error = error_of(await run(executor, resize, params={"secret": "hunter2", "hieght": 1}))
    assert error["type"] == "InvalidParams"
    for place in ("params.width: Field required", "params.secret: ", "params.hieght: Extra"):
        assert place in error["message"]
    assert "hunter2" not in str(error)


async def test_strict_model_takes_a_date_from_its_json_text(executor: Executor) -> None:
    class Params(BaseModel, strict=True):
        day: datetime

    class Dated(BaseTask):
        name = "dated"

        async def run(self, context: TaskContext) -> TaskOutput:
            return {"success": True, "data": {"year": context.params.day.year}}

    Dated.Params = Params
    result = await run(executor, Dated, params={"day": "2031-01-01T00:00:00Z"})
    assert result.data == b'{"year":2031}'


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


async def test_result_that_is_not_json_is_an_error_that_names_the_key(executor: Executor) -> None:
    @task("dated")
    async def dated() -> Any:
        return {"success": True, "data": {"rows": [{"when": datetime.now(UTC)}]}}

    error = error_of(await run(executor, dated))
    assert error["type"] == "InvalidTaskResult"
    assert error["message"] == "data.rows[0].when: datetime is not JSON"


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


async def test_lines_can_be_taken_while_the_task_runs_and_the_rest_comes_with_its_result(
    executor: Executor,
) -> None:
    told, goes_on = asyncio.Event(), asyncio.Event()

    @task("tells")
    async def tells(context: TaskContext) -> None:
        context.log.info("first")
        told.set()
        await goes_on.wait()
        context.log.info("second")

    async with asyncio.TaskGroup() as group:
        running = group.create_task(run(executor, tells, run_id="r", task_run_id="t"))
        await told.wait()
        (line,) = executor.captured.take(time.monotonic(), 10)
        goes_on.set()
    assert (line.message, line.flow_run_id, line.task_run_id, line.task) == (
        "first",
        "r",
        "t",
        "tells",
    )
    assert [line.message for line in running.result().logs] == ["second"]


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


async def test_suspend_and_resume(executor: Executor) -> None:
    class Poll(BaseTask):
        name = "poll"

        async def run(self, context: TaskContext) -> TaskOutput:
            return Suspend(seconds=30)

        def resume(self, context: TaskContext) -> TaskOutput:
            return {"success": True, "data": {"woken": True}}

    suspended = await run(executor, Poll)
    assert suspended.kind == "suspended"
    assert suspended.wake_at is not None
    assert timedelta() < suspended.wake_at - datetime.now(UTC) <= timedelta(seconds=30)
    assert (await run(executor, Poll, resumed=True)).data == b'{"woken":true}'


async def test_unknown_type_is_the_callers_mistake(executor: Executor) -> None:
    with pytest.raises(NotFound):
        await executor.execute(Execution(task_type="nothing", name="nothing"))


# --- The built-in task types ---------------------------------------------------------------------


async def builtin(executor: Executor, name: str, **given: Any) -> AttemptResult:
    return await executor.execute(Execution(task_type=name, name=name, **given))


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
