"""The writer while another process has the turn at SQLite's one lock and does not go on."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from shared.database import Database, create_database
from shared.errors import DatabaseUnavailable
from shared.file_turns import FileTurns
from shared.settings import load_settings
from shared.writer import Writer
from tests.waiting import wait_until

PATIENCE_SECONDS = 10


@pytest.fixture
def database(bare_sqlite_url: str) -> Iterator[Database]:
    database = create_database(load_settings(database_url=bare_sqlite_url))
    with database.write() as connection:
        connection.execute(text("CREATE TABLE note (id INTEGER PRIMARY KEY)"))
    yield database
    database.close()


@asynccontextmanager
async def _running(database: Database) -> AsyncIterator[Writer]:
    settings = load_settings(database_url=str(database.url), database_timeout_seconds=0.1)
    writer = Writer(database, settings)
    writer.start()
    try:
        yield writer
    finally:
        await asyncio.to_thread(writer.close)


def note(connection: Connection, items: Sequence[int]) -> list[int]:
    """Store numbers."""
    connection.execute(text("INSERT INTO note (id) VALUES (:id)"), [{"id": one} for one in items])
    return list(items)


@asynccontextmanager
async def _lock_held_elsewhere(database: Database) -> AsyncIterator[None]:
    """Have another process, as far as the files' locks can tell, stop in its turn."""
    turns = FileTurns(Path(str(database.url.database)))
    is_held, may_leave = threading.Event(), threading.Event()

    def hold() -> None:
        with turns.take():
            is_held.set()
            may_leave.wait(PATIENCE_SECONDS)

    holder = asyncio.create_task(asyncio.to_thread(hold))
    await wait_until(is_held.is_set, description="the lock is held")
    try:
        yield
    finally:
        may_leave.set()
        await holder


async def test_no_call_waits_forever_for_a_process_that_stopped_in_its_turn(
    database: Database,
) -> None:
    async with _running(database) as writer:
        async with _lock_held_elsewhere(database):
            # The first of them is in the writer's hands, the others wait behind it.
            calls = [writer.call(note, number) for number in range(3)]
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(result) for result in results] == [DatabaseUnavailable] * 3
        assert await writer.call(note, 7) == 7
    with database.read() as connection:
        assert connection.execute(text("SELECT id FROM note")).scalars().all() == [7]


async def test_a_writer_can_be_closed_while_another_process_holds_the_lock(
    database: Database,
) -> None:
    async with _running(database) as writer, _lock_held_elsewhere(database):
        with pytest.raises(DatabaseUnavailable):
            await writer.call(note, 1)
        async with asyncio.timeout(PATIENCE_SECONDS / 2):
            await asyncio.to_thread(writer.close)
