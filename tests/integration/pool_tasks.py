"""Task types for tests of what goes first."""

import asyncio

from flow_manager import BaseTask, TaskContext

RAN: list[str] = []
"""The tasks that ran, in order; for tests in the same process."""
GATE = asyncio.Event()
"""What ``gated`` waits for."""


class Noted(BaseTask):
    """Notes that it ran."""

    name = "noted"

    async def run(self, context: TaskContext) -> dict[str, object]:
        """Note it."""
        RAN.append(context.task_name)
        return {"success": True}


class Gated(BaseTask):
    """Holds its slot until it is let go."""

    name = "gated"

    async def run(self, context: TaskContext) -> dict[str, object]:
        """Wait."""
        await GATE.wait()
        return {"success": True}
