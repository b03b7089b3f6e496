"""Real processes over a real database: started, hurt and ended by the tests of the faults."""

import asyncio
import fcntl
import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import orjson
from sqlalchemy import text

from shared.database import Database, create_database, upgrade
from shared.definition import FlowDefinition
from shared.errors import DatabaseUnavailable
from shared.ids import BranchId, FlowRunId, new_id
from shared.lease_clock import LeaseClock
from shared.limits import run_limit
from shared.queue import Ringer
from shared.replay import Point
from shared.settings import Settings, load_settings
from shared.store.definitions import NewVersion, put_versions
from shared.store.reruns import NewRerun, create_reruns
from shared.store.runs import NewRun, create_runs
from shared.store.signals import NewSignal, send_signals
from shared.task_context import Json
from shared.writer import Writer
from tests.faults.checks import Final, Finished, check, finals, finished_task_runs
from tests.faults.journal import Journal
from tests.servers import free_port
from tests.waiting import wait_until

HERE = Path(__file__).parent
RECOVERY_SECONDS = 5.0
"""From a fault to the work going on, at the default settings."""
QUICK = {"lease_seconds": 1.0, "heartbeat_seconds": 0.3, "sweep_seconds": 0.3}
"""Settings for tests in which a worker must be lost, and how soon does not matter."""
START_SECONDS = 25.0
STOP_SECONDS = 10.0


@dataclass(slots=True)
class Process:
    """A worker or an API that a test started."""

    popen: subprocess.Popen[bytes]
    log: Path
    port: int = 0

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.popen.pid

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self.popen.poll() is None

    @property
    def url(self) -> str:
        """Where an API listens."""
        return f"http://127.0.0.1:{self.port}"

    def kill(self) -> float:
        """kill -9; the time of it."""
        at = time.time()
        self.popen.kill()
        self.popen.wait()
        return at

    def pause(self) -> None:
        """SIGSTOP."""
        self.popen.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self.popen.send_signal(signal.SIGCONT)

    def terminate(self) -> None:
        """SIGTERM."""
        self.popen.send_signal(signal.SIGTERM)


class Cluster:
    """The processes of one test, their database, and a client that submits as the API does."""

    def __init__(self, folder: Path, database_url: str, redis_url: str, **settings: object) -> None:
        self.folder = folder
        self.settings: Settings = load_settings(
            database_url=database_url, redis_url=redis_url, **settings
        )
        self._given = {"database_url": database_url, "redis_url": redis_url, **settings}
        self.journal = Journal(folder / "journal")
        self.processes: list[Process] = []
        self.acknowledged: list[FlowRunId] = []
        """Runs whose submit was committed: none of them may be lost."""
        self.seen: dict[str, Final] = {}
        """Final states that somebody has read: they may never change."""
        self.earlier: dict[str, Finished] = {}
        """Results that somebody has read, likewise."""
        upgrade(self.settings)
        self.database: Database = create_database(self.settings)
        self._clock = LeaseClock(self.database)
        self._writer = Writer(self.database, self.settings)
        self._ringer = Ringer(
            redis_url, self.settings.queue_name, self.settings.ring_timeout_seconds
        )

    async def open(self) -> None:
        """Get ready to submit."""
        with self.database.read() as connection:
            self._clock.synchronise(connection)
        self._writer.start()
        await self._ringer.start()

    async def close(self) -> None:
        """End every process, and all that the client holds."""
        for process in self.processes:
            if process.is_alive:
                process.kill()
        await self._ringer.close()
        await asyncio.to_thread(self._writer.close)
        self.database.close()

    # Processes

    def start_worker(self, point: str = "", side: str = "", **settings: object) -> Process:
        """Start a worker, one that dies at a point of ``launch_worker`` if one is named."""
        command = ["-m", "worker"] if not point else [str(HERE / "launch_worker.py"), point]
        extra = {"FAULTS_SIDE": side} if side else {}
        return self._start("worker", command, settings, extra)

    async def start_workers(self, count: int, **settings: object) -> list[Process]:
        """Start workers and wait until they are at work."""
        workers = [self.start_worker(**settings) for _ in range(count)]  # type: ignore[arg-type]
        await self.at_work(workers)
        return workers

    async def at_work(self, workers: Collection[Process]) -> None:
        """Wait until these workers have registered."""
        wanted = {worker.pid for worker in workers}
        await wait_until(
            lambda: wanted <= self.registered(),
            description=f"the workers {wanted} are live",
            timeout=START_SECONDS,
        )

    def registered(self) -> set[int]:
        """The processes of the workers that the database takes for live."""
        return set(self.query("SELECT pid FROM worker WHERE state = 'live'"))

    async def start_api(self, **settings: object) -> Process:
        """Start an API and wait until it answers."""
        process = self.launch_api(**settings)
        await self.answers(process)
        return process

    async def answers(self, api: Process) -> None:
        """Wait until an API listens."""
        await wait_until(
            lambda: _answers(api.port), description="the API listens", timeout=START_SECONDS
        )

    def launch_api(self, **settings: object) -> Process:
        """Start an API."""
        port = free_port()
        command = ["-m", "api.server", "--host", "127.0.0.1", "--port", str(port)]
        process = self._start("api", command, settings, {})
        process.port = port
        return process

    def _start(
        self, name: str, command: Sequence[str], settings: dict[str, object], extra: dict[str, str]
    ) -> Process:
        log = self.folder / f"{name}-{len(self.processes)}.log"
        given = {**self._given, **settings}
        environment = {k: v for k, v in os.environ.items() if not k.startswith("FLOW_")}
        environment.update({f"FLOW_{name.upper()}": str(value) for name, value in given.items()})
        environment["FLOW_TASK_MODULES"] = f"{HERE / 'tasks.py'},tests.random_tasks"
        environment["FAULTS_JOURNAL"] = str(self.journal.path)
        with log.open("ab") as output:
            popen = subprocess.Popen(
                [sys.executable, "-P", *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env={**environment, **extra},
            )
        process = Process(popen, log)
        self.processes.append(process)
        return process

    # Work

    async def submit(self, definition: Json, input_: Json = None) -> FlowRunId:
        """Start a run as the API does: commit, then ring."""
        run = self.new_run(definition, input_)
        created = await self._writer.call(create_runs, run)
        self.acknowledged.append(created.flow_run_id)
        if created.branch_id is not None:
            self._ringer.ring([created.branch_id])
        return created.flow_run_id

    async def rerun(self, source: FlowRunId, definition: Json, task: str | None) -> FlowRunId:
        """Run a run again from a task on, or from what failed, as the API does."""
        new = NewRerun(source, self.new_run(definition), Point(task))
        created = await self._writer.call(create_reruns, new)
        assert not isinstance(created, str), created
        self.acknowledged.append(created.flow_run_id)
        if created.branch_id is not None:
            self._ringer.ring([created.branch_id])
        return created.flow_run_id

    def new_run(self, definition: Json, input_: Json = None) -> NewRun:
        """A run to be stored, with new ids."""
        content = orjson.dumps(definition)
        flow = FlowDefinition.model_validate_json(content)
        start = next(task for task in flow.tasks if task.name == flow.start_task)
        return NewRun(
            flow_run_id=FlowRunId(new_id()),
            branch_id=BranchId(new_id()),
            flow_id=flow.id,
            name="",
            definition_hash=hashlib.sha256(content).hexdigest(),
            definition_json=content,
            input_json=orjson.dumps({} if input_ is None else input_),
            tags_json=b"[]",
            start_task=start.name,
            start_type=start.type or start.name,
            created_at=datetime.now(UTC),
            ready_at=self._clock.now(),
            limit=run_limit(flow, input_),
        )

    async def store(self, definition: Json) -> None:
        """Store a definition as the API does."""
        content = orjson.dumps(definition)
        version = NewVersion(
            flow_id=definition["id"],
            hash=hashlib.sha256(content).hexdigest(),
            content=content,
            created_at=datetime.now(UTC),
        )
        await self._writer.call(put_versions, version)

    async def signal(self, run: FlowRunId, name: str) -> None:
        """Send a signal as the API does."""
        signal = NewSignal(run, name, b"null", datetime.now(UTC), self._clock.now())
        await self._writer.call(send_signals, signal)

    async def submit_many(
        self, definition: Json, count: int, input_: Json = None
    ) -> list[FlowRunId]:
        """Start runs of one definition at once."""
        return list(await asyncio.gather(*(self.submit(definition, input_) for _ in range(count))))

    async def all_ended(self, seconds: float = 20.0) -> None:
        """Wait until no run is under way, taking note of what is read on the way."""
        await wait_until(self._look, description="every run has ended", timeout=seconds)

    def look(self) -> None:
        """Take note of which runs are final now, as any reader would see them."""
        with self.database.read() as connection:
            self.seen.update({k: v for k, v in finals(connection).items() if k not in self.seen})

    def look_closely(self) -> None:
        """Take note of every result as well, none of which may change."""
        self.look()
        with self.database.read() as connection:
            self.earlier = finished_task_runs(connection)

    def violations(self) -> dict[int, list[str]]:
        """What breaks the invariants, now that everything is quiet."""
        with self.database.read() as connection:
            return check(
                connection,
                self.journal,
                acknowledged=self.acknowledged,
                seen=self.seen,
                earlier=self.earlier,
            )

    def _look(self) -> bool:
        # While the database is away nothing can be read either.
        with suppress(DatabaseUnavailable):
            self.look()
        return set(self.acknowledged) <= set(self.seen)

    async def started(self, run: FlowRunId, task: str, attempt: int = 1) -> int:
        """Wait until an attempt at a task has begun; the process that runs it."""

        def found() -> list[int]:
            starts = self.journal.starts(run, task)
            return [entry.pid for entry in starts if entry.attempt == attempt]

        await wait_until(found, description=f"attempt {attempt} at {task} begins", timeout=12)
        return found()[0]

    async def pause(self, process: Process) -> None:
        """SIGSTOP, outside of any commit.

        A process that is stopped while it has SQLite's one lock keeps everybody from writing for
        as long as it stands: there is nothing to recover from until it goes on.
        """
        while True:
            process.pause()
            if not self.database.is_sqlite:
                return
            try:
                await wait_until(self._can_write, description="a turn to write", timeout=0.2)
            except AssertionError:
                process.resume()
                # Or it would be stopped again before it has gone on at all.
                await asyncio.sleep(0.05)
            else:
                return

    def _can_write(self) -> bool:
        with ExitStack() as stack:
            for suffix in (".queue", ".lock"):
                lock = stack.enter_context(Path(f"{self.database.url.database}{suffix}").open("a"))
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return False
            return True

    def process(self, pid: int) -> Process:
        """The process of a pid."""
        return next(process for process in self.processes if process.pid == pid)

    def query(self, statement: str, **parameters: object) -> list[Json]:
        """The first column of what a statement finds."""
        with self.database.read() as connection:
            return list(connection.execute(text(statement), parameters).scalars())


@asynccontextmanager
async def open_checked(
    folder: Path, database_url: str, redis_url: str, **settings: object
) -> AsyncIterator[Cluster]:
    """A cluster for which the six invariants must hold at the end of the block."""
    cluster = Cluster(folder, database_url, redis_url, **settings)
    await cluster.open()
    try:
        yield cluster
        found = cluster.violations()
        assert found == {}, found
    finally:
        await cluster.close()


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False
