"""Task types for the tests of limits: they tell when they ran."""

import asyncio
import time
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel

from flow_manager import BaseTask, Suspend, TaskContext


@dataclass(frozen=True)
class Stay:
    """One stay of a task between its beginning and its end."""

    run_id: str
    name: str
    began: float
    ended: float


STAYS: list[Stay] = []
"""What ran in this process, in the order of ending."""
INSIDE: list[str] = []
"""The runs whose tasks are in now, in the order of their beginning."""
LEAVE = asyncio.Event()
"""Who stays until told waits for it. Each test sets its own."""
LEAVE_TOO = asyncio.Event()
"""Another one, for who waits for that."""


class Length(BaseModel):
    """How long a task stays."""

    seconds: float = 0.02
    fails_until: int = 0
    """Attempts before this one raise."""


class Stays(BaseTask):
    """Stays for a moment."""

    name = "stays"
    Params = Length
    needs_results = False

    async def run(self, context: TaskContext) -> dict[str, object]:
        """Stay, and tell when."""
        began = time.monotonic()
        INSIDE.append(context.run_id)
        try:
            await asyncio.sleep(context.params.seconds)
        finally:
            INSIDE.remove(context.run_id)
            stay = Stay(context.run_id, context.task_name, began, time.monotonic())
            STAYS.append(stay)
        if context.attempt < context.params.fails_until:
            raise RuntimeError("not yet")
        return {"success": True, "data": {"attempt": context.attempt}}


class Told(BaseModel):
    """Who tells a task to leave."""

    leaves: Literal["LEAVE", "LEAVE_TOO"] = "LEAVE"
    fails_until: int = 0
    """Attempts before this one raise."""


class StaysOn(BaseTask):
    """Stays until it is told to leave."""

    name = "stays_on"
    Params = Told
    needs_results = False

    async def run(self, context: TaskContext) -> dict[str, object]:
        """Stay, and tell when."""
        began = time.monotonic()
        INSIDE.append(context.run_id)
        try:
            await (LEAVE if context.params.leaves == "LEAVE" else LEAVE_TOO).wait()
        finally:
            INSIDE.remove(context.run_id)
        STAYS.append(Stay(context.run_id, context.task_name, began, time.monotonic()))
        if context.attempt < context.params.fails_until:
            raise RuntimeError("not yet")
        return {"success": True}


class StaysAsleep(BaseTask):
    """Sleeps, and counts as staying all the while."""

    name = "stays_asleep"
    needs_results = False
    began: dict[str, float] = {}  # noqa: RUF012 - the tests' own

    async def run(self, context: TaskContext) -> Suspend:
        """Go to sleep."""
        assert context.run_id not in StaysAsleep.began
        StaysAsleep.began[context.run_id] = time.monotonic()
        return Suspend(seconds=0.1)

    async def resume(self, context: TaskContext) -> dict[str, object]:
        """Wake up."""
        began = StaysAsleep.began.pop(context.run_id)
        STAYS.append(Stay(context.run_id, context.task_name, began, time.monotonic()))
        return {"success": True}


def most_at_once(stays: list[Stay]) -> int:
    """How many stays there were at one moment."""
    moves = sorted([(s.began, 1) for s in stays] + [(s.ended, -1) for s in stays])
    most = now = 0
    for _, change in moves:
        now += change
        most = max(most, now)
    return most
