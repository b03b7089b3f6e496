"""Drives a simulated run by what a test says, from plain tests and from ``async`` ones."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from flow_manager.testing.outcomes import Answers, Outcome, Pending, check_outcomes, read_tasks
from flow_manager.testing.result import FlowRun
from shared.control_tasks import control_schemas
from shared.errors import InvalidDefinition, InvalidInput, LimitExceeded
from shared.findings import MAX_FINDINGS
from shared.flow import Flow
from shared.input_schema import check_input
from shared.simulation import Answer, SimulatedRun, Start, Steps, simulate_run
from shared.stubs import raised
from shared.submissions import split_submission
from shared.task_context import Json
from shared.validation import validate_definition

DEFAULT_TIMEOUT_SECONDS = 10.0
"""A test that takes longer has a loop without end, or a task that waits for something."""


def run_flow(
    definition: Mapping[str, Any],
    *,
    outcomes: Mapping[str, Outcome] | None = None,
    input: Json = None,
    signals: Mapping[str, Json] | None = None,
    tasks: Mapping[str, object] | Sequence[object] = (),
    secrets: Mapping[str, str] | None = None,
    at: datetime | None = None,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
) -> FlowRun:
    """Run a definition in memory.

    Args:
        definition: as it is submitted, bare or as ``{"flow": {...}, "input": {...}}``.
        outcomes: what tasks come to, by their names. Tasks that are not named, and not among
            ``tasks``, succeed without data; :attr:`FlowRun.assumed` names them. Those that steer
            a run (``transform``, ``sleep``, ``finish`` and so on) do as they always do.
        input: what the run is started with.
        signals: what comes with the signals that it waits for, by their names.
        tasks: task types that are really run: ``BaseTask`` classes and ``@task`` functions,
            by the name of the task or of its type, or as a list.
        secrets: what ``${secrets.NAME}`` stands for; ``***`` where it is not given.
        at: what the clock of the run shows at first; by default the time that it is.
        timeout_seconds: real seconds that it may take.

    Raises:
        InvalidDefinition: the definition, or the input, cannot be used.
        InvalidInput: an outcome or a task cannot be used.
        LimitExceeded: it takes too long.
        RuntimeError: a task is ``async`` and this is called inside an event loop: there, await
            :func:`run_flow_async`.
    """
    steps, answers = _prepare(definition, outcomes, input, signals, tasks, secrets, at)
    until = time.monotonic() + timeout_seconds
    runner: asyncio.Runner | None = None
    try:
        attempt = next(steps)
        while True:
            _check(until, timeout_seconds)
            answer = answers(attempt)
            if isinstance(answer, Pending):
                runner = runner or _open_runner(answer)
                answer = runner.run(_bounded(answer, attempt.timeout_seconds, until))
            attempt = steps.send(answer)
    except StopIteration as end:
        return _finished(end)
    finally:
        if runner is not None:
            runner.close()


async def run_flow_async(
    definition: Mapping[str, Any],
    *,
    outcomes: Mapping[str, Outcome] | None = None,
    input: Json = None,
    signals: Mapping[str, Json] | None = None,
    tasks: Mapping[str, object] | Sequence[object] = (),
    secrets: Mapping[str, str] | None = None,
    at: datetime | None = None,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
) -> FlowRun:
    """:func:`run_flow` inside an event loop, on which ``async`` tasks are run."""
    steps, answers = _prepare(definition, outcomes, input, signals, tasks, secrets, at)
    until = time.monotonic() + timeout_seconds
    try:
        attempt = next(steps)
        while True:
            _check(until, timeout_seconds)
            answer = answers(attempt)
            if isinstance(answer, Pending):
                answer = await _bounded(answer, attempt.timeout_seconds, until)
            attempt = steps.send(answer)
    except StopIteration as end:
        return _finished(end)


def _prepare(
    definition: Mapping[str, Any],
    outcomes: Mapping[str, Outcome] | None,
    input: Json,
    signals: Mapping[str, Json] | None,
    tasks: Mapping[str, object] | Sequence[object],
    secrets: Mapping[str, str] | None,
    at: datetime | None,
) -> tuple[Steps, Answers]:
    flow, given = _read(definition, input)
    check_outcomes(outcomes or {}, tuple(flow.tasks))
    start = Start(
        input=given,
        at=at or datetime.now(UTC),
        signals=signals or {},
        secrets=secrets or {},
        remembers_all=True,
    )
    return simulate_run(flow, start), Answers(outcomes or {}, read_tasks(tasks))


def _read(definition: Mapping[str, Any], input: Json) -> tuple[Flow, Json]:
    try:
        # As JSON, which is what it would be submitted as.
        document = orjson.loads(orjson.dumps(definition))
        given = None if input is None else orjson.loads(orjson.dumps(input))
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"the definition and the input must be JSON: {error}") from None
    submission = split_submission(document)
    validated = validate_definition(
        submission.definition, prefix=submission.prefix, params_schemas=control_schemas()
    )
    if validated.flow is None:
        raise InvalidDefinition(validated.errors)
    if given is None:
        given = submission.input
    wrong = check_input(validated.flow.definition.input_schema, given, MAX_FINDINGS)
    if wrong:
        raise InvalidDefinition(wrong)
    return validated.flow, given


def _check(until: float, timeout_seconds: float) -> None:
    if time.monotonic() > until:
        raise LimitExceeded(f"the run takes longer than {timeout_seconds:g} s")


def _open_runner(answer: Pending) -> asyncio.Runner:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.Runner()
    answer.close()
    raise RuntimeError("inside an event loop, await run_flow_async(...)")


async def _bounded(answer: Pending, timeout_seconds: float | None, until: float) -> Answer:
    """The answer, or a timeout of the task where it takes longer than the task may."""
    left = until - time.monotonic()
    try:
        async with asyncio.timeout(left if timeout_seconds is None else min(left, timeout_seconds)):
            return await answer.wait()
    except TimeoutError:
        if timeout_seconds is None or timeout_seconds > left:
            raise LimitExceeded("the run takes too long: a task waits for something") from None
        return raised("TaskTimeout", f"the attempt ran longer than {timeout_seconds:g} s")


def _finished(end: StopIteration) -> FlowRun:
    run: SimulatedRun = end.value
    return FlowRun(run)
