"""``flow-manager dev``: Valkey, the API and workers, started, watched and stopped together.

The supervisor runs no work and holds no rules: it starts processes, starts them again when
they crash, and stops them in the order that loses nothing: first the API and the workers,
which finish what they run within their grace, and Valkey last. It waits for events and polls
nothing, but the API until it can run something for the first time.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import orjson

from flow_manager.development.places import database_file, socket_path
from flow_manager.development.plan import HOST, Plan, claimed, environment_of, refuse_used_port
from flow_manager.development.process import PYTHON, Death, KeptProcess
from flow_manager.development.valkey import (
    end_orphan,
    server_command,
    server_program,
)
from shared.errors import FlowManagerError, Unavailable

START_SECONDS = 60.0
"""What the service is given to become ready; a first start migrates the database."""
PROBE_SECONDS = 0.05
"""How often the API is asked whether it is ready, until it is."""
STOP_MARGIN_SECONDS = 5.0
"""What a process may take beyond its tasks' grace before it is killed."""
PROBE_TIMEOUT_SECONDS = 2.0
VALKEY_STOP_SECONDS = 5.0
DECLARE_SECONDS = 10.0
"""What it may take to declare a worker lost."""


class StartFailed(Unavailable):
    """The service did not become ready; what its processes said tells why."""


async def supervise(plan: Plan, when_ready: Callable[[], Awaitable[int | None]]) -> int:
    """Run the service until a signal says stop; the exit status for the shell.

    ``when_ready`` is awaited once, as soon as the service answers. What it returns ends
    everything with that status; None goes on until a signal.

    Raises:
        InvalidSettings: for a port or data folder that is in use.
        StartFailed: where the service does not become ready.
    """
    refuse_used_port(plan.port)
    with claimed(plan.data), _output(plan.log) as output:
        service = _Service(plan, environment_of(plan), output)
        return await service.run(when_ready)


@dataclass(slots=True)
class _Service:
    """The running processes, and what has been asked of them."""

    plan: Plan
    environment: dict[str, str]
    output: IO[bytes] | None
    is_ready: bool = False
    status: int = 0
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _failure: str | None = None
    _kept: list[KeptProcess] = field(default_factory=list)

    async def run(self, when_ready: Callable[[], Awaitable[int | None]]) -> int:
        with self._signals():
            async with self._valkey():
                await self._migrate()
                await self._serve(when_ready)
        if self._failure is not None:
            raise StartFailed(self._failure)
        return self.status

    async def _serve(self, when_ready: Callable[[], Awaitable[int | None]]) -> None:
        if self._stop.is_set():
            return
        workers = [
            self._process(f"worker-{number + 1}", [*PYTHON, "worker"], self.output)
            for number in range(self.plan.workers)
        ]
        # Workers first: they start side by side with the API, which takes longest.
        api = [*PYTHON, "api.server", "--host", HOST, "--port", str(self.plan.port)]
        self._kept = [*workers, self._process("api", api, self.output)]
        async with asyncio.TaskGroup() as group:
            for process in self._kept:
                group.create_task(process.keep())
            use = group.create_task(self._use(when_ready))
            await self._stop.wait()
            use.cancel()
            for process in self._kept:
                process.stop()

    async def _use(self, when_ready: Callable[[], Awaitable[int | None]]) -> None:
        """Wait until the service answers, let the caller use it, and stop where it says so."""
        try:
            async with asyncio.timeout(START_SECONDS):
                while not await can_run(self.plan.port):  # noqa: ASYNC110  # no event tells
                    await asyncio.sleep(PROBE_SECONDS)
        except TimeoutError:
            self._fail(f"the service was not ready within {START_SECONDS:.0f} s")
            return
        self.is_ready = True
        status = await when_ready()
        if status is not None:
            self.status = status
            self._stop.set()

    async def _migrate(self) -> None:
        """Bring a new database's schema, once, before three processes would all look for it.

        An older one is brought up to date by whichever process comes first, under a lock.
        """
        if self.plan.database_url is not None or database_file(self.plan.data).exists():
            return
        command = [*PYTHON, "flow_manager.command", "db", "upgrade", "--quiet"]
        process = await asyncio.create_subprocess_exec(
            *command, env=self.environment, stdout=self.output, stderr=self.output
        )
        if await process.wait() and not self._stop.is_set():
            self._fail("the database could not be made ready")

    @asynccontextmanager
    async def _valkey(self) -> AsyncIterator[None]:
        """The embedded Valkey while the block runs, unless the user gave a Redis."""
        if self.plan.redis_url is not None:
            yield
            return
        path = socket_path(self.plan.data)
        end_orphan(path)
        command = server_command(server_program(), path)
        with (self.plan.data / "valkey.log").open("ab") as log:
            valkey = self._process("valkey", command, log, stop_seconds=VALKEY_STOP_SECONDS)
            async with asyncio.TaskGroup() as group:
                group.create_task(valkey.keep())
                try:
                    yield
                finally:
                    valkey.stop()

    def _process(
        self,
        name: str,
        command: list[str],
        output: IO[bytes] | None,
        *,
        stop_seconds: float | None = None,
    ) -> KeptProcess:
        if stop_seconds is None:
            stop_seconds = self.plan.settings.grace_seconds + STOP_MARGIN_SECONDS
        return KeptProcess(name, command, self.environment, self._when_dead, stop_seconds, output)

    async def _when_dead(self, death: Death) -> None:
        if death.name == "api" and death.code > 0 and not self.is_ready:
            # It refuses to start: trying again would only say the same.
            self._fail(f"{death.describe()} before it was ready")
            return
        self.plan.say(f"{death.describe()}; starting it again")
        if death.name.startswith("worker"):
            await declare_lost(death.process_id, self.environment)

    def _fail(self, sentence: str) -> None:
        self._failure = sentence
        self._stop.set()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Ctrl-C and the like stop everything; a second one kills."""
        loop = asyncio.get_running_loop()
        signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        for number in signals:
            loop.add_signal_handler(number, self._told)
        try:
            yield
        finally:
            for number in signals:
                loop.remove_signal_handler(number)

    def _told(self) -> None:
        if self._stop.is_set():
            for process in self._kept:
                process.kill()
            return
        self.plan.say("Stopping: running tasks may end first. (Once more stops at once.)")
        self._stop.set()


async def declare_lost(process_id: int, environment: dict[str, str]) -> None:
    """Say in the database that a worker of ours is dead, so that nobody waits for its lease.

    Only a hint that saves some seconds: where it fails, the lease runs out all the same.
    """
    process = await asyncio.create_subprocess_exec(
        *(*PYTHON, "worker.lost", str(process_id)),
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(DECLARE_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()


async def can_run(port: int) -> bool:
    """Whether the API on that port accepts runs and a worker is there to run them."""
    if await _get(port, "/health/ready") is None:
        return False
    workers = await _get(port, "/workers")
    return workers is not None and bool(orjson.loads(workers)["workers"])


async def _get(port: int, path: str) -> bytes | None:
    """What the API answers; None where it does not, or not with 200."""
    request = f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_SECONDS):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                writer.write(request.encode("ascii"))
                answer = await reader.read()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return None
    head, _, body = answer.partition(b"\r\n\r\n")
    return body if b" 200 " in head.partition(b"\r\n")[0] else None


@contextmanager
def _output(log: Path | None) -> Iterator[IO[bytes] | None]:
    if log is None:
        yield None
        return
    with log.open("ab") as output:
        yield output


def run_service(plan: Plan, when_ready: Callable[[], Awaitable[int | None]]) -> int:
    """Run :func:`supervise` to its end; the exit status for the shell."""
    try:
        return asyncio.run(supervise(plan, when_ready))
    except BaseExceptionGroup as group:
        # Task groups wrap; the caller knows our errors one by one.
        ours = group.subgroup(FlowManagerError)
        if ours is None:
            raise
        raise _first(ours) from None


def _first(group: BaseExceptionGroup[FlowManagerError]) -> FlowManagerError:
    for error in group.exceptions:
        return _first(error) if isinstance(error, BaseExceptionGroup) else error
    raise AssertionError("an exception group is never empty")
