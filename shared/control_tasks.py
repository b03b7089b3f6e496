"""The task types that steer a run: they wait, end it, or reshape data, and touch nothing outside.

They do what they do by what they return, so a simulation runs them as they are.
"""

from collections.abc import Mapping
from functools import cache
from typing import Annotated

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from shared.durations import Duration, format_duration
from shared.errors import InvalidInput, TaskTimeout
from shared.findings import Findings
from shared.input_schema import check_input, check_input_schema
from shared.params_schema import SCHEMA_FORMAT
from shared.task_context import TaskContext
from shared.tasks import BaseTask, Finish, Suspend, TaskOutput, TaskResult


class StrictParams(BaseModel):
    """Unknown fields are errors, because they are usually typos."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Noop(BaseTask):
    """Does nothing and succeeds. Takes any params."""

    name = "noop"
    needs_results = False

    async def run(self, context: TaskContext) -> TaskOutput:
        """Succeed."""
        return None


# --- sleep ---------------------------------------------------------------------------------------


_TIME = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]+)?)?"
    r"([Zz]|[+-][0-9]{2}:?[0-9]{2})$"
)
"""The form of a time with its time zone."""


class SleepParams(StrictParams):
    """Either of both; without any, it does not wait."""

    seconds: Duration = Field(default=0.0, alias="for", title="for")
    """How long: seconds, or text like ``"30s"``, ``"5m"``, ``"2d"``."""
    until: (
        Annotated[
            AwareDatetime,
            WithJsonSchema(
                {
                    "type": "string",
                    "format": "date-time",
                    "pattern": _TIME,
                    "examples": ["2026-12-24T18:00:00Z", "2026-12-24T19:00:00+01:00"],
                }
            ),
        ]
        | None
    ) = None
    """An ISO 8601 time with its time zone. One in the past does not wait."""

    @model_validator(mode="after")
    def _one_of_both(self) -> "SleepParams":
        if {"seconds", "until"} <= self.model_fields_set:
            raise ValueError("give `for` or `until`, not both")
        return self


class Sleep(BaseTask):
    """Waits `for` a duration or `until` a time. Holds no worker meanwhile and survives
    restarts."""

    name = "sleep"
    Params = SleepParams
    needs_results = False

    async def run(self, context: TaskContext) -> TaskOutput:
        """Ask to be woken, unless the time has come already."""
        params: SleepParams = context.params
        if params.until is not None and params.until > context.clock():
            return Suspend(until=params.until)
        return Suspend(seconds=params.seconds) if params.seconds else TaskResult(success=True)

    async def resume(self, context: TaskContext) -> TaskOutput:
        """The time has come."""
        return TaskResult(success=True)


# --- wait_for_signal ------------------------------------------------------------------------------


class WaitParams(StrictParams):
    """What is waited for."""

    signal: str = Field(min_length=1, max_length=200)
    """The name under which it is sent."""
    timeout: Duration | None = None
    """How long; passing it is an error. For ever where it is not given."""
    data_schema: dict[str, JsonValue] | bool | None = Field(
        default=None,
        alias="schema",
        title="schema",
        json_schema_extra={"format": SCHEMA_FORMAT},
    )
    """JSON Schema of what must come with it. Other JSON is refused when it is sent."""

    @field_validator("data_schema")
    @classmethod
    def _is_a_schema(
        cls, data_schema: dict[str, JsonValue] | bool | None
    ) -> dict[str, JsonValue] | bool | None:
        # Again, as expressions may have made it another one.
        findings = Findings(1)
        check_input_schema(data_schema, "", findings)
        for error in findings.errors:
            raise ValueError(f"{error.pointer}: {error.message}")
        return data_schema


class WaitForSignal(BaseTask):
    """Waits until a signal is sent to the run, such as a person's approval. What comes with it
    is the data. Holds no worker meanwhile and survives restarts."""

    name = "wait_for_signal"
    Params = WaitParams
    needs_results = False

    async def run(self, context: TaskContext) -> TaskOutput:
        """Wait."""
        params: WaitParams = context.params
        return Suspend(signal=params.signal, seconds=params.timeout)

    async def resume(self, context: TaskContext) -> TaskOutput:
        """It has come, or its time is over."""
        params: WaitParams = context.params
        if context.signal is None:
            raise TaskTimeout(
                f"the signal {params.signal!r} did not come within "
                f"{format_duration(params.timeout or 0)}"
            )
        wrong = check_input(params.data_schema, context.signal.data, 3)
        if wrong:
            told = "; ".join(f"{one.pointer.removeprefix('/input')} {one.message}" for one in wrong)
            raise InvalidInput(f"what came with the signal {params.signal!r} does not fit: {told}")
        return TaskResult(success=True, data=context.signal.data)


# --- transform, finish ---------------------------------------------------------------------------


class Transform(BaseTask):
    """Gives its params back as data: with expressions in them, data is given another form
    without code."""

    name = "transform"
    needs_results = False

    async def run(self, context: TaskContext) -> TaskOutput:
        """Succeed with the params."""
        return TaskResult(success=True, data=context.params)


class FinishRun(BaseTask):
    """Ends the whole run as completed, its params as output. What still runs is cancelled."""

    name = "finish"
    needs_results = False

    async def run(self, context: TaskContext) -> TaskOutput:
        """End the run."""
        return Finish(data=context.params)


# --- cancel --------------------------------------------------------------------------------------


class CancelParams(StrictParams):
    """What is cancelled."""

    tasks: list[str] = Field(min_length=1, max_length=1_000)
    """Names of tasks of this flow."""


class Cancel(BaseTask):
    """Cancels the branches of this run that stand at some tasks now. Joins do not wait for
    them any more."""

    name = "cancel"
    Params = CancelParams
    needs_results = False

    async def run(self, context: TaskContext) -> TaskOutput:
        """Cancel them."""
        params: CancelParams = context.params
        return TaskResult(success=True, cancels=tuple(params.tasks))


# --- fail ----------------------------------------------------------------------------------------


class FailParams(StrictParams):
    """What the error shall say."""

    message: str = Field(default="this task always fails", max_length=10_000)


class TaskFailed(Exception):
    """Raised by the task type ``fail``, on request."""


class Fail(BaseTask):
    """Raises an error with the given `message`, which fails the run unless it is routed."""

    name = "fail"
    Params = FailParams
    needs_results = False

    async def run(self, context: TaskContext) -> TaskOutput:
        """Raise."""
        raise TaskFailed(context.params.message)


CONTROL_TASKS: dict[str, type[BaseTask]] = {
    task.name: task for task in (Noop, Sleep, WaitForSignal, Transform, FinishRun, Cancel, Fail)
}
"""All of them, by their names."""


@cache
def control_schemas() -> Mapping[str, JsonValue]:
    """The JSON Schemas of those that judge their params, by their names."""
    judging = {name: task.Params for name, task in CONTROL_TASKS.items() if task.Params is not None}
    return {name: params.model_json_schema() for name, params in judging.items()}
