"""``flow_manager.testing``: what users write their own tests with."""

import asyncio
import subprocess
import sys
from typing import Any

import pytest
from pydantic import BaseModel

from flow_manager import BaseTask, Suspend, TaskContext, TaskResult, task
from flow_manager.testing import Items, run_flow, run_flow_async
from shared.errors import InvalidDefinition, InvalidInput, LimitExceeded
from shared.status import RunStatus
from tests.unit.simulating import flow_of

PLAIN: dict[str, Any] = {}
CHAIN = flow_of({"a": PLAIN, "b": {"params": {"n": "${previous}"}}}, ("a", "b", "mend"))
CHAIN["tasks"].append({"name": "mend"})


class Size(BaseModel):
    """How large."""

    width: int


class Resize(BaseTask):
    """A user's task."""

    name = "resize"
    Params = Size

    async def run(self, context: TaskContext) -> dict[str, Any]:
        """Tell what it was given."""
        await asyncio.sleep(0)
        return {"success": True, "data": {"wide": context.params.width, "at": context.attempt}}


@task("double")
def double(x: int) -> dict[str, Any]:
    """Another one, not async."""
    return {"success": True, "data": x * 2}


@pytest.mark.parametrize(
    ("outcome", "data"),
    [
        (True, {}),
        (None, {}),
        ({"rows": 3}, {"rows": 3}),
        ({"success": True, "data": [1]}, [1]),
        (TaskResult(success=True, data="x"), "x"),
        (Size(width=2), {"width": 2}),
        (lambda context: {"was": context.input}, {"was": 7}),
    ],
)
def test_an_outcome_is_what_a_task_may_return(outcome: Any, data: Any) -> None:
    run = run_flow(CHAIN, outcomes={"a": outcome}, input=7)
    assert run.path == ["a", "b"]
    assert run.tasks["a"].data == data
    assert run.tasks["b"].params == {"n": data}
    assert run.is_success


def test_a_failure_is_routed() -> None:
    run = run_flow(CHAIN, outcomes={"a": False})
    assert run.path == ["a", "mend"]
    assert run.tasks["a"].success is False


def test_an_exception_is_raised_with_its_traceback() -> None:
    def breaks(_context: TaskContext) -> None:
        raise ZeroDivisionError("by zero")

    for outcome in (ZeroDivisionError, ZeroDivisionError("by zero"), breaks):
        run = run_flow(CHAIN, outcomes={"a": outcome})
        assert run.status is RunStatus.FAILED
        assert run.error["type"] == "ZeroDivisionError"
        assert run.tasks["a"].success is None
    assert "test_testing.py" in run.error["traceback"]
    assert "outcomes.py" not in run.error["traceback"]


def test_a_list_is_for_consecutive_attempts_and_visits() -> None:
    flow = flow_of({"a": {"retry": {"delay": "1h"}}}, ("a", "end", "a"))
    run = run_flow(flow, outcomes={"a": [OSError("away"), False, TimeoutError, {"n": 1}]})
    assert run.path == ["a", "a"]
    assert [visit.attempts for visit in run.visits_of("a")] == [2, 2]
    assert run.tasks["a"].iteration == 2
    assert run.output == {"n": 1}
    assert run.seconds == 7_200


def test_items_have_outcomes_of_their_own() -> None:
    flow = flow_of({"m": {"for_each": "input", "tolerate": 1}})
    run = run_flow(
        flow, outcomes={"m": Items({"n": 1}, False, lambda c: {"n": c.item})}, input=[7, 8, 9]
    )
    assert run.output == [{"n": 1}, {}, {"n": 9}]
    assert [item.success for item in run.tasks["m"].items][:2] == [True, False]


def test_real_tasks_are_run_with_their_params_checked() -> None:
    flow = flow_of(
        {
            "small": {"type": "resize", "params": {"width": "${input.w}"}},
            "double": {"params": {"x": "${previous.wide}"}},
        },
        ("small", "double"),
    )
    run = run_flow(flow, tasks=[Resize, double], input={"w": 21})
    assert run.output == 42
    assert run.assumed == []
    run = run_flow(flow, tasks={"resize": Resize}, input={"w": "wide"})
    assert run.error["type"] == "InvalidParams"
    assert "params.width" in run.error["message"]


async def test_async_tests_await_it() -> None:
    flow = flow_of({"small": {"type": "resize", "params": {"width": 3}}})
    run = await run_flow_async(flow, tasks=[Resize])
    assert run.output == {"wide": 3, "at": 1}
    with pytest.raises(RuntimeError, match="run_flow_async"):
        run_flow(flow, tasks=[Resize])


def test_a_task_that_suspends_is_resumed() -> None:
    class Polls(BaseTask):
        """Sleeps before it answers."""

        name = "polls"

        def run(self, context: TaskContext) -> Any:
            """Sleep."""
            return Suspend(seconds=60, signal="ready")

        def resume(self, context: TaskContext) -> Any:
            """Say how it was woken."""
            return {"success": True, "data": context.signal and context.signal.data}

    flow = flow_of({"polls": PLAIN})
    run = run_flow(flow, tasks=[Polls])
    assert (run.output, run.seconds) == (None, 60)
    assert run_flow(flow, tasks=[Polls], signals={"ready": 5}).output == 5


def test_a_task_that_takes_longer_than_it_may_times_out() -> None:
    @task("hangs")
    async def hangs() -> None:
        await asyncio.Event().wait()

    run = run_flow(flow_of({"hangs": {"timeout": 0.01}}), tasks=[hangs])
    assert run.error["type"] == "TaskTimeout"
    with pytest.raises(LimitExceeded):
        run_flow(flow_of({"hangs": PLAIN}), tasks=[hangs], timeout_seconds=0.05)


def test_what_cannot_be_recorded_is_an_error_as_it_would_be() -> None:
    run = run_flow(CHAIN, outcomes={"a": {"when": object()}})
    assert run.error["type"] == "InvalidTaskResult"


def test_mistakes_of_the_test_are_told() -> None:
    with pytest.raises(InvalidInput, match="no task 'mendd'; did you mean 'mend'"):
        run_flow(CHAIN, outcomes={"mendd": True})
    with pytest.raises(InvalidInput, match="list of 'a' is empty"):
        run_flow(CHAIN, outcomes={"a": []})
    with pytest.raises(InvalidInput, match="neither a BaseTask"):
        run_flow(CHAIN, tasks={"a": 7})
    with pytest.raises(InvalidDefinition, match="start_task"):
        run_flow({**CHAIN, "start_task": "c"})
    with pytest.raises(InvalidDefinition, match="is missing"):
        run_flow({**CHAIN, "input_schema": {"required": ["day"]}}, input={})
    with pytest.raises(InvalidInput, match="must be JSON"):
        run_flow({**CHAIN, "name": object()})
    with pytest.raises(InvalidInput, match="'a': int is no outcome"):
        run_flow(CHAIN, outcomes={"a": [True, 7]})
    run = run_flow(CHAIN, outcomes={"a": lambda _: 7})
    assert "int is no outcome" in run.error["message"]


def test_the_result_reads_well() -> None:
    run = run_flow(CHAIN, outcomes={"a": False, "mend": ValueError("broken")})
    assert repr(run) == (
        "<FlowRun test failed, ValueError in mend: broken; a failed > mend failed>"
    )
    assert repr(run.tasks["mend"]) == "<mend failed: ValueError: broken data=None>"
    with pytest.raises(KeyError, match="b did not run; these did: a, mend"):
        run.tasks["b"]
    assert "b" not in run.tasks
    waits = run_flow(flow_of({"w": {"type": "wait_for_signal", "params": {"signal": "ok"}}}))
    assert (waits.status, waits.waits_for) == (RunStatus.RUNNING, ["ok"])


def test_the_wrapped_form_brings_its_input() -> None:
    flow = flow_of({"a": {"type": "transform", "params": {"n": "${input.n}"}}})
    assert run_flow({"flow": flow, "input": {"n": 4}}).output == {"n": 4}
    assert run_flow({"flow": flow, "input": {"n": 4}}, input={"n": 5}).output == {"n": 5}


def test_it_needs_neither_database_nor_queue() -> None:
    code = (
        "import sys; from flow_manager.testing import run_flow; "
        "run_flow({'id': 'x', 'start_task': 'a', 'tasks': [{'name': 'a'}]}); "
        "print(sorted({'sqlalchemy', 'sqlmodel', 'redis', 'arq', 'fastapi'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
