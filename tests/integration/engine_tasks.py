"""Task types that the engine's tests run."""

import asyncio
from collections import Counter
from typing import ClassVar, Literal

from pydantic import BaseModel

from flow_manager import BaseTask, Suspend, TaskContext

CANCELLED: list[str] = []
"""The tasks that were stopped, for tests in the same process."""


class Script(BaseModel):
    """What the task comes to."""

    succeeds: bool = True


class Scripted(BaseTask):
    """Comes to what its params say, and tells what it saw."""

    name = "scripted"
    Params = Script

    async def run(self, context: TaskContext) -> dict[str, object]:
        """Give the result."""
        seen = {name: result.success for name, result in sorted(context.tasks.items())}
        data = {"seen": seen, "previous": context.previous, "iteration": context.iteration}
        return {"success": context.params.succeeds, "data": data}


class Plain(BaseTask):
    """Gives its own name as data."""

    name = "plain"

    async def run(self, context: TaskContext) -> dict[str, object]:
        """Give the result."""
        return {"success": True, "data": {"from": context.task_name}}


class Third(BaseTask):
    """Fails until its third visit."""

    name = "third"

    async def run(self, context: TaskContext) -> dict[str, object]:
        """Give the result."""
        return {"success": context.iteration >= 3, "data": {}}


class Raises(BaseTask):
    """Raises."""

    name = "raises"

    async def run(self, context: TaskContext) -> dict[str, object]:
        """Raise, once its siblings had time to begin."""
        await asyncio.sleep(0.2)
        raise RuntimeError("boom")


class Hangs(BaseTask):
    """Runs until it is stopped."""

    name = "hangs"

    async def run(self, context: TaskContext) -> dict[str, object]:
        """Wait for ever."""
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            CANCELLED.append(context.task_name)
            raise
        return {"success": True}


class TakesLong(BaseTask):
    """Takes longer than a worker of the tests has grace for."""

    name = "takes_long"

    async def run(self, context: TaskContext) -> dict[str, object]:
        """Take the time."""
        await asyncio.sleep(1.0)
        return {"success": True}


class Naps(BaseTask):
    """Asks to be woken a little later."""

    name = "naps"

    async def run(self, context: TaskContext) -> Suspend:
        """Go to sleep."""
        return Suspend(seconds=0.1)

    async def resume(self, context: TaskContext) -> dict[str, object]:
        """Wake up."""
        return {"success": True, "data": {"woken": True}}


class GoodAt(BaseModel):
    """When a flaky task is good."""

    attempt: int = 3
    kind: Literal["error", "failure", "timeout"] = "error"


class Flaky(BaseTask):
    """Goes wrong until an attempt, in the way its params say."""

    name = "flaky"
    Params = GoodAt

    async def run(self, context: TaskContext) -> dict[str, object]:
        """Give the result, or go wrong."""
        if context.attempt >= context.params.attempt:
            return {"success": True, "data": {"attempt": context.attempt}}
        if context.params.kind == "timeout":
            await asyncio.Event().wait()
        if context.params.kind == "error":
            raise ConnectionError("not yet")
        return {"success": False, "data": {"attempt": context.attempt}}


class Echo(BaseTask):
    """Gives its params back."""

    name = "echo"
    needs_results = False

    async def run(self, context: TaskContext) -> dict[str, object]:
        """Give the result."""
        return {"success": True, "data": context.params}


class Picky(BaseTask):
    """Comes to what its item says."""

    name = "picky"
    needs_results = False

    async def run(self, context: TaskContext) -> dict[str, object]:
        """Give the item back, or do what it says."""
        assert context.params == {"item": context.item, "index": context.index}
        match context.item:
            case "hang":
                await asyncio.Event().wait()
            case "boom":
                await asyncio.sleep(0.1)
                raise RuntimeError("boom")
        return {"success": context.item != "no", "data": context.params}


class Counting(BaseTask):
    """Tells how many of its kind ran at the same time."""

    name = "counting"
    needs_results = False
    running = 0

    async def run(self, context: TaskContext) -> dict[str, object]:
        """Run for a moment."""
        Counting.running += 1
        await asyncio.sleep(0.02)
        most = Counting.running
        Counting.running -= 1
        return {"success": True, "data": {"most": most}}


class Counted(BaseTask):
    """Succeeds where nothing else is told, gives its params, and is counted."""

    name = "counted"
    needs_results = False
    made: ClassVar[dict[str, Counter[str]]] = {}
    """Run -> task, with its item where it has one -> how often it was executed."""
    does: ClassVar[dict[str, str]] = {}
    """Task, with its item where it has one -> ``raise``, ``fail``, ``hang``."""

    async def run(self, context: TaskContext) -> dict[str, object]:
        """Count, and do what is told."""
        params = context.params or {}
        name = context.task_name + ("" if context.index is None else f"[{context.index}]")
        self.made.setdefault(context.run_id, Counter())[name] += 1
        match self.does.get(name):
            case "raise":
                raise RuntimeError("boom")
            case "fail":
                return {"success": False, "data": params}
            case "hang":
                await asyncio.Event().wait()
        return {"success": True, "data": params}


class Tells(BaseTask):
    """Cannot keep a secret."""

    name = "tells"
    needs_results = False

    async def run(self, context: TaskContext) -> dict[str, object]:
        """Tell it in every way there is."""
        token = context.params["token"]
        context.log.warning("logging in with %s", token)
        if context.params["raises"]:
            raise PermissionError(f"cannot log in with {token}")
        return {"success": True, "data": {"said": token, "length": len(token)}}
