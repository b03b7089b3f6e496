"""Attempts at tasks inside a simulation: what a task is handed, and what it came to.

Task types that steer a run (``shared.control_tasks``) are run as they are. Of every other task
somebody says what it comes to; where nobody does, it is taken for a plain success, and the
result says so.
"""

import time
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from shared.control_tasks import CONTROL_TASKS
from shared.errors import LimitExceeded, TaskTimeout
from shared.flow import Flow
from shared.simulation import RUN_ID, Answer, Attempt, SimulatedRun, Start, simulate_run
from shared.status import Reason
from shared.stubs import FAILURE, SUCCESS, Script, Scripts, raised
from shared.task_context import EarlierResult, Signal, TaskContext
from shared.task_params import read_params
from shared.task_results import Returned, read_result
from shared.tasks import BaseTask, RunFlow, Suspend

MAX_RESULT_BYTES = 1_000_000
"""Of the data of one attempt: what the service allows where it is not told otherwise."""


def rehearse(
    flow: Flow,
    start: Start,
    scripts: Mapping[str, Script],
    *,
    timeout_seconds: float,
    max_result_bytes: int = MAX_RESULT_BYTES,
) -> SimulatedRun:
    """Simulate a run whose tasks come to what ``scripts`` say.

    Raises:
        LimitExceeded: it goes further than its bounds, or takes longer than it may.
    """
    until = time.monotonic() + timeout_seconds

    def check() -> None:
        if time.monotonic() > until:
            raise LimitExceeded(f"the simulation takes longer than {timeout_seconds:g} s")

    told = Scripts(scripts)
    steps = simulate_run(flow, replace(start, check=check))
    try:
        attempt = next(steps)
        while True:
            answer = told.answer(attempt) or answer_unasked(attempt, max_result_bytes)
            attempt = steps.send(answer)
    except StopIteration as end:
        run: SimulatedRun = end.value
        return run


def answer_unasked(attempt: Attempt, max_bytes: int = MAX_RESULT_BYTES) -> Answer:
    """What an attempt comes to of whose task nothing was said."""
    task = CONTROL_TASKS.get(attempt.task_type)
    if task is None:
        return replace(SUCCESS, is_assumed=True)
    try:
        returned = _at_once(task, context_of(task, attempt), attempt)
        return read_answer(returned, attempt, max_bytes)
    except Exception as error:  # noqa: BLE001  # the border of one attempt
        return answer_raised(error)


def _at_once(task: type[BaseTask], context: TaskContext, attempt: Attempt) -> object:
    """Run a task that never waits for anything."""
    instance = task()
    running: Any = instance.resume(context) if attempt.is_resumed else instance.run(context)
    assert isinstance(running, Coroutine)
    try:
        running.send(None)
    except StopIteration as end:
        return end.value
    running.close()
    raise AssertionError(f"{task.name} waits for something")


def context_of(task: type[BaseTask], attempt: Attempt) -> TaskContext:
    """What a task is handed for an attempt.

    Raises:
        InvalidParams: the params do not fit the task's model.
    """
    signal = attempt.signal
    key = f"{RUN_ID}:{attempt.task}:{attempt.iteration}"
    return TaskContext(
        task_name=attempt.task,
        params=read_params(task, attempt.params),
        input=attempt.input,
        tasks={
            name: EarlierResult(result.success, result.data, result.error, result.iteration)
            for name, result in attempt.tasks.items()
        },
        previous=attempt.previous,
        item=attempt.item,
        index=attempt.index,
        run_id=RUN_ID,
        branch=attempt.branch,
        attempt=attempt.attempt,
        iteration=attempt.iteration,
        idempotency_key=key if attempt.index is None else f"{key}:{attempt.index}",
        signal=None if signal is None else Signal(signal.name, signal.data),
        clock=lambda: attempt.at,
    )


def read_answer(returned: object, attempt: Attempt, max_bytes: int = MAX_RESULT_BYTES) -> Answer:
    """What an attempt came to, by what its task returned.

    Raises:
        InvalidTaskResult, LimitExceeded: it cannot be recorded.
    """
    if isinstance(returned, Suspend):
        wake_at = returned.until
        if returned.seconds is not None:
            wake_at = attempt.at + timedelta(seconds=returned.seconds)
        return Answer("suspended", wake_at=wake_at, signal=returned.signal)
    if isinstance(returned, RunFlow):
        message = f"flow {returned.flow_id!r} is not there in a simulation: say what this comes to"
        return raised("SubFlowRefused", message)
    result = read_result(returned, max_bytes)
    assert isinstance(result, Returned)
    if result.finishes:
        return Answer("finish", result.data)
    base = SUCCESS if result.success else FAILURE
    return replace(base, content=result.data, cancels=result.cancels)


def answer_raised(error: BaseException, traceback: str | None = None) -> Answer:
    """An attempt that raised."""
    answer = raised(type(error).__name__, str(error), traceback)
    return replace(answer, reason=Reason.TIMED_OUT) if isinstance(error, TaskTimeout) else answer
