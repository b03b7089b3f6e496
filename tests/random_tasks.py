"""The task type of random flows: it comes to what its params say, however often it is tried."""

import asyncio
from typing import Literal
from zlib import crc32

import orjson
from pydantic import BaseModel, JsonValue

from flow_manager import BaseTask, TaskContext


class ActParams(BaseModel):
    """What the task comes to."""

    outcome: Literal["success", "failure", "error"] = "success"
    good_from_iteration: int = 1
    """Visits before this one are failures."""
    good_from_attempt: int = 1
    """Attempts before this one raise."""
    pause_seconds: float = 0
    value: JsonValue = None


class Act(BaseTask):
    """Its data tells what went before, so that a result that was lost or changed shows in all
    that follow. Nothing in it tells attempts, workers or times."""

    name = "act"
    Params = ActParams

    async def run(self, context: TaskContext) -> dict[str, object]:
        """Wait a little, and give the result."""
        params: ActParams = context.params
        if params.pause_seconds:
            await asyncio.sleep(params.pause_seconds)
        if params.outcome == "error" or context.attempt < params.good_from_attempt:
            raise ConnectionError(f"{context.task_name} breaks off")
        before = crc32(orjson.dumps(context.previous, option=orjson.OPT_SORT_KEYS))
        data = {"task": context.task_name, "value": params.value, "before": before}
        is_good = params.outcome == "success" and context.iteration >= params.good_from_iteration
        return {"success": is_good, "data": {**data, "iteration": context.iteration}}
