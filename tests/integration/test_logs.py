"""Log lines: visible while a task runs, kept whatever becomes of it, stored once."""

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text

from shared.database import Database, create_database
from shared.errors import DatabaseUnavailable
from shared.ids import FlowRunId, new_id
from shared.models import LogLine
from shared.queries.runs import get_run
from shared.settings import Settings, load_settings
from shared.status import RunStatus
from shared.store.logs import LoggedLine, add_lines
from shared.store.stopping import Cancel, cancel_runs
from shared.writer import Writer
from tests.integration import log_tasks
from tests.integration.engine_rig import Rig
from tests.waiting import wait_until
from worker import journal as journal_module
from worker.capture import CURRENT, CaptureHandler
from worker.engine import Engine
from worker.journal import Journal

MODULE = log_tasks.__name__
SOON = 0.2
NEVER = 3_600.0
"""Seconds between flushes, so that what is stored was stored by something else."""
FLOW = {"id": "test", "start_task": "talk", "tasks": [{"name": "talk", "type": "tells"}]}

logger = logging.getLogger("some.library")


@asynccontextmanager
async def running_engine(database_url: str, redis_url: str, **changes: Any) -> AsyncIterator[Rig]:
    given = {"sweep_seconds": 0.1, "heartbeat_seconds": 0.2, "grace_seconds": 0.2, **changes}
    chosen = load_settings(
        database_url=database_url, redis_url=redis_url, task_modules=MODULE, **given
    )
    rig = Rig(Engine(chosen))
    await rig.engine.start()
    try:
        yield rig
    finally:
        await rig.engine.stop()
        log_tasks.GOES_ON.clear()


@pytest.fixture
def settings(database_url: str) -> Settings:
    return load_settings(database_url=database_url)


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    database = create_database(settings)
    yield database
    database.close()


@pytest.fixture
def flow_run_id(database: Database) -> FlowRunId:
    """A run that is not over."""
    run_id = FlowRunId(new_id())
    with database.write() as connection:
        connection.execute(
            text(
                "INSERT INTO flow_run (id, flow_id, name, definition_hash, status, tags, active,"
                " failed, task_runs, created_at)"
                " VALUES (:id, 'f', '', '', 'running', '[]', 1, 0, 1, :at)"
            ),
            {"id": run_id, "at": datetime.now(UTC)},
        )
    return run_id


def messages(database: Database, run_id: FlowRunId) -> list[str]:
    """The lines of a run as it is shown."""
    with database.read() as connection:
        stored = get_run(connection, run_id)
    return [] if stored is None else [line.message for line in stored.logs]


def stored_lines(database: Database) -> list[Any]:
    """All lines there are."""
    with database.read() as connection:
        table = LogLine.__table__
        return list(connection.execute(select(table).order_by(table.c.id)).all())


def start_worker(log: Path, **given: str) -> "subprocess.Popen[bytes]":
    """A worker in a process of its own."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FLOW_")}
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "worker"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
            env={**environment, **{f"FLOW_{name.upper()}": v for name, v in given.items()}},
        )


def lines_of(run_id: str, *said: str) -> list[LoggedLine]:
    """Lines of one attempt."""
    at, task_run_id = datetime.now(UTC), new_id()
    return [LoggedLine(new_id(), run_id, task_run_id, "talk", at, "info", line) for line in said]


# --- Attempts ------------------------------------------------------------------------------------


async def test_a_line_is_seen_before_its_task_ends_and_is_stored_once(
    database_url: str, redis_url: str
) -> None:
    async with running_engine(database_url, redis_url, log_flush_seconds=SOON) as rig:
        run_id = await rig.submit(FLOW)
        database = rig.engine.database
        await wait_until(
            lambda: messages(database, run_id) == ["first"], description="the line is stored"
        )
        assert rig.run(run_id).status == RunStatus.RUNNING
        log_tasks.GOES_ON[run_id].set()
        await rig.ended(run_id)
        await rig.engine.runner.journal.flush(waited_seconds=0)
        assert messages(database, run_id) == ["first", "second"]
        task_run = rig.tasks(run_id)["talk"]
        assert {line.task_run_id for line in stored_lines(database)} == {task_run.id}


async def test_lines_of_a_short_task_are_there_with_its_result(
    database_url: str, redis_url: str
) -> None:
    async with running_engine(database_url, redis_url, log_flush_seconds=NEVER) as rig:
        run_id = await rig.submit(FLOW)
        await wait_until(lambda: run_id in log_tasks.GOES_ON, description="it has begun")
        log_tasks.GOES_ON[run_id].set()
        await rig.ended(run_id)
        assert messages(rig.engine.database, run_id) == ["first", "second"]


async def test_a_cancelled_run_keeps_its_lines(database_url: str, redis_url: str) -> None:
    async with running_engine(database_url, redis_url, log_flush_seconds=SOON) as rig:
        run_id = await rig.submit(FLOW)
        await wait_until(lambda: run_id in log_tasks.GOES_ON, description="it has begun")
        await rig.engine.writer.call(cancel_runs, Cancel(run_id, datetime.now(UTC)))
        await wait_until(
            lambda: messages(rig.engine.database, run_id) == ["first", "stopped"],
            description="its lines are stored",
        )


async def test_a_worker_that_stops_stores_what_its_attempts_logged(
    database: Database, database_url: str, redis_url: str
) -> None:
    async with running_engine(database_url, redis_url, log_flush_seconds=NEVER) as rig:
        run_id = await rig.submit(FLOW)
        await wait_until(lambda: run_id in log_tasks.GOES_ON, description="it has begun")
    assert messages(database, run_id) == ["first", "stopped"]


async def test_a_step_that_is_refused_keeps_its_lines(database_url: str, redis_url: str) -> None:
    # Its heartbeats come too late to tell it that its run was cancelled.
    late = {"heartbeat_seconds": 1_000, "lease_seconds": 3_000, "log_flush_seconds": SOON}
    async with running_engine(database_url, redis_url, **late) as rig:
        run_id = await rig.submit(FLOW)
        await wait_until(lambda: run_id in log_tasks.GOES_ON, description="it has begun")
        await rig.engine.writer.call(cancel_runs, Cancel(run_id, datetime.now(UTC)))
        log_tasks.GOES_ON[run_id].set()
        await wait_until(
            lambda: messages(rig.engine.database, run_id) == ["first", "second"],
            description="its lines are stored",
        )
        assert rig.tasks(run_id)["talk"].reason == "run_cancelled"


async def test_kill_9_of_a_worker_keeps_what_was_stored(
    database: Database, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    given = {
        "database_url": database_url,
        "redis_url": redis_url,
        "task_modules": str(Path(log_tasks.__file__)),
    }
    client = Engine(load_settings(**given))
    client.writer.start()
    with database.read() as connection:
        client.clock.synchronise(connection)
    run_id = await Rig(client).submit(FLOW)
    await asyncio.to_thread(client.writer.close)
    client.database.close()
    worker = start_worker(tmp_path / "worker.log", **given, log_flush_seconds=str(SOON))
    try:
        await wait_until(
            lambda: messages(database, run_id) == ["first"],
            description="the line is stored",
            timeout=15,
        )
    finally:
        worker.kill()
        worker.wait()
    assert messages(database, run_id) == ["first"]


# --- The store -----------------------------------------------------------------------------------


def test_a_line_that_is_sent_again_is_stored_once(
    database: Database, flow_run_id: FlowRunId
) -> None:
    first, second = lines_of(flow_run_id, "first", "second")
    for sent in ([[first]], [[first, second], [second]]):
        with database.write() as connection:
            assert add_lines(connection, sent) == [None] * len(sent)
    assert messages(database, flow_run_id) == ["first", "second"]


def test_lines_of_a_run_that_is_deleted_are_dropped(
    database: Database, flow_run_id: FlowRunId
) -> None:
    with database.write() as connection:
        add_lines(connection, [lines_of(new_id(), "gone"), lines_of(flow_run_id, "here")])
        add_lines(connection, [lines_of(new_id(), "gone")])
    assert [line.message for line in stored_lines(database)] == ["here"]


# --- The journal ---------------------------------------------------------------------------------


class FaultyWriter(Writer):
    """A writer that fails when a test says so."""

    is_away = False
    loses_answers = False

    def __init__(self, database: Database, settings: Settings) -> None:
        super().__init__(database, settings)
        self.sizes: list[int] = []
        """Lines of each write that was asked for."""

    async def call(self, function: Any, item: Any) -> Any:
        """Write, or not, or write and say that it went wrong."""
        self.sizes.append(len(item))
        if self.is_away:
            raise DatabaseUnavailable("away")
        result = await super().call(function, item)
        if self.loses_answers:
            raise DatabaseUnavailable("the connection broke at the commit")
        return result


@pytest.fixture
def writer(database: Database, settings: Settings) -> Iterator[FaultyWriter]:
    writer = FaultyWriter(database, settings)
    writer.start()
    yield writer
    writer.close()


@pytest.fixture
def captured(settings: Settings) -> Iterator[CaptureHandler]:
    captured = CaptureHandler(settings)
    captured.install()
    logger.setLevel(logging.INFO)
    yield captured
    captured.remove()


@pytest.fixture
def journal(captured: CaptureHandler, writer: FaultyWriter, settings: Settings) -> Journal:
    return Journal(captured, writer, settings)


async def test_lines_wait_in_memory_while_the_database_is_away(
    database: Database,
    flow_run_id: FlowRunId,
    writer: FaultyWriter,
    journal: Journal,
    captured: CaptureHandler,
) -> None:
    writer.is_away = True
    journal.keep(lines_of(flow_run_id, "of one that is over"))
    capture = captured.start(flow_run_id, new_id(), "talk")
    token = CURRENT.set(capture)
    for i in range(3):
        logger.info("running %d", i)
        await journal.flush(waited_seconds=0)
    CURRENT.reset(token)
    assert messages(database, flow_run_id) == []
    writer.is_away = False
    await journal.flush(waited_seconds=0)
    assert messages(database, flow_run_id) == [
        "of one that is over",
        *(f"running {i}" for i in range(3)),
    ]
    assert capture.close() == []


async def test_a_flush_whose_answer_got_lost_is_sent_again_and_doubles_nothing(
    database: Database, flow_run_id: FlowRunId, writer: FaultyWriter, journal: Journal
) -> None:
    writer.loses_answers = True
    journal.keep(lines_of(flow_run_id, "first"))
    await journal.flush(waited_seconds=0)
    journal.keep(lines_of(flow_run_id, "second"))
    writer.loses_answers = False
    await journal.flush(waited_seconds=0)
    await journal.flush(waited_seconds=0)
    assert messages(database, flow_run_id) == ["first", "second"]
    assert writer.sizes == [1, 2]


async def test_all_attempts_share_one_write_and_none_costs_nothing(
    database: Database,
    flow_run_id: FlowRunId,
    writer: FaultyWriter,
    journal: Journal,
    captured: CaptureHandler,
) -> None:
    await journal.flush(waited_seconds=0)
    assert writer.sizes == []
    for _ in range(20):
        token = CURRENT.set(captured.start(flow_run_id, new_id(), "talk"))
        logger.info("line")
        CURRENT.reset(token)
    await journal.flush(waited_seconds=0)
    assert writer.sizes == [20]
    assert len(stored_lines(database)) == 20


async def test_many_lines_are_stored_in_writes_of_a_bounded_size(
    database: Database,
    flow_run_id: FlowRunId,
    writer: FaultyWriter,
    journal: Journal,
    captured: CaptureHandler,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(journal_module, "_MAX_BATCH", 3)
    journal.keep(lines_of(flow_run_id, "a", "b", "c", "d"))
    token = CURRENT.set(captured.start(flow_run_id, new_id(), "talk"))
    for i in range(4):
        logger.info("%d", i)
    CURRENT.reset(token)
    await journal.flush(waited_seconds=0)
    assert messages(database, flow_run_id) == ["a", "b", "c", "d", "0", "1", "2", "3"]
    assert writer.sizes == [3, 3, 2]


async def test_what_waits_for_the_database_is_bounded(
    database: Database,
    flow_run_id: FlowRunId,
    journal: Journal,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(journal_module, "_MAX_KEPT", 3)
    journal.keep(lines_of(flow_run_id, "a", "b"))
    journal.keep(lines_of(flow_run_id, "c", "d"))
    journal.keep(lines_of(flow_run_id, "e"))
    await journal.flush(waited_seconds=0)
    assert messages(database, flow_run_id) == ["a", "b", "c"]


async def test_closing_does_not_wait_for_a_database_that_is_away(
    flow_run_id: FlowRunId, writer: FaultyWriter, journal: Journal
) -> None:
    writer.is_away = True
    journal.keep(lines_of(flow_run_id, "lost"))
    async with asyncio.timeout(2):
        await journal.close()
