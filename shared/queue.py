"""The doorbell: says to the workers that branches are ready, and nothing more.

A ring is an arq job ``run_branches(ids)`` in arq's own wire format, with JSON in place of
pickle, so that stored bytes never become code. It may be lost, doubled or late without harm:
the branches are in the database, and a worker with room looks there each second. Hence the
rules of this module: a ring never waits, never raises, and is dropped when Redis is away.

Besides the job, a ring pushes a token on a short list, the bell, on which workers block. The
queue itself cannot be waited on: arq leaves running and deferred jobs in it, so a blocking pop
of its lowest member would spin on those, and would lose a foreign job whose worker then dies.

Each pool of workers has a queue and a bell of its own, so that no ring wakes a worker that
cannot answer it. Workers that take every queue listen, beside the default bell, to one that
tells by its tokens which other pool was rung.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from types import MappingProxyType
from typing import Any, TypeVar, cast

import orjson
import structlog
from arq.connections import ArqRedis, RedisSettings
from arq.constants import job_key_prefix
from redis.asyncio.connection import parse_url
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from structlog.typing import FilteringBoundLogger

from shared.bells import Pool, pool_of
from shared.ids import new_id
from shared.pools import DEFAULT_QUEUE

JOB_NAME = "run_branches"
"""The arq function that a ring calls."""
JOB_PREFIX = "branches:"
"""Ids of rings start with it; the number of their branches follows: ``branches:3:0199...``."""
MAX_JOB_BRANCHES = 100
"""Branches of one job. A worker gives back what it has no room for, so this bounds that."""
RING_LIFE_MILLISECONDS = 60_000
"""Far longer than a sweep of the database takes to find the same branches."""
MAX_TOKENS = 64
"""Tokens on the bell: more workers than this need not be woken at once."""
MAX_PENDING_JOBS = 10_000
"""Rings that wait for Redis in this process, some 10 MB at most; what comes then is dropped."""
PIPELINE_JOBS = 1_000
"""Jobs in one round trip, so that a huge fork does not hold Redis up for others."""
REDIS_ERRORS = (RedisError, OSError, TimeoutError)
"""How a Redis that is away, hung, full or misconfigured shows."""

Id = TypeVar("Id", bound=str)
_NO_QUEUES: Mapping[Any, str] = MappingProxyType({})
_MAX_PAUSE_SECONDS = 1.0
_MAX_MESSAGE_IDS = 500

# Removes rings whose payload is gone (nobody listened for a minute, or Redis evicted it), so
# that the queue does not grow without bound. Looks at the oldest ARGV[3] members only.
_TRIM_SCRIPT = """
local old = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[3])
for _, id in ipairs(old) do
  if redis.call('EXISTS', ARGV[2] .. id) == 0 then redis.call('ZREM', KEYS[1], id) end
end
"""

_log: FilteringBoundLogger = structlog.get_logger(__name__)


def dump_job(value: object) -> bytes:
    """arq's ``job_serializer``. What JSON does not know (an exception) becomes its text."""
    return orjson.dumps(value, default=repr)


def load_job(data: bytes) -> dict[str, object]:
    """arq's ``job_deserializer``. A pickle is not JSON and therefore refused by a ValueError."""
    value = orjson.loads(data)
    if not isinstance(value, dict):
        raise ValueError("a job is a JSON object")
    return value


@dataclass(frozen=True, slots=True)
class RingJob:
    """One arq job that is on its way to Redis."""

    job_id: str
    payload: bytes
    branches: int
    queue: str = DEFAULT_QUEUE


def make_jobs(
    branch_ids: Sequence[str], chunks: int, now_milliseconds: int, queue: str = DEFAULT_QUEUE
) -> list[RingJob]:
    """The jobs of one ring: ``chunks`` of about equal size, more where the limit asks for it."""
    count = len(branch_ids)
    if count == 0:
        return []
    jobs = max(1, min(chunks, count), -(-count // MAX_JOB_BRANCHES))
    made = []
    for index in range(jobs):
        ids = list(branch_ids[index * count // jobs : (index + 1) * count // jobs])
        payload = orjson.dumps(
            {"t": None, "f": JOB_NAME, "a": [ids], "k": {}, "et": now_milliseconds}
        )
        made.append(RingJob(f"{JOB_PREFIX}{len(ids)}:{new_id()}", payload, len(ids), queue))
    return made


def redis_settings(redis_url: str) -> RedisSettings:
    """arq's settings for a ``redis://``, ``rediss://`` or ``unix://`` URL.

    arq's own ``from_dsn`` leaves escapes in a password and drops what follows the ``?``.
    """
    parts = cast(dict[str, object], parse_url(redis_url))
    named = {
        "host": "host", "port": "port", "path": "unix_socket_path", "db": "database",
        "username": "username", "password": "password", "ssl_keyfile": "ssl_keyfile",
        "ssl_certfile": "ssl_certfile", "ssl_ca_certs": "ssl_ca_certs",
        "ssl_ca_data": "ssl_ca_data", "ssl_cert_reqs": "ssl_cert_reqs",
    }  # fmt: skip
    settings = RedisSettings(ssl=redis_url.startswith("rediss:"))
    for part, name in named.items():
        if part in parts:
            setattr(settings, name, parts[part])
    return settings


def open_pool(settings: RedisSettings, *, queue_name: str, timeout_seconds: float) -> ArqRedis:
    """A pool that connects when it is first used and gives up on a command in time.

    arq's own ``create_pool`` fails where Redis is away, and its connections wait for ever on
    one that is stopped.
    """
    return ArqRedis(
        host=settings.host,
        port=settings.port,
        unix_socket_path=settings.unix_socket_path,
        db=settings.database,
        username=settings.username,
        password=settings.password,
        ssl=settings.ssl,
        ssl_keyfile=settings.ssl_keyfile,
        ssl_certfile=settings.ssl_certfile,
        ssl_cert_reqs=settings.ssl_cert_reqs,
        ssl_ca_certs=settings.ssl_ca_certs,
        ssl_ca_data=settings.ssl_ca_data,
        ssl_check_hostname=settings.ssl_check_hostname,
        socket_connect_timeout=timeout_seconds,
        socket_timeout=timeout_seconds,
        job_serializer=dump_job,
        job_deserializer=load_job,
        default_queue_name=queue_name,
    )


async def send_jobs(redis: ArqRedis, pool: Pool, jobs: Sequence[RingJob], tokens: int) -> None:
    """Put ``jobs`` on the pool's queue and wake up to ``tokens`` workers, in one round trip."""
    now = int(time.time() * 1000)
    pipe = redis.pipeline(transaction=False)
    for job in jobs:
        pipe.psetex(job_key_prefix + job.job_id, RING_LIFE_MILLISECONDS, job.payload)
    pipe.zadd(pool.key, {job.job_id: now for job in jobs})
    bells = [pool.bell]
    if pool.others_bell is not None:
        # Perhaps nobody ever listens here: what nobody can answer any more goes.
        pipe.zremrangebyscore(pool.key, "-inf", now - RING_LIFE_MILLISECONDS)
        pipe.pexpire(pool.key, RING_LIFE_MILLISECONDS)
        bells.append(pool.others_bell)
    tokens = min(len(jobs), tokens, MAX_TOKENS)
    for bell in bells if tokens else ():
        # Last, so that whoever is woken finds the jobs.
        pipe.lpush(bell, *([pool.queue.encode()] * tokens))
        pipe.ltrim(bell, 0, MAX_TOKENS - 1)
        pipe.pexpire(bell, RING_LIFE_MILLISECONDS)
    await pipe.execute()


def _by_queue(branch_ids: Sequence[Id], queues: Mapping[Id, str]) -> dict[str, list[Id]]:
    found: dict[str, list[Id]] = {}
    for branch_id in branch_ids:
        found.setdefault(queues.get(branch_id, DEFAULT_QUEUE), []).append(branch_id)
    return found


def _jobs_by_queue(jobs: list[RingJob]) -> list[tuple[str, list[RingJob]]]:
    ordered = sorted(jobs, key=attrgetter("queue"))
    return [(queue, list(group)) for queue, group in groupby(ordered, attrgetter("queue"))]


@dataclass(slots=True)
class _Pending:
    """What the next round trip carries."""

    jobs: list[RingJob] = field(default_factory=list)
    messages: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def __bool__(self) -> bool:
        return bool(self.jobs or self.messages)

    def take(self) -> "_Pending":
        """Cut off what fits into one round trip."""
        taken = _Pending(self.jobs[:PIPELINE_JOBS], self.messages)
        del self.jobs[:PIPELINE_JOBS]
        self.messages = defaultdict(list)
        return taken


class Ringer:
    """Sends rings and messages from one background task: all of a moment in one round trip.

    To be used on the event loop it was started on.
    """

    def __init__(self, redis_url: str, queue_name: str, timeout_seconds: float) -> None:
        self._queue_name = queue_name
        self._timeout_seconds = timeout_seconds
        self._redis = open_pool(
            redis_settings(redis_url), queue_name=queue_name, timeout_seconds=timeout_seconds
        )
        self._pending = _Pending()
        self._pending_ids = 0
        self._wake = asyncio.Event()
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._trimmed_at = 0.0
        self._rung_since_trim = 0
        self._failures = 0
        self.dropped = 0
        """Branches whose ring was given up; the workers find them in the database."""

    @property
    def is_connected(self) -> bool:
        """Whether the last round trip went well (or none was tried yet)."""
        return self._failures == 0

    async def start(self) -> None:
        """Begin to send. Succeeds with Redis away, too."""
        self._task = asyncio.create_task(self._send_until_closed(), name="ringer")

    async def close(self) -> None:
        """Send what is left, once, and disconnect."""
        self._closing.set()
        self._wake.set()
        if self._task is not None:
            await self._task
            self._task = None
        await self._redis.aclose(close_connection_pool=True)

    def ring(
        self,
        branch_ids: Sequence[Id],
        chunks: int = 1,
        queues: Mapping[Id, str] = _NO_QUEUES,
    ) -> None:
        """Say that these branches are ready, in so many jobs. Never waits and never raises.

        ``queues`` names the queues of those that do not wait in the default one.
        """
        now = int(time.time() * 1000)
        if queues:
            jobs = []
            for queue, ids in _by_queue(branch_ids, queues).items():
                jobs += make_jobs(ids, chunks, now, queue)
        else:
            jobs = make_jobs(branch_ids, chunks, now)
        if len(self._pending.jobs) + len(jobs) > MAX_PENDING_JOBS:
            self.dropped += len(branch_ids)
            return
        self._pending.jobs.extend(jobs)
        self._wake.set()

    def publish(self, channel: str, ids: Sequence[str]) -> None:
        """Send ``ids`` to whoever listens now. Never waits and never raises."""
        if self._pending_ids + len(ids) > MAX_PENDING_JOBS:
            return
        self._pending_ids += len(ids)
        self._pending.messages[channel].extend(ids)
        self._wake.set()

    async def ping(self) -> bool:
        """Whether Redis answers in time."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await cast(Awaitable[object], self._redis.ping())
        except REDIS_ERRORS:
            return False
        return True

    async def _send_until_closed(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._pending:
                batch = self._pending.take()
                self._pending_ids = 0
                await self._send(batch)
            if self._closing.is_set():
                return

    async def _send(self, batch: _Pending) -> None:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                try:
                    await self._exchange(batch)
                except RedisConnectionError:
                    # Often only an idle connection that a restart of Redis has closed. What is
                    # sent twice does no harm.
                    await self._exchange(batch)
        except REDIS_ERRORS as error:
            self.dropped += sum(job.branches for job in batch.jobs)
            self._failures += 1
            if self._failures == 1:
                _log.warning("redis_unavailable", part="ringer", error=repr(error))
            await self._pause()
        else:
            if self._failures:
                _log.info("redis_available", part="ringer", dropped_branches=self.dropped)
            self._failures = 0

    async def _exchange(self, batch: _Pending) -> None:
        for queue, jobs in _jobs_by_queue(batch.jobs):
            await send_jobs(self._redis, pool_of(self._queue_name, queue), jobs, MAX_TOKENS)
            if queue == DEFAULT_QUEUE:
                await self._trim(len(jobs))
        if batch.messages:
            pipe = self._redis.pipeline(transaction=False)
            for channel, ids in batch.messages.items():
                for start in range(0, len(ids), _MAX_MESSAGE_IDS):
                    pipe.publish(channel, orjson.dumps(ids[start : start + _MAX_MESSAGE_IDS]))
            await pipe.execute()

    async def _trim(self, rung: int) -> None:
        """Take out twice of what was put in since, each few seconds: so the queue shrinks."""
        self._rung_since_trim += rung
        now = time.monotonic()
        if now - self._trimmed_at < 5 and self._rung_since_trim < PIPELINE_JOBS:
            return
        limit = 2 * self._rung_since_trim + 100
        self._trimmed_at, self._rung_since_trim = now, 0
        oldest = int(time.time() * 1000) - RING_LIFE_MILLISECONDS
        trimming = self._redis.eval(
            _TRIM_SCRIPT, 1, self._queue_name, str(oldest), job_key_prefix, str(limit)
        )
        await cast(Awaitable[object], trimming)

    async def _pause(self) -> None:
        """Leave a Redis that is away in peace for a moment; what is rung meanwhile waits."""
        pause = min(0.05 * 2.0 ** min(self._failures, 10), _MAX_PAUSE_SECONDS)
        try:
            async with asyncio.timeout(pause):
                await self._closing.wait()
        except TimeoutError:
            return
