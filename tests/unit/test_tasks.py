"""What a task may look like and what it is handed."""

import asyncio
import logging
from datetime import UTC, datetime
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field

import flow_manager
from shared.errors import InvalidTask
from shared.task_context import TaskContext
from shared.tasks import BaseTask, Suspend, TaskOutput, check_task, task, task_of


def made_from(function: Any) -> type[BaseTask]:
    """The task type that the decorator made of ``function``."""
    found = task_of(function)
    assert found is not None
    return found


def test_decorated_function_stays_callable() -> None:
    @task("double")
    async def double(x: int) -> dict[str, Any]:
        return {"success": True, "data": {"x": 2 * x}}

    assert asyncio.run(double(x=4)) == {"success": True, "data": {"x": 8}}


def test_params_model_is_made_of_the_signature() -> None:
    @task("resize")
    async def resize(width: Annotated[int, Field(gt=0)], unit: str = "px") -> None:
        """Resize the picture."""

    found = made_from(resize)
    assert found.Params is not None
    schema = found.Params.model_json_schema()
    assert schema["required"] == ["width"]
    assert schema["properties"]["width"]["exclusiveMinimum"] == 0
    assert schema["properties"]["unit"] == {"default": "px", "title": "unit", "type": "string"}
    assert schema["additionalProperties"] is False
    assert found.description() == "Resize the picture."


def test_parameters_may_have_names_that_pydantic_uses_itself() -> None:
    @task("odd")
    def odd(json: int, _private: int, model_config: int = 3) -> Any:
        return json, _private, model_config

    found = made_from(odd)
    assert found.Params is not None
    params = found.Params.model_validate({"json": 1, "_private": 2})
    returned: object = found().run(TaskContext(task_name="odd", params=params))
    assert returned == (1, 2, 3)


def test_function_may_take_any_params() -> None:
    @task("open")
    def open_ended(x: int, **others: Any) -> Any:
        return x, others

    found = made_from(open_ended)
    assert found.Params is not None
    params = found.Params.model_validate({"x": 1, "y": [2]})
    returned: object = found().run(TaskContext(task_name="open", params=params))
    assert returned == (1, {"y": [2]})


def test_only_a_function_that_takes_the_context_needs_results() -> None:
    @task("plain")
    def plain(x: int) -> None: ...

    @task("curious")
    def curious(context: TaskContext, x: int) -> None: ...

    assert made_from(plain).needs_results is False
    assert made_from(curious).needs_results is True
    params = made_from(curious).Params
    assert params is not None
    assert "context" not in params.model_json_schema()["properties"]


def test_async_and_sync_are_told_apart() -> None:
    class Asynchronous(BaseTask):
        name = "a"

        async def run(self, context: TaskContext) -> TaskOutput:
            return None

    class Synchronous(BaseTask):
        name = "s"

        def run(self, context: TaskContext) -> TaskOutput:
            return None

        async def resume(self, context: TaskContext) -> TaskOutput:
            return None

    assert (Asynchronous.run_is_async, Asynchronous.resume_is_async) == (True, True)
    assert (Synchronous.run_is_async, Synchronous.resume_is_async) == (False, True)


@pytest.mark.parametrize("name", ["", "end", "a" * 201, "line\nbreak", 3])
def test_name_that_cannot_stand_in_a_definition_is_refused(name: Any) -> None:
    with pytest.raises(InvalidTask):

        @task(name)
        def nothing() -> None: ...


def test_function_whose_parameters_have_no_names_is_refused() -> None:
    with pytest.raises(InvalidTask, match="'values' cannot be given by its name"):

        @task("many")
        def many(*values: int) -> None: ...

    with pytest.raises(InvalidTask, match="'x' cannot be given by its name"):

        @task("positional")
        def positional(x: int, /) -> None: ...


def test_annotation_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(InvalidTask, match="Missing"):

        @task("unknown")
        def unknown(x: "Missing") -> None: ...  # type: ignore[name-defined]  # noqa: F821


def test_annotation_that_is_no_data_is_refused() -> None:
    class Connection: ...

    with pytest.raises(InvalidTask, match="Connection"):

        @task("connected")
        def connected(connection: Connection) -> None: ...


def test_decorator_stands_over_functions_only() -> None:
    with pytest.raises(InvalidTask, match="def"):
        task("class")(BaseModel)
    with pytest.raises(InvalidTask, match="@task needs the name"):
        task(lambda: None)  # type: ignore[arg-type]  # what @task without parentheses does


def test_class_without_run_is_refused() -> None:
    class Lazy(BaseTask):
        name = "lazy"

    with pytest.raises(InvalidTask, match=r"no run\(\)"):
        check_task(Lazy)


def test_params_must_be_a_model() -> None:
    class Loose(BaseTask):
        name = "loose"
        Params = dict  # type: ignore[assignment]  # what is tested

        async def run(self, context: TaskContext) -> TaskOutput:
            return None

    with pytest.raises(InvalidTask, match="pydantic model"):
        check_task(Loose)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"seconds": 1.0, "until": datetime(2030, 1, 1, tzinfo=UTC)},
        {"seconds": -1.0},
        {"seconds": float("nan")},
        {"seconds": float("inf")},
        {"until": datetime(2030, 1, 1)},  # noqa: DTZ001  # what is tested
    ],
)
def test_suspend_refuses_what_is_no_time(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Suspend"):
        Suspend(**given)


def test_log_tells_the_run_and_keeps_what_the_caller_adds(
    caplog: pytest.LogCaptureFixture,
) -> None:
    context = TaskContext(task_name="resize", run_id="r1", attempt=2)
    with caplog.at_level(logging.INFO, logger="flow_manager.tasks"):
        context.log.info("resizing %d", 3, extra={"width": 100})
    (record,) = caplog.records
    assert record.getMessage() == "resizing 3"
    assert record.name == "flow_manager.tasks.resize"
    assert vars(record)["flow_run_id"] == "r1"
    assert vars(record)["attempt"] == 2
    assert vars(record)["width"] == 100


def test_heartbeat_raises_once_the_attempt_shall_stop() -> None:
    context = TaskContext(task_name="long")
    before = context.cancelled
    context.heartbeat()
    context.stop()
    assert (before, context.cancelled) == (False, True)
    with pytest.raises(asyncio.CancelledError):
        context.heartbeat()


async def test_cancelled_is_true_in_an_async_task_that_was_cancelled() -> None:
    context = TaskContext(task_name="long")
    seen: list[bool] = [context.cancelled]

    async def work() -> None:
        try:
            await asyncio.sleep(10)
        finally:
            seen.append(context.cancelled)

    async with asyncio.TaskGroup() as group:
        running = group.create_task(work())
        await asyncio.sleep(0)
        running.cancel()
    assert seen == [False, True]


def test_public_names_are_loaded_from_the_face() -> None:
    assert flow_manager.BaseTask is BaseTask
    assert flow_manager.task is task
    assert flow_manager.__version__.count(".") >= 1
    assert "TaskContext" in dir(flow_manager)
    with pytest.raises(AttributeError, match="nothing"):
        flow_manager.nothing  # noqa: B018  # the access is what is tested


def test_what_the_context_has_not_read_yet_is_read_once_and_when_it_is_asked_for() -> None:
    asked: list[str] = []

    def read() -> list[int]:
        asked.append("input")
        return [1]

    context = TaskContext(task_name="t")
    context.read_when_asked("input", read)
    assert asked == []
    assert context.input is context.input
    assert context.input == [1]
    assert asked == ["input"]
    assert context.previous is None
    with pytest.raises(AttributeError, match="no 'inptu'"):
        getattr(context, "inptu")  # noqa: B009  # mypy knows that it is not there
