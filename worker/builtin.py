"""The task types that ship, as the entry points in ``pyproject.toml`` name them.

Those that steer a run are ``shared.control_tasks``; here are the three of the example flow.
"""

from collections.abc import Iterator

from pydantic import Field

from shared.control_tasks import (
    Cancel,
    Fail,
    FinishRun,
    Noop,
    Sleep,
    StrictParams,
    Transform,
    WaitForSignal,
)
from shared.task_context import Json, TaskContext
from shared.tasks import BaseTask, TaskOutput, TaskResult

__all__ = [
    "Cancel",
    "Fail",
    "FetchData",
    "FinishRun",
    "Noop",
    "ProcessData",
    "Sleep",
    "StoreData",
    "Transform",
    "WaitForSignal",
]


class FetchParams(StrictParams):
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


class ProcessParams(StrictParams):
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
