"""Task types for the faults: they write down that they ran, wait, or kill their worker.

Loaded by the workers as a file (``FLOW_TASK_MODULES``). The journal is beside the database and
knows nothing of it, so that executions can be counted whatever the engine believes.
"""

import asyncio
import json
import os
import signal
import time

from shared.task_context import Json, TaskContext
from shared.tasks import BaseTask, TaskOutput

JOURNAL = os.environ["FAULTS_JOURNAL"]
SIDE = os.environ.get("FAULTS_SIDE", "")
"""Workers of different sides run different task types: so a fork's heads part for sure."""


def note(event: str, context: TaskContext) -> None:
    """Append a line to the journal that outlives a kill -9 in the next instant."""
    line = {
        "event": event,
        "run": context.run_id,
        "task": context.task_name,
        "iteration": context.iteration,
        "index": context.index,
        "attempt": context.attempt,
        "pid": os.getpid(),
        "at": time.time(),
    }
    descriptor = os.open(JOURNAL, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, json.dumps(line).encode() + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Mark(BaseTask):
    """Notes its start and its end, with ``seconds`` between them."""

    name = "mark"
    needs_results = False

    async def run(self, context: TaskContext) -> TaskOutput:
        """Note, wait, note."""
        note("start", context)
        params: Json = context.params or {}
        if params.get("seconds"):
            await asyncio.sleep(params["seconds"])
        note("end", context)
        return {"success": True, "data": {"attempt": context.attempt}}


class KillWorker(BaseTask):
    """Ends its worker as the kernel's out-of-memory killer would."""

    name = "kill_worker"
    needs_results = False

    async def run(self, context: TaskContext) -> TaskOutput:
        """Never return."""
        note("start", context)
        os.kill(os.getpid(), signal.SIGKILL)
        return None


class BlockLoop(BaseTask):
    """Never gives the event loop back, as a synchronous wait in an async function does."""

    name = "block_loop"
    needs_results = False

    async def run(self, context: TaskContext) -> TaskOutput:
        """Block."""
        note("start", context)
        time.sleep(600)  # noqa: ASYNC251  # that is the fault
        return None


class MeetAt(BaseTask):
    """Ends at the wall-clock time ``at`` of the run's input: at once with all others."""

    name = f"meet_{SIDE}" if SIDE else "meet"
    needs_results = False

    async def run(self, context: TaskContext) -> TaskOutput:
        """Wait for the time."""
        note("start", context)
        await asyncio.sleep(context.input["at"] - time.time())
        return None
