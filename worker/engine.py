"""One worker put together: it starts its parts, lets them meet, and stops them in order."""

import asyncio
import os
import socket
import time
from importlib.metadata import version

import orjson
import structlog

from shared.afterwards import Ready
from shared.database import create_database, upgrade
from shared.errors import DatabaseUnavailable, FlowManagerError
from shared.events import Publisher, Subscriber
from shared.ids import BranchId, WorkerId, new_id
from shared.lease_clock import LeaseClock
from shared.queue import Ringer
from shared.registry import load_registry
from shared.settings import Settings
from shared.store import workers
from shared.store.freeing import Orphans, free_all, free_orphans
from shared.store.workers import AdvertisedType, Registration, register_workers
from shared.writer import Writer
from worker.claiming import Claimer
from worker.leader import Leader
from worker.lease import Beat, Heart
from worker.outbound.client import Outbound
from worker.outbound.policy import OutboundPolicy
from worker.outbound.process import install
from worker.runner import Runner
from worker.scheduler import Scheduler
from worker.webhooks import Webhooks

_log = structlog.get_logger(__name__)

_MAX_PAUSE_SECONDS = 2.0
"""Between two looks for a database that is away while the worker starts."""


class Engine:
    """What a worker process does, apart from listening to the doorbell."""

    def __init__(self, settings: Settings) -> None:
        self.worker_id = WorkerId(new_id())
        self.settings = settings
        self.registry = load_registry(settings.task_modules)
        self.database = create_database(settings)
        self.writer = Writer(self.database, settings)
        self.clock = LeaseClock(self.database)
        redis_url = settings.redis_url.get_secret_value()
        self.ringer = Ringer(redis_url, settings.queue_name, settings.ring_timeout_seconds)
        publisher = Publisher(self.ringer, settings.queue_name)
        self.runner = Runner(
            worker_id=self.worker_id,
            settings=settings,
            database=self.database,
            writer=self.writer,
            registry=self.registry,
            clock=self.clock,
            ringer=self.ringer,
            publisher=publisher,
        )
        self.writer.on_ready = self._ring
        self.claimer = Claimer(self.runner, self.writer, self.clock, settings)
        self._subscriber = Subscriber(
            redis_url, settings.queue_name, on_cancelled=self.runner.drop_runs
        )
        self._leader = Leader(
            self.worker_id, self.writer, self.clock, settings, self.ringer, publisher
        )
        outbound = Outbound(OutboundPolicy.of(settings))
        install(outbound)
        self._webhooks = Webhooks(self.writer, settings, outbound, lambda: self._leader.is_leading)
        self._scheduler = Scheduler(
            self.database,
            self.writer,
            self.clock,
            self.ringer,
            publisher,
            lambda: self._leader.is_leading,
        )
        self._heart = Heart(self.worker_id, self.database, self.clock, settings, self._on_beat)
        self._loops: list[asyncio.Task[None]] = []
        self._last_loops: list[asyncio.Task[None]] = []
        """Those that go on while running tasks have their grace."""
        self._ran: dict[BranchId, int] = {}
        """What ran here at the last beat."""
        self._unknown: dict[tuple[BranchId, int], float] = {}
        """What the beats find to be ours, by claim, and does not run here; since when."""

    async def start(self) -> None:
        """Register and begin to work."""
        self.writer.start()
        await self._register()
        self._heart.start()
        await self.ringer.start()
        await self._subscriber.start()
        loop = asyncio.get_running_loop()
        self._loops = [
            loop.create_task(self.claimer.claim_for_ever(), name="claimer"),
            loop.create_task(self.claimer.sweep_for_ever(), name="sweep"),
            loop.create_task(self.claimer.try_suspects_for_ever(), name="suspects"),
            loop.create_task(self._leader.lead_for_ever(), name="leader"),
            loop.create_task(
                self._scheduler.schedule_for_ever(self.settings.sweep_seconds / 2),
                name="scheduler",
            ),
        ]
        journal = self.runner.journal
        self._last_loops = [loop.create_task(journal.flush_for_ever(), name="journal")]
        if self.settings.webhook_urls:
            delivering = self._webhooks.deliver_for_ever()
            self._last_loops.append(loop.create_task(delivering, name="webhooks"))
        for task in (*self._loops, *self._last_loops):
            task.add_done_callback(_must_not_end)
        for problem in self.registry.problems:
            _log.error("plug_in_failed", source=problem.source, error=problem.message)
        _log.info(
            "worker_started",
            worker_id=self.worker_id,
            concurrency=self.settings.worker_concurrency,
            task_types=len(self.registry.names()),
        )

    async def stop(self) -> None:
        """Give running tasks their grace, give back the rest, and leave."""
        self.claimer.stop()
        await self._note("stopping")
        for task in self._loops:
            task.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.runner.stop(self.settings.grace_seconds))
            group.create_task(self._webhooks.stop(self.settings.grace_seconds))
        for task in self._last_loops:
            task.cancel()
        await asyncio.gather(*self._last_loops, return_exceptions=True)
        await self.runner.journal.close()
        await asyncio.to_thread(self._heart.stop)
        # Before we leave: a claim that nobody waits for any more may still be on its way.
        await asyncio.to_thread(self.writer.close)
        self.ringer.ring(await self._note("stopped"))
        await self._subscriber.close()
        await self.ringer.close()
        self.database.close()
        _log.info("worker_stopped", worker_id=self.worker_id)

    async def _register(self) -> None:
        """Migrate, read the clock and become known, as soon as the database allows it."""
        failures = 0
        while True:
            try:
                await asyncio.to_thread(self._prepare_database)
                await self.writer.call(register_workers, self._registration())
            except DatabaseUnavailable as error:
                failures += 1
                if failures == 1:
                    _log.warning("database_unavailable", error=str(error))
                await asyncio.sleep(min(0.1 * 2 ** min(failures, 10), _MAX_PAUSE_SECONDS))
            else:
                return

    def _prepare_database(self) -> None:
        upgrade(self.settings)
        with self.database.read() as connection:
            self.clock.synchronise(connection)

    def _registration(self) -> Registration:
        return Registration(
            worker_id=self.worker_id,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=version("flow-manager"),
            queues=self.settings.worker_queues,
            concurrency=self.settings.worker_concurrency,
            task_types=tuple(
                AdvertisedType(
                    kind.name,
                    kind.description,
                    None if kind.params_schema is None else orjson.dumps(kind.params_schema),
                    kind.source,
                )
                for kind in self.registry.describe()
            ),
            lease_now=self.clock.now(),
        )

    async def _note(self, state: str) -> list[BranchId]:
        """Tell the others; the branches that we still held when we stopped."""

        def write() -> list[BranchId]:
            with self.database.write() as connection:
                workers.leave(connection, self.worker_id, state)
                if state != "stopped":
                    return []
                workers.resign(connection, self.worker_id)
                return free_all(connection, self.worker_id, self.clock.now())

        try:
            return await asyncio.to_thread(write)
        except FlowManagerError as error:
            _log.warning("leave_failed", state=state, error=str(error))
            return []

    def _ring(self, ready: Ready) -> None:
        self.ringer.ring(list(ready), chunks=self.runner.peers)

    def _on_beat(self, beat: Beat) -> None:
        self.runner.peers = self._leader.peers = max(1, beat.live_workers)
        if not beat.is_live:
            _log.warning("declared_lost", worker_id=self.worker_id)
            self.runner.drop_all()
            return
        running = self.runner.claims
        # Only what ran at the beat before is sure to have been committed when this one was read.
        settled = {i: c for i, c in self._ran.items() if running.get(i) == c}
        self.runner.drop([i for i, claim in settled.items() if beat.held.get(i) != claim])
        self._ran = running
        self._watch_orphans({i: c for i, c in beat.held.items() if running.get(i) != c})

    def _watch_orphans(self, unknown: dict[BranchId, int]) -> None:
        """Free what has been ours and not run here for a whole lease: its answer got lost."""
        now = time.monotonic()
        self._unknown = {
            (i, claim): self._unknown.get((i, claim), now) for i, claim in unknown.items()
        }
        late = now - self.settings.lease_seconds
        orphans = {i: claim for (i, claim), since in self._unknown.items() if since <= late}
        if orphans:
            _log.warning("orphans_freed", branches=len(orphans))
            self._free_orphans(orphans)

    def _free_orphans(self, orphans: dict[BranchId, int]) -> None:
        task = asyncio.get_running_loop().create_task(self._give_back(orphans), name="orphans")
        self._loops.append(task)
        task.add_done_callback(self._loops.remove)

    async def _give_back(self, orphans: dict[BranchId, int]) -> None:
        try:
            await self.writer.call(free_orphans, Orphans(orphans, self.clock.now()))
        except FlowManagerError as error:
            _log.warning("orphans_kept", error=str(error))


def _must_not_end(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.critical("loop_broke_off", loop=task.get_name(), exc_info=error)
        # A worker without one of its loops is worse than a restarted one.
        os.kill(os.getpid(), 15)
