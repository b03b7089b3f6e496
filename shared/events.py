"""Messages to whoever listens now: runs that ended, runs to be cancelled.

They only make things quick. A message may be lost, and nobody may rely on it: a worker also
reads the flag in the run's row, and whoever waits for a run is helped by asking the database
once a second, one question for all that wait. One subscription serves a whole process.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Protocol

import orjson
import structlog
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError
from structlog.typing import FilteringBoundLogger

from shared.errors import Unavailable

_IDLE_SECONDS = 5.0
"""After so much silence the subscription is tested by a ping, and given up at twice of it."""
_MAX_PAUSE_SECONDS = 2.0

_log: FilteringBoundLogger = structlog.get_logger(__name__)

Handler = Callable[[Sequence[str]], None]


def ended_channel(queue_name: str) -> str:
    """Carries the ids of runs that got their final status."""
    return f"{queue_name}:ended"


def cancelled_channel(queue_name: str) -> str:
    """Carries the ids of runs that somebody wants to be cancelled."""
    return f"{queue_name}:cancelled"


class Outbox(Protocol):
    """What sends for us, without ever waiting or raising (the ringer does)."""

    def publish(self, channel: str, ids: Sequence[str]) -> None:
        """Send ``ids`` to whoever listens on ``channel``."""


class Publisher:
    """Names the messages; the outbox sends all of a moment together."""

    def __init__(self, outbox: Outbox, queue_name: str) -> None:
        self._outbox = outbox
        self._ended = ended_channel(queue_name)
        self._cancelled = cancelled_channel(queue_name)

    def run_ended(self, run_ids: Sequence[str]) -> None:
        """Tell that these runs have their final status. To be called after the commit."""
        if run_ids:
            self._outbox.publish(self._ended, run_ids)

    def cancelled(self, run_ids: Sequence[str]) -> None:
        """Tell the workers to cancel these runs. To be called after the commit."""
        if run_ids:
            self._outbox.publish(self._cancelled, run_ids)


class Subscriber:
    """One subscription of the process, held for as long as it takes, however Redis behaves.

    Handlers are called on the event loop and must not block it.
    """

    def __init__(
        self,
        redis_url: str,
        queue_name: str,
        *,
        on_ended: Handler | None = None,
        on_cancelled: Handler | None = None,
    ) -> None:
        self._redis = Redis.from_url(redis_url, socket_connect_timeout=2.0)
        self._handlers: dict[str, Handler] = {}
        if on_ended is not None:
            self._handlers[ended_channel(queue_name)] = on_ended
        if on_cancelled is not None:
            self._handlers[cancelled_channel(queue_name)] = on_cancelled
        self._task: asyncio.Task[None] | None = None
        self.is_listening = False
        """Whether messages arrive now; while they do not, only the fallback helps."""

    async def start(self) -> None:
        """Begin to listen. Succeeds with Redis away, too."""
        self._task = asyncio.create_task(self._listen_for_ever(), name="subscriber")

    async def close(self) -> None:
        """Stop listening and disconnect."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        await self._redis.aclose(close_connection_pool=True)

    async def _listen_for_ever(self) -> None:
        failures = 0
        while True:
            try:
                async with self._redis.pubsub() as subscription:
                    async with asyncio.timeout(2 * _IDLE_SECONDS):
                        await subscription.subscribe(*self._handlers)
                    await self._listen(subscription)
            except (RedisError, OSError, TimeoutError) as error:
                # A subscription that had worked begins to count anew.
                failures = 1 if self.is_listening else failures + 1
                self.is_listening = False
                if failures == 1:
                    _log.warning("redis_unavailable", part="subscriber", error=repr(error))
                await asyncio.sleep(min(0.05 * 2.0 ** min(failures, 10), _MAX_PAUSE_SECONDS))

    async def _listen(self, subscription: PubSub) -> None:
        """Pass on messages until the connection fails or falls silent."""
        is_tested = False
        while True:
            message = await subscription.get_message(timeout=_IDLE_SECONDS)
            if message is None:
                if is_tested:
                    raise TimeoutError("the subscription does not answer")
                is_tested = True
                async with asyncio.timeout(_IDLE_SECONDS):
                    await subscription.ping()
                continue
            is_tested = False
            if message["type"] == "subscribe":
                self.is_listening = True
            elif message["type"] == "message":
                self._pass_on(message["channel"].decode(), message["data"])

    def _pass_on(self, channel: str, data: bytes) -> None:
        try:
            ids = orjson.loads(data)
        except orjson.JSONDecodeError:
            ids = None
        if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
            _log.warning("message_refused", channel=channel, size_bytes=len(data))
            return
        self._handlers[channel](ids)


class RunEndings:
    """Lets many requests wait for the end of their runs.

    ``find_ended`` answers for ids which of them have ended; it is asked at once for a run that
    is newly waited for (it may have ended before), then once in ``poll_seconds``.
    """

    def __init__(
        self,
        find_ended: Callable[[Sequence[str]], Awaitable[Collection[str]]],
        poll_seconds: float = 1.0,
    ) -> None:
        self._find_ended = find_ended
        self._poll_seconds = poll_seconds
        self._waiting: defaultdict[str, set[asyncio.Future[bool]]] = defaultdict(set)
        self._new: set[str] = set()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to look after those who wait."""
        self._task = asyncio.create_task(self._look_for_ever(), name="run-endings")

    async def close(self) -> None:
        """Let everybody go who still waits: they are told that their run has not ended."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        for futures in self._waiting.values():
            _resolve(futures, False)

    def notify(self, run_ids: Sequence[str]) -> None:
        """These runs have ended: wake whoever waits for them. A subscriber's handler."""
        for run_id in run_ids:
            _resolve(self._waiting.get(run_id, set()), True)

    async def wait(self, run_id: str, timeout_seconds: float) -> bool:
        """Whether the run ended within the time."""
        future = asyncio.get_running_loop().create_future()
        self._waiting[run_id].add(future)
        self._new.add(run_id)
        self._wake.set()
        try:
            async with asyncio.timeout(timeout_seconds):
                ended: bool = await future
        except TimeoutError:
            return False
        else:
            return ended
        finally:
            self._forget(run_id, future)

    def _forget(self, run_id: str, future: asyncio.Future[bool]) -> None:
        futures = self._waiting[run_id]
        futures.discard(future)
        if not futures:
            del self._waiting[run_id]
            self._new.discard(run_id)

    async def _look_for_ever(self) -> None:
        while True:
            if not self._waiting:
                self._wake.clear()
                await self._wake.wait()
            await self._look(list(self._waiting))
            await self._look_at_new_until(asyncio.get_running_loop().time() + self._poll_seconds)

    async def _look_at_new_until(self, deadline: float) -> None:
        """Until the next question for all is due, ask for newcomers only."""
        while True:
            if not self._new:
                self._wake.clear()
                try:
                    async with asyncio.timeout_at(deadline):
                        await self._wake.wait()
                except TimeoutError:
                    return
            await self._look(list(self._new))

    async def _look(self, run_ids: list[str]) -> None:
        self._new.difference_update(run_ids)
        if not run_ids:
            return
        try:
            self.notify(list(await self._find_ended(run_ids)))
        except Unavailable:
            # Asked again a moment later; whoever waits is told by its own timeout at worst.
            return


def _resolve(futures: Collection[asyncio.Future[bool]], ended: bool) -> None:
    for future in futures:
        if not future.done():
            future.set_result(ended)
