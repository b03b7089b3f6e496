"""A doorbell in the process of a test, and a runner that notes what it is given.

Branches are named by words, and have ids all the same: no worker answers a ring without them.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import pytest
from arq.worker import Function, Worker

from shared.queue import Id, Ringer, redis_settings
from tests.servers import Valkey
from worker.doorbell import DoorbellWorker
from worker.rings import ring_function

QUEUE = "test-queue"

closes_the_way_arq_does = pytest.mark.filterwarnings("ignore:Call to deprecated close")


_NO_QUEUES: Mapping[Any, str] = MappingProxyType({})
_WORDS: dict[str, str] = {}


def id_of(word: str) -> str:
    """The id of the branch that a test calls by this word."""
    branch_id = str(uuid5(NAMESPACE_OID, word))
    _WORDS[branch_id] = word
    return branch_id


def words_of(branch_ids: Iterable[str]) -> list[str]:
    """What a test calls these branches."""
    return [_WORDS[branch_id] for branch_id in branch_ids]


class WordRinger(Ringer):
    """Rings for branches that are named by words."""

    def ring(
        self,
        branch_ids: Sequence[Id],
        chunks: int = 1,
        queues: Mapping[Id, str] = _NO_QUEUES,
    ) -> None:
        named = {id_of(word): queue for word, queue in queues.items()}
        super().ring([id_of(word) for word in branch_ids], chunks, named)


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
        self.handed += words_of(branch_ids)

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
    ringer = WordRinger(url, QUEUE, 0.3)
    await ringer.start()
    try:
        yield ringer
    finally:
        await ringer.close()


def queue_length(valkey: Valkey) -> int:
    with valkey.client() as client:
        return int(client.zcard(QUEUE))
