"""Runs one attempt of one task and says what it came to.

The pipeline: make the context (which checks the params), run the task on the loop or on a
thread under its timeout, read what it returned, turn it into the bytes that are stored. A
task may do anything: whatever it raises ends up in the attempt's result and never in the
worker. Nothing is recorded here; that is the caller's, under its claim.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Literal

from shared.errors import TaskTimeout
from shared.registry import Registry
from shared.settings import Settings
from shared.status import Reason
from shared.store.logs import LoggedLine
from shared.task_context import EarlierResult, FlowRunResult, Json, Signal, TaskContext
from shared.task_params import read_params
from shared.task_results import SubFlowRequest, Suspension, read_result
from shared.tasks import BaseTask
from worker.capture import CURRENT, Capture, CaptureHandler
from worker.driving import Cancelled, Drive
from worker.failures import encode_error
from worker.threads import Threads

STOP_SECONDS = 5.0
"""What a task that was cancelled, or passed its timeout, is given to clean up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """All that one attempt needs."""

    task_type: str
    name: str
    params: Json = None
    """The task's params with their expressions resolved."""
    input: Json = None
    unread: Mapping[str, Callable[[], Json]] = field(default_factory=dict)
    """What stands for ``input`` and ``previous`` until somebody looks at it."""
    tasks: Mapping[str, EarlierResult] = field(default_factory=dict)
    previous: Json = None
    item: Json = None
    index: int | None = None
    run_id: str = ""
    task_run_id: str = ""
    """Whose log lines they are."""
    flow_id: str = ""
    branch: str = "main"
    attempt: int = 1
    iteration: int = 1
    idempotency_key: str = ""
    timeout_seconds: float | None = None
    """The settings' default where it is None."""
    redact: Callable[[str], str] | None = None
    """Takes out of a logged line what must not be kept of it."""
    signal: Signal | None = None
    """That ended the wait, where one did."""
    flow_run: FlowRunResult | None = None
    """That was waited for, where one was."""
    resumed: bool = False
    """Whether it was suspended and is woken: ``resume`` is called instead of ``run``."""


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """What one attempt came to."""

    kind: Literal["success", "failure", "error", "suspended", "finish", "cancelled"]
    data: bytes | None = None
    """JSON, of a success or a failure."""
    error: bytes | None = None
    """JSON ``{"type", "message", "traceback"}``, of an error."""
    reason: str | None = None
    """Why it did not simply succeed."""
    logs: list[LoggedLine] = field(default_factory=list)
    """The lines that nobody took while the attempt ran."""
    wake_at: datetime | None = None
    """In UTC, where it was suspended until a time."""
    cancels: tuple[str, ...] = ()
    """Tasks whose branches end with it."""
    signal: str | None = None
    """Where it was suspended until a signal comes."""
    starts: SubFlowRequest | None = None
    """Where it was suspended until a run is over that shall begin."""


class Executor:
    """Runs attempts, as many at a time as are asked for; synchronous ones on a bounded
    number of threads. Captures logs from when it is made until it is closed."""

    def __init__(self, registry: Registry, settings: Settings) -> None:
        self._registry = registry
        self._settings = settings
        self._threads = Threads(settings.worker_threads)
        self.captured = CaptureHandler(settings)
        """Holds what running attempts have logged so far; whoever takes it must store it."""
        self.captured.install()
        self.stop_seconds = STOP_SECONDS
        """May be lowered when the process is about to end."""

    async def execute(self, execution: Execution) -> AttemptResult:
        """Run one attempt to its end.

        Raises:
            asyncio.CancelledError: the caller was cancelled. The task has had it, too, and
                its time to clean up. The exception's only argument is an
                :class:`AttemptResult` of kind ``cancelled`` with the lines that were not taken.
            NotFound: the task type is not registered here. The caller asks before.
        """
        task_class = self._registry.get(execution.task_type)
        capture = self.captured.start(execution.run_id, execution.task_run_id, execution.name)
        capture.redact = execution.redact
        token = CURRENT.set(capture)
        try:
            return await self._attempt(task_class, execution, capture)
        except Cancelled:
            cancelled = AttemptResult("cancelled", logs=capture.close())
        finally:
            CURRENT.reset(token)
        raise asyncio.CancelledError(cancelled)

    def close(self) -> None:
        """Stop to capture logs and let the threads end. Does not wait for running tasks."""
        self.captured.remove()
        self._threads.close()

    def _stop_time(self) -> float:
        return self.stop_seconds

    async def _attempt(
        self, task_class: type[BaseTask], execution: Execution, capture: Capture
    ) -> AttemptResult:
        limits = self._settings
        try:
            context = _make_context(task_class, execution)
            returned = await self._run(task_class, execution, context)
            result = read_result(returned, limits.max_result_bytes)
        except Cancelled:
            raise
        except BaseException as error:  # noqa: BLE001  # the border of one attempt
            reason = Reason.TIMED_OUT if isinstance(error, TaskTimeout) else Reason.RAISED
            encoded = encode_error(error, limits.max_error_characters)
            return AttemptResult("error", error=encoded, reason=reason, logs=capture.close())
        logs = capture.close()
        if isinstance(result, Suspension):
            return AttemptResult(
                "suspended", logs=logs, wake_at=result.wake_at, signal=result.signal
            )
        if isinstance(result, SubFlowRequest):
            return AttemptResult("suspended", logs=logs, starts=result)
        if result.finishes:
            ends_run = None if execution.index is not None else Reason.RUN_FINISHED
            return AttemptResult("finish", data=result.data, reason=ends_run, logs=logs)
        if result.success:
            more = Reason.CANCELLED_OTHERS if result.cancels else None
            return AttemptResult(
                "success", data=result.data, reason=more, logs=logs, cancels=result.cancels
            )
        return AttemptResult("failure", data=result.data, reason=Reason.RETURNED_FAILURE, logs=logs)

    async def _run(
        self, task_class: type[BaseTask], execution: Execution, context: TaskContext
    ) -> Any:
        task = task_class()
        timeout = execution.timeout_seconds or self._settings.task_timeout_seconds
        method = task.resume if execution.resumed else task.run
        is_async = task.resume_is_async if execution.resumed else task.run_is_async
        if is_async:
            return await Drive(method(context), timeout, self._stop_time)  # type: ignore[arg-type]  # a coroutine, read off the method
        await Drive(self._threads.acquire(), None, self._stop_time)
        try:
            # The thread is given up a little before its call is, so that it is what is told.
            grace_seconds = self.stop_seconds / 2
            call = self._threads.run(partial(method, context), context.stop, grace_seconds)
            return await Drive(call, timeout, self._stop_time)
        finally:
            self._threads.release()


def _make_context(task_class: type[BaseTask], execution: Execution) -> TaskContext:
    context = TaskContext(
        task_name=execution.name,
        params=read_params(task_class, execution.params),
        input=execution.input,
        tasks=execution.tasks,
        previous=execution.previous,
        item=execution.item,
        index=execution.index,
        run_id=execution.run_id,
        flow_id=execution.flow_id,
        branch=execution.branch,
        attempt=execution.attempt,
        iteration=execution.iteration,
        idempotency_key=execution.idempotency_key,
        signal=execution.signal,
        flow_run=execution.flow_run,
    )
    for name, read in execution.unread.items():
        context.read_when_asked(name, read)
    return context
