"""Threads for tasks that are not async.

Not ``ThreadPoolExecutor``: a thread cannot be stopped, so one whose task passed its timeout
has to be left behind. The executor would then be short of it for ever, and join it at exit,
so that a hanging task would hang the worker's shutdown. Threads here are daemons, and an
abandoned one is replaced, up to a limit.
"""

import asyncio
import contextlib
import contextvars
import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from shared.errors import LimitExceeded

_logger = logging.getLogger("flow_manager.worker")

Work = Callable[[], None]


class _Call:
    """One call on a thread; its outcome comes back to the loop as a value, never as an
    exception of the future (which could not carry a ``StopIteration``)."""

    def __init__(self, function: Callable[[], Any], loop: asyncio.AbstractEventLoop) -> None:
        self._function = function
        self._context = contextvars.copy_context()
        self._loop = loop
        self.done: asyncio.Future[None] = loop.create_future()
        self.returned: Any = None
        self.error: BaseException | None = None

    def run(self, tell: Callable[["_Call"], None]) -> None:
        """Called on the thread. A task may raise anything, also ``SystemExit``."""
        try:
            self.returned = self._context.run(self._function)
        except BaseException as error:  # noqa: BLE001  # the border of one attempt
            self.error = error
        # The loop may be closed by now: then nobody waits any more.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(tell, self)


class Threads:
    """At most ``max_threads`` calls at a time, and as many abandoned ones."""

    def __init__(self, max_threads: int) -> None:
        self._max_threads = max_threads
        self._slots = asyncio.Semaphore(max_threads)
        self._queue: SimpleQueue[_Call | None] = SimpleQueue()
        self._threads = 0
        self._idle = 0
        self._abandoned: set[_Call] = set()

    async def acquire(self) -> None:
        """Wait for a free thread. Every call of :meth:`run` stands between this and
        :meth:`release`: waiting for a thread does not count as the task's own time."""
        await self._slots.acquire()

    def release(self) -> None:
        """Give the thread back."""
        self._slots.release()

    async def run(
        self, function: Callable[[], Any], stop: Callable[[], None], stop_seconds: float
    ) -> Any:
        """What ``function`` returns or raises, called on a thread with a copied context.

        When cancelled, ``stop`` is called, and the thread is left behind where it does not
        end within ``stop_seconds``.

        Raises:
            LimitExceeded: too many threads were left behind already.
        """
        if len(self._abandoned) >= self._max_threads:
            raise LimitExceeded(
                f"{len(self._abandoned)} threads of this worker (worker_threads "
                f"{self._max_threads}) are still held by tasks that did not stop when told; "
                "restart it"
            )
        call = _Call(function, asyncio.get_running_loop())
        self._start(call)
        try:
            await asyncio.shield(call.done)
        except asyncio.CancelledError:
            stop()
            await self._leave(call, stop_seconds)
            raise
        if call.error is not None:
            raise call.error
        return call.returned

    def close(self) -> None:
        """Let the idle threads end. What still runs is left to end with the process."""
        for _ in range(self._threads):
            self._queue.put(None)

    def _start(self, call: _Call) -> None:
        if self._idle:
            self._idle -= 1
        else:
            # Before the call is in the queue: where no thread can be started, the call must
            # not be left there for another to find.
            name = f"flow-manager-task-{self._threads + 1}"
            threading.Thread(target=self._work, name=name, daemon=True).start()
            self._threads += 1
        self._queue.put(call)

    def _work(self) -> None:
        while (call := self._queue.get()) is not None:
            call.run(self._finished)
            # Or the last result would be kept as long as the thread is idle.
            del call

    def _finished(self, call: _Call) -> None:
        """Called on the loop: the thread is about to wait for its next call."""
        self._idle += 1
        self._abandoned.discard(call)
        if not call.done.done():
            call.done.set_result(None)

    async def _leave(self, call: _Call, stop_seconds: float) -> None:
        self._abandoned.add(call)
        # Whoever waits for us closes us after the same grace; then the line below is not
        # reached and the thread is already in the books as abandoned.
        await asyncio.wait({call.done}, timeout=stop_seconds * 0.9)
        if call in self._abandoned:
            _logger.warning(
                "thread_abandoned: the task did not stop within %g s; its thread is left "
                "behind until the task ends by itself (%d such threads)",
                stop_seconds,
                len(self._abandoned),
            )
