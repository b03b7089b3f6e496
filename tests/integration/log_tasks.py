"""Task types of the tests that look at log lines."""

import asyncio

from flow_manager import BaseTask, TaskContext

GOES_ON: dict[str, asyncio.Event] = {}
"""By run, for tests in the same process: lets its task ``tells`` end."""


class Tells(BaseTask):
    """Logs, and goes on only when it is told to."""

    name = "tells"

    async def run(self, context: TaskContext) -> dict[str, object]:
        """Log a line at the start and one at the end, or as it is stopped."""
        context.log.info("first")
        goes_on = GOES_ON.setdefault(context.run_id, asyncio.Event())
        try:
            await goes_on.wait()
        except asyncio.CancelledError:
            context.log.info("stopped")
            raise
        context.log.info("second")
        return {"success": True}
