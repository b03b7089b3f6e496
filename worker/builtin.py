"""The task types that ship: three for trying things out and three of the example flow.

They are found like anybody else's, by the entry points in ``pyproject.toml``.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, model_validator

from shared.durations import Duration, format_duration
from shared.errors import InvalidInput, TaskTimeout
from shared.input_schema import check_input
from shared.tasks import (
    BaseTask,
    Finish,
    Json,
    Suspend,
    TaskContext,
    TaskOutput,
    TaskResult,
)


class _Params(BaseModel):
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


class SleepParams(_Params):
    """Either of both; without any, it does not wait."""

    seconds: Duration = Field(default=0.0, alias="for", title="for")
    """How long: seconds, or text like ``"30s"``, ``"5m"``, ``"2d"``."""
    until: AwareDatetime | None = None
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
        now = datetime.now(UTC)
        until = params.until or now + timedelta(seconds=params.seconds)
        return Suspend(until=until) if until > now else TaskResult(success=True)

    async def resume(self, context: TaskContext) -> TaskOutput:
        """The time has come."""
        return TaskResult(success=True)


# --- wait_for_signal ------------------------------------------------------------------------------


class WaitParams(_Params):
    """What is waited for."""

    signal: str = Field(min_length=1, max_length=200)
    """The name under which it is sent."""
    timeout: Duration | None = None
    """How long; passing it is an error. For ever where it is not given."""
    data_schema: dict[str, JsonValue] | bool | None = Field(
        default=None, alias="schema", title="schema"
    )
    """JSON Schema of what must come with it. Other JSON is refused when it is sent."""


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


class CancelParams(_Params):
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


class FailParams(_Params):
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


# --- The example flow: fetch, process, store -----------------------------------------------------


class FetchParams(_Params):
    """What to fetch."""

    rows: int = Field(default=3, ge=0, le=10_000)
    """How many rows to make up, where the run's input brings no `values`."""
    available: bool = True
    """False: the source has no data, so the task comes to a failure."""


class FetchData(BaseTask):
    """Example: fetches rows of numbers, from the run's input (`values`) or made up."""

    name = "fetch_data"
    Params = FetchParams
    needs_results = False

    async def run(self, context: TaskContext) -> TaskOutput:
        """Give the rows, or a failure where there are none to be had."""
        if not context.params.available:
            context.log.warning("the source has no data")
            return TaskResult(success=False, data={"rows": 0, "values": []})
        values = list(_values(context.input)) or list(range(1, context.params.rows + 1))
        context.log.info("fetched %d rows", len(values))
        return TaskResult(success=True, data={"rows": len(values), "values": values})


class ProcessParams(_Params):
    """How to process."""

    factor: float = 2.0


class ProcessData(BaseTask):
    """Example: multiplies the fetched values by `factor`. Fails where there are none."""

    name = "process_data"
    Params = ProcessParams

    async def run(self, context: TaskContext) -> TaskOutput:
        """Process what the task before, or all tasks before a join, gave."""
        values = [value * context.params.factor for value in _values(context.previous)]
        if not values:
            context.log.warning("there is nothing to process")
            return TaskResult(success=False, data={"rows": 0, "values": [], "total": 0})
        context.log.info("processed %d rows", len(values))
        data = {"rows": len(values), "values": values, "total": sum(values)}
        return TaskResult(success=True, data=data)


class StoreData(BaseTask):
    """Example: pretends to store the values; `data` says how many and their sum."""

    name = "store_data"

    async def run(self, context: TaskContext) -> TaskOutput:
        """Say what would be stored. The key makes a real store take it only once."""
        values = list(_values(context.previous))
        context.log.info("stored %d rows", len(values))
        return TaskResult(success=True, data={"stored": len(values), "total": sum(values)})


def _values(source: Json) -> Iterator[float]:
    """The numbers under ``values``; behind a join those of all tasks, in their order."""
    if not isinstance(source, dict):
        return
    values = source.get("values")
    if isinstance(values, list):
        yield from (v for v in values if isinstance(v, int | float) and not isinstance(v, bool))
        return
    for part in source.values():
        if isinstance(part, dict) and isinstance(part.get("values"), list):
            yield from _values(part)
