"""The group-commit writer: many callers, one transaction, and each its own answer."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import Connection, text

from shared.afterwards import Ready, at_the_end
from shared.database import Database, create_database
from shared.errors import DatabaseUnavailable
from shared.ids import BranchId
from shared.settings import load_settings
from shared.writer import Writer, apart
from tests.waiting import wait_until

PATIENCE_SECONDS = 10


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = create_database(load_settings(database_url=database_url))

    def prepare() -> None:
        with database.write() as connection:
            connection.execute(text("CREATE TABLE note (id INTEGER PRIMARY KEY)"))

    await asyncio.to_thread(prepare)
    yield database
    database.close()


@asynccontextmanager
async def _running(
    database: Database, *, queue_size: int = 1_000, timeout_seconds: float = 5
) -> AsyncIterator[Writer]:
    settings = load_settings(
        database_url=str(database.url),
        writer_queue_size=queue_size,
        database_timeout_seconds=timeout_seconds,
    )
    writer = Writer(database, settings)
    writer.start()
    try:
        yield writer
    finally:
        await asyncio.to_thread(writer.close)


class Gate:
    """A batch function that holds the writer's thread until it is let go."""

    def __init__(self) -> None:
        self._is_entered = threading.Event()
        self._may_leave = threading.Event()

    def __call__(self, connection: Connection, items: Sequence[object]) -> list[None]:
        """Wait inside the transaction."""
        self._is_entered.set()
        assert self._may_leave.wait(PATIENCE_SECONDS), "the test did not open the gate"
        return [None] * len(items)

    async def enter(self, writer: Writer) -> "asyncio.Task[None]":
        """Keep the writer busy; what is called from now on waits for its next transaction."""
        task = asyncio.create_task(writer.call(self, None))
        await wait_until(self._is_entered.is_set, description="the writer is at the gate")
        return task

    def open(self) -> None:
        """Let the writer go on."""
        self._may_leave.set()


def note(connection: Connection, items: Sequence[int]) -> list[tuple[int, int]]:
    """Store numbers; each caller is told its own and how many came with it."""
    connection.execute(text("INSERT INTO note (id) VALUES (:id)"), [{"id": one} for one in items])
    return [(one, len(items)) for one in items]


def note_twice(connection: Connection, items: Sequence[int]) -> list[int]:
    """Another function, which stores numbers of its own."""
    note(connection, [1_000 + one for one in items])
    return [len(items)] * len(items)


def _notes(database: Database) -> list[int]:
    with database.read() as connection:
        return list(connection.execute(text("SELECT id FROM note ORDER BY id")).scalars())


async def _waiting(writer: Writer, count: int) -> None:
    await wait_until(lambda: writer.waiting == count, description=f"{count} calls wait")


@apart
def note_alone(connection: Connection, items: Sequence[int]) -> list[int]:
    """One that wants a transaction of its own."""
    return [count for _, count in note(connection, items)]


def note_and_leave(connection: Connection, items: Sequence[int]) -> list[None]:
    """One that leaves work for the end of the transaction, the same work for every item."""
    at_the_end(connection, note_last, [7_000, *(7_000 + one for one in items)])
    return [None] * len(items)


def note_last(connection: Connection, items: Sequence[int]) -> Ready:
    """The work that was left."""
    assert not set(items) & set(connection.execute(text("SELECT id FROM note")).scalars())
    note(connection, items)
    return {BranchId(str(one)): "default" for one in sorted(items)}


async def test_a_call_returns_once_its_item_is_committed(database: Database) -> None:
    async with _running(database) as writer:
        assert await writer.call(note, 7) == (7, 1)
        assert _notes(database) == [7]


async def test_calls_of_one_moment_share_one_transaction_and_get_their_own_results(
    database: Database,
) -> None:
    gate = Gate()
    async with _running(database) as writer:
        held = await gate.enter(writer)
        calls = [asyncio.create_task(writer.call(note, number)) for number in range(50)]
        others = [asyncio.create_task(writer.call(note_twice, number)) for number in range(3)]
        await _waiting(writer, 53)
        transactions: list[int] = []
        _count_transactions(database, transactions)
        gate.open()
        await held
        assert await asyncio.gather(*calls) == [(number, 50) for number in range(50)]
        assert await asyncio.gather(*others) == [3, 3, 3]
    # The gate's own transaction had begun before.
    assert len(transactions) == 1
    assert len(_notes(database)) == 53


def _count_transactions(database: Database, begun: list[int]) -> None:
    """Let ``begun`` grow with every transaction of ``database``."""
    write = database.write

    def counted() -> object:
        begun.append(1)
        return write()

    database.write = counted  # type: ignore[method-assign, assignment]


async def test_results_come_in_order_whatever_the_functions_mix(database: Database) -> None:
    gate = Gate()
    async with _running(database) as writer:
        held = await gate.enter(writer)
        mixed = [
            asyncio.create_task(writer.call(note_twice if number % 2 else note, number))
            for number in range(10)
        ]
        await _waiting(writer, 10)
        gate.open()
        await held
        results = await asyncio.gather(*mixed)
    assert results == [5 if number % 2 else (number, 5) for number in range(10)]


async def test_one_bad_item_fails_its_own_caller_only(database: Database) -> None:
    gate = Gate()
    async with _running(database) as writer:
        await writer.call(note, 3)
        held = await gate.enter(writer)
        calls = [asyncio.create_task(writer.call(note, number)) for number in range(6)]
        other = asyncio.create_task(writer.call(note_twice, 1))
        await _waiting(writer, 7)
        gate.open()
        await held
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert await other == 1
        failed = results.pop(3)
        assert isinstance(failed, Exception)
        assert "note" in str(failed)
        assert not any(isinstance(result, BaseException) for result in results)
        assert await writer.call(note, 6) == (6, 1)
    assert _notes(database) == [*range(7), 1_001]


async def test_a_function_that_raises_halfway_leaves_nothing_of_it(database: Database) -> None:
    def raises(connection: Connection, items: Sequence[int]) -> list[None]:
        note(connection, items)
        raise ZeroDivisionError("in the middle")

    async with _running(database) as writer:
        with pytest.raises(ZeroDivisionError, match="in the middle"):
            await writer.call(raises, 1)
        assert await writer.call(note, 2) == (2, 1)
    assert _notes(database) == [2]


async def test_a_function_that_answers_for_too_few_fails_and_commits_nothing(
    database: Database,
) -> None:
    def forgets(connection: Connection, items: Sequence[int]) -> list[None]:
        note(connection, items)
        return []

    async with _running(database) as writer:
        with pytest.raises(ValueError, match="zip"):
            await writer.call(forgets, 1)
    assert _notes(database) == []


async def test_a_caller_that_is_cancelled_before_its_turn_writes_nothing(
    database: Database,
) -> None:
    gate = Gate()
    async with _running(database) as writer:
        held = await gate.enter(writer)
        calls = [asyncio.create_task(writer.call(note, number)) for number in range(3)]
        await _waiting(writer, 3)
        calls[1].cancel()
        with pytest.raises(asyncio.CancelledError):
            await calls[1]
        gate.open()
        await held
        assert await calls[0] == (0, 2)
        assert await calls[2] == (2, 2)
    assert _notes(database) == [0, 2]


async def test_a_caller_that_is_cancelled_in_its_turn_disturbs_nobody(database: Database) -> None:
    gate = Gate()
    async with _running(database) as writer:
        held = await gate.enter(writer)
        held.cancel()
        with pytest.raises(asyncio.CancelledError):
            await held
        waiting = asyncio.create_task(writer.call(note, 1))
        gate.open()
        assert await waiting == (1, 1)


async def test_more_calls_than_the_queue_holds_are_refused_at_once(database: Database) -> None:
    gate = Gate()
    async with _running(database, queue_size=10) as writer:
        held = await gate.enter(writer)
        calls = [asyncio.create_task(writer.call(note, number)) for number in range(10)]
        await _waiting(writer, 10)
        with pytest.raises(DatabaseUnavailable, match="10 writes are waiting"):
            await writer.call(note, 99)
        gate.open()
        await held
        await asyncio.gather(*calls)
        assert await writer.call(note, 10) == (10, 1)
    assert _notes(database) == list(range(11))


async def test_a_call_that_gets_no_turn_in_time_fails_and_is_never_written(
    database: Database,
) -> None:
    gate = Gate()
    async with _running(database, timeout_seconds=0.1) as writer:
        held = await gate.enter(writer)
        with pytest.raises(DatabaseUnavailable, match="no turn to write within"):
            await writer.call(note, 1)
        gate.open()
        await held
        assert await writer.call(note, 2) == (2, 1)
    assert _notes(database) == [2]


async def test_close_writes_what_waits_and_refuses_what_comes_after(database: Database) -> None:
    gate = Gate()
    async with _running(database) as writer:
        held = await gate.enter(writer)
        calls = [asyncio.create_task(writer.call(note, number)) for number in range(20)]
        await _waiting(writer, 20)
        closing = asyncio.create_task(asyncio.to_thread(writer.close))
        await wait_until(lambda: _refuses(writer), description="the writer closes")
        gate.open()
        await closing
        await held
        assert [await call for call in calls] == [(number, 20) for number in range(20)]
    assert _notes(database) == list(range(20))


async def _refuses(writer: Writer) -> bool:
    try:
        async with asyncio.timeout(0.001):
            await writer.call(note, 99)
    except DatabaseUnavailable:
        return True
    except TimeoutError:
        return False
    return False


async def test_a_writer_that_is_closed_refuses(database: Database) -> None:
    async with _running(database) as writer:
        pass
    with pytest.raises(DatabaseUnavailable, match="stopping"):
        await writer.call(note, 1)


async def test_calls_come_from_several_event_loops(database: Database) -> None:
    async with _running(database) as writer:

        async def call_many(first: int) -> list[tuple[int, int]]:
            return await asyncio.gather(*(writer.call(note, first + n) for n in range(25)))

        def in_a_loop_of_its_own(first: int) -> list[tuple[int, int]]:
            return asyncio.run(call_many(first))

        results = await asyncio.gather(
            *(asyncio.to_thread(in_a_loop_of_its_own, first) for first in (0, 100))
        )
    assert [number for part in results for number, _ in part] == [*range(25), *range(100, 125)]
    assert len(_notes(database)) == 50


async def test_an_event_loop_that_is_gone_does_not_stop_the_writer(database: Database) -> None:
    gate = Gate()
    async with _running(database) as writer:

        async def give_up() -> None:
            held = await gate.enter(writer)
            held.cancel()
            await asyncio.gather(held, return_exceptions=True)

        # Its loop is closed while the writer still works for it.
        await asyncio.to_thread(lambda: asyncio.run(give_up()))
        gate.open()
        assert await writer.call(note, 1) == (1, 1)
    assert _notes(database) == [1]


async def test_what_stays_apart_has_a_transaction_of_its_own(database: Database) -> None:
    gate = Gate()
    async with _running(database) as writer:
        held = await gate.enter(writer)
        calls = [asyncio.create_task(writer.call(note, number)) for number in range(3)]
        apart_ones = [asyncio.create_task(writer.call(note_alone, 50 + n)) for n in range(2)]
        await _waiting(writer, 5)
        transactions: list[int] = []
        _count_transactions(database, transactions)
        gate.open()
        await held
        await asyncio.gather(*calls)
        assert await asyncio.gather(*apart_ones) == [2, 2]
    assert len(transactions) == 2


async def test_what_is_left_for_the_end_is_done_once_before_the_commit(
    database: Database,
) -> None:
    gate, told = Gate(), dict[BranchId, str]()
    async with _running(database) as writer:
        writer.on_ready = told.update
        held = await gate.enter(writer)
        calls = [asyncio.create_task(writer.call(note_and_leave, number)) for number in (1, 2)]
        calls.append(asyncio.create_task(writer.call(note_and_leave, 1)))
        await _waiting(writer, 3)
        gate.open()
        await held
        await asyncio.gather(*calls)
        assert _notes(database) == [7_000, 7_001, 7_002]
        await wait_until(lambda: list(told) == ["7000", "7001", "7002"], description="all are told")


async def test_what_a_broken_transaction_left_is_not_done(database: Database) -> None:
    def leave_and_break(connection: Connection, items: Sequence[int]) -> list[None]:
        note_and_leave(connection, items)
        raise ValueError("broken")

    async with _running(database) as writer:
        with pytest.raises(ValueError, match="broken"):
            await writer.call(leave_and_break, 5)
        await writer.call(note, 1)
    assert _notes(database) == [1]


class _DeadlockVictimError(Exception):
    """What a driver raises for a transaction that PostgreSQL picked as a deadlock's victim."""

    sqlstate = "40P01"


async def test_a_lone_victim_of_a_deadlock_tries_again(database: Database) -> None:
    tries = 0

    def unlucky(connection: Connection, items: Sequence[int]) -> list[tuple[int, int]]:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise DatabaseUnavailable("deadlock detected") from _DeadlockVictimError()
        return note(connection, items)

    async with _running(database) as writer:
        assert await writer.call(unlucky, 1) == (1, 1)
    assert tries == 2
