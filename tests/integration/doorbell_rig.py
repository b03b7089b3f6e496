"""A doorbell in the process of a test, and a runner that notes what it is given."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from arq.worker import Function, Worker

from shared.queue import Ringer, redis_settings
from tests.servers import Valkey
from worker.doorbell import DoorbellWorker
from worker.rings import ring_function

QUEUE = "test-queue"

closes_the_way_arq_does = pytest.mark.filterwarnings("ignore:Call to deprecated close")


@dataclass
class Runner:
    """Stands in for the worker's runner: notes what it is given, has as much room as told."""

    room: int | None = None
    handed: list[str] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)

    async def hand_over(self, branch_ids: list[str]) -> None:
        if self.room is not None:
            self.room -= len(branch_ids)
        self.calls.append(len(branch_ids))
        self.handed += branch_ids

    def context(self, **more: object) -> dict[str, object]:
        context: dict[str, object] = {"hand_over": self.hand_over, **more}
        if self.room is not None:
            context["room"] = lambda: self.room
        return context


@asynccontextmanager
async def running(worker: Worker) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(worker.async_run())
        try:
            yield
        finally:
            if isinstance(worker, DoorbellWorker):
                await worker.stop_listening()
            else:
                worker.handle_sig(signal.SIGUSR1)
            await asyncio.gather(task, return_exceptions=True)
            await worker.close()


def doorbell(url: str, runner: Runner, *functions: Function, **options: Any) -> DoorbellWorker:
    context = runner.context(**options.pop("context", {}))
    return DoorbellWorker(
        [ring_function(), *functions],
        queue_name=QUEUE,
        redis_settings=redis_settings(url),
        ctx=context,
        handle_signals=False,
        **options,
    )


@asynccontextmanager
async def ringing(url: str) -> AsyncIterator[Ringer]:
    ringer = Ringer(url, QUEUE, 0.3)
    await ringer.start()
    try:
        yield ringer
    finally:
        await ringer.close()


def queue_length(valkey: Valkey) -> int:
    with valkey.client() as client:
        return int(client.zcard(QUEUE))
