"""An arq worker that waits for the bell instead of polling, and that survives Redis.

arq's wire format, settings, command line, cron, health check and its way of running other jobs
stay; what is replaced is the loop that looks for work. arq's own costs nine round trips a job
and half a second of waiting, and ends when Redis restarts. Here one script call takes the rings
that are due, as many as there is room for, and their branches are handed to ``hand_over``.

``ctx`` is how the parts of the worker meet. Read from it: ``hand_over(branch_ids)``, async,
which claims what it can; ``room()``, how many branches fit now (no limit without it);
``peers()``, how many workers share the queue (1 without it). Put there: ``doorbell``, this
object. A ring that is lost on the way, for instance because this process dies after the script,
costs at most one sweep of the database.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from signal import Signals
from typing import Any, cast

import structlog
from arq.connections import ArqRedis, RedisSettings
from arq.constants import in_progress_key_prefix, job_key_prefix
from arq.utils import timestamp_ms
from arq.worker import Function, Worker
from redis.asyncio import ConnectionPool
from redis.commands.core import AsyncScript
from structlog.typing import FilteringBoundLogger

from shared.bells import Pool
from shared.pools import DEFAULT_QUEUE
from shared.queue import (
    JOB_NAME,
    JOB_PREFIX,
    REDIS_ERRORS,
    dump_job,
    load_job,
    make_jobs,
    open_pool,
    send_jobs,
)
from worker.bells import Bells
from worker.rings import TAKE_SCRIPT, read_ring

COMMAND_SECONDS = 2.0
"""A Redis that has not answered after it counts as hung."""
IDLE_SECONDS = 5.0
"""One wait on the bell; between two of them the health key is renewed."""
FULL_SECONDS = 0.05
"""How often a full worker looks for room by itself, where ``room_freed`` is not called."""
UNLIMITED = 1_000_000
"""The room of a worker that gives none."""

_MAX_PAUSE_SECONDS = 2.0

_log: FilteringBoundLogger = structlog.get_logger(__name__)


class DoorbellWorker(Worker):
    """Takes arq's keyword arguments, so ``get_kwargs(WorkerSettings)`` fits.

    ``bells`` are those of the worker's pools; without them it serves the default one.
    """

    def __init__(
        self, functions: Sequence[Function], *, bells: Bells | None = None, **options: Any
    ) -> None:
        # Only JSON: with arq's default a stored pickle would be loaded, which is code.
        options |= {"job_serializer": dump_job, "job_deserializer": load_job}
        super().__init__(functions, **options)
        self._bells = bells or Bells(self.queue_name, (DEFAULT_QUEUE,))
        self._looks_at = self._bells.pools
        self._runs_others = any(name != JOB_NAME for name in self.functions)
        # Jobs of other kinds, and cron, do not ring the bell: they are polled for as arq does.
        pace = self.poll_delay_s if self._runs_others or self.burst else IDLE_SECONDS
        self._wait_seconds = min(pace, self.health_check_interval, IDLE_SECONDS)
        self._is_stopping = False
        self._is_listening = False
        self._scope: asyncio.Timeout | None = None
        self._ended = asyncio.Event()
        self._ended.set()
        self._freed = asyncio.Event()
        self._failures = 0

    # --- for the other parts of the worker --------------------------------------------------

    @property
    def is_connected(self) -> bool:
        """Whether Redis answered last time; while it does not, branches come by sweeps only."""
        return self._failures == 0

    def room_freed(self) -> None:
        """To be called when a branch ends, so that a full worker looks for work at once."""
        self._freed.set()

    def request_stop(self) -> None:
        """Take no more rings and let :meth:`main` return; may be called by a signal handler."""
        self._is_stopping = True
        self.allow_pick_jobs = False
        self._freed.set()
        if self._scope is not None and not self._scope.expired():
            self._scope.reschedule(self.loop.time())

    async def stop_listening(self) -> None:
        """Take no more rings. On return, ``hand_over`` has been called for the last time."""
        self.request_stop()
        await self._ended.wait()

    # --- what is overridden of arq ----------------------------------------------------------

    async def main(self) -> None:
        """Start up and listen until told to stop, whatever Redis does meanwhile."""
        if self._pool is None:
            settings = self.redis_settings or RedisSettings()
            self._pool = open_pool(
                settings, queue_name=self.queue_name, timeout_seconds=COMMAND_SECONDS
            )
        self.ctx["redis"] = self.pool
        self.ctx["doorbell"] = self
        self._ended.clear()
        try:
            if self.on_startup is not None:
                await self.on_startup(self.ctx)
            self._is_listening = True
            await self._listen_until_stopped()
        finally:
            self._is_listening = False
            self._ended.set()

    async def start_jobs(self, job_ids: list[bytes]) -> None:
        """arq's own way to run other jobs, without the slot it loses when Redis fails there."""
        for job_id in job_ids:
            try:
                await super().start_jobs([job_id])
            except REDIS_ERRORS:
                self._release_sem_dec_counter_on_complete()
                raise

    def handle_sig(self, signum: Signals) -> None:
        """Stop in good order; a second signal, or one while starting up, cancels as arq does."""
        if self._is_stopping or not self._is_listening:
            super().handle_sig(signum)
            return
        _log.info("worker_stopping", signal=signum.name)
        self.request_stop()
        if self.on_stop is not None:
            self.on_stop(signum)

    async def close(self) -> None:
        """Run ``on_shutdown`` and disconnect, also when Redis is away (arq's own fails there)."""
        self.request_stop()
        if self._pool is None:
            return
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        try:
            if self.on_shutdown is not None:
                await self.on_shutdown(self.ctx)
        finally:
            await self._disconnect()

    # --- the loop ---------------------------------------------------------------------------

    async def _listen_until_stopped(self) -> None:
        take = self.pool.register_script(TAKE_SCRIPT)
        bell = _patient_twin(self.pool)
        try:
            while not self._is_stopping:
                try:
                    await self._listen(take, bell)
                except REDIS_ERRORS as error:
                    await self._note_failure(error)
                else:
                    return
        finally:
            await bell.aclose(close_connection_pool=True)

    async def _listen(self, take: AsyncScript, bell: ArqRedis) -> None:
        self._looks_at = self._bells.pools
        while not self._is_stopping:
            more = await self._look(take)
            self._note_success()
            if self.allow_abort_jobs:
                await self._cancel_aborted_jobs()
            self._forget_finished_jobs()
            await self.heart_beat()
            if self.burst and await self._is_burst_over():
                return
            if not more:
                await self._wait(bell)

    async def _look(self, take: AsyncScript) -> bool:
        """Take what is due. Whether there is reason to look again at once."""
        self._freed.clear()
        more = False
        for pool in self._looks_at:
            more |= await self._look_at(take, pool)
        return more

    async def _look_at(self, take: AsyncScript, pool: Pool) -> bool:
        room = self._room()
        runs_others = self._runs_others and pool.key == self.queue_name
        others_wanted = self.max_jobs - self.job_counter if runs_others else 0
        if room == 0 and others_wanted == 0:
            return False
        peers = cast(int, self.ctx["peers"]()) if "peers" in self.ctx else 1
        keys = (pool.key, pool.bell, pool.others_bell)
        more, payloads, others = await take(
            keys=[key for key in keys if key is not None],
            args=[
                timestamp_ms(), room, max(1, peers), others_wanted,
                JOB_PREFIX, job_key_prefix, in_progress_key_prefix, pool.queue,
            ],
        )  # fmt: skip
        if payloads:
            branch_ids = [i for payload in payloads for i in read_ring(payload)]
            await self._hand_over(branch_ids, room, pool)
            self.jobs_complete += len(payloads)
        if others and self.allow_pick_jobs:
            await self.start_jobs(others)
        return bool(more and payloads)

    async def _hand_over(self, branch_ids: list[str], room: int, pool: Pool) -> None:
        """Give the branches to the runner, and those beyond its room back to the queue."""
        surplus = make_jobs(branch_ids[room:], 1, timestamp_ms())
        try:
            if surplus:
                await send_jobs(self.pool, pool, surplus, tokens=len(surplus))
        finally:
            # Also when Redis has just gone: these are no longer in the queue.
            if branch_ids:
                await self.ctx["hand_over"](branch_ids[:room])

    async def _wait(self, bell: ArqRedis) -> None:
        """Until the bell rings, there is room again, it is time for the health key, or stop."""
        if self._is_stopping:
            return
        is_full = self._room() == 0
        wait_seconds = min(self._wait_seconds, FULL_SECONDS) if is_full else self._wait_seconds
        # The server ends a wait on the bell by itself; one that does not is hung.
        limit_seconds = wait_seconds + (0 if is_full else COMMAND_SECONDS)
        self._looks_at = self._bells.pools
        rung: tuple[bytes, bytes] | None = None
        try:
            async with asyncio.timeout(limit_seconds) as self._scope:
                if is_full:
                    await self._freed.wait()
                else:
                    bells = list(self._bells.waited_on)
                    waiting = bell.blpop(bells, timeout=cast(int, wait_seconds))
                    rung = await cast(Awaitable[tuple[bytes, bytes] | None], waiting)
        except TimeoutError:
            if not (is_full or self._is_stopping):
                raise
        finally:
            self._scope = None
        if rung is None:
            return
        name, token = rung
        if self._room() == 0:
            # We cannot answer this one; somebody else should.
            await cast(Awaitable[object], self.pool.lpush(name.decode(), token))
        else:
            self._looks_at = self._bells.heard(name.decode(), token)

    def _room(self) -> int:
        return max(0, cast(int, self.ctx["room"]())) if "room" in self.ctx else UNLIMITED

    def _forget_finished_jobs(self) -> None:
        for job_id, task in list(self.tasks.items()):
            if task.done():
                del self.tasks[job_id]
                if not task.cancelled() and (error := task.exception()) is not None:
                    # arq would end the whole worker here.
                    _log.error("arq_job_interrupted", job_id=job_id, exc_info=error)

    async def _is_burst_over(self) -> bool:
        enough = 0 <= self.max_burst_jobs <= self._jobs_started()
        for pool in self._bells.pools:
            if not enough and await self.pool.zcard(pool.key):
                return False
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        return True

    # --- Redis comes and goes ---------------------------------------------------------------

    async def _disconnect(self) -> None:
        try:
            await self.pool.delete(self.health_check_key)
        except REDIS_ERRORS:
            # It expires by itself.
            _log.info("health_key_left", key=self.health_check_key)
        await self.pool.aclose(close_connection_pool=True)
        self._pool = None

    async def _note_failure(self, error: BaseException) -> None:
        self._failures += 1
        if self._failures == 1:
            _log.warning("redis_unavailable", part="doorbell", error=repr(error))
        pause = min(0.05 * 2.0 ** min(self._failures, 10), _MAX_PAUSE_SECONDS)
        try:
            async with asyncio.timeout(pause) as self._scope:
                await asyncio.Event().wait()
        except TimeoutError:
            return
        finally:
            self._scope = None

    def _note_success(self) -> None:
        if self._failures:
            _log.info("redis_available", part="doorbell", failures=self._failures)
        self._failures = 0


def _patient_twin(redis: ArqRedis) -> ArqRedis:
    """A client of the same Redis whose reads may last: a wait on the bell is meant to."""
    pool = redis.connection_pool
    options = {**pool.connection_kwargs, "socket_timeout": None}
    return ArqRedis(ConnectionPool(connection_class=pool.connection_class, **options))
