"""The connection to the database: writers take turns, and what is broken is replaced."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from shared import database as database_module
from shared.database import Database, create_database, file_system_of, sqlite_version
from shared.errors import DatabaseUnavailable, InvalidSettings
from shared.settings import load_settings
from tests.integration.store_rig import at_once
from tests.servers import free_port
from tests.waiting import block_until

ROOT = Path(__file__).parents[2]
PROCESSES = 4
SECONDS = 2.0
WRITING_PROCESS = """
import json, sys, time
from sqlalchemy import text
from shared.database import create_database
from shared.settings import load_settings
database = create_database(load_settings(database_url=sys.argv[1], database_timeout_seconds=5))
if sys.argv[3] == "deferred":
    # What the turns and BEGIN IMMEDIATE guard against: a read that becomes a write.
    from contextlib import nullcontext
    import shared.database
    database._turns = None
    driver = shared.database._driver
    class Deferred:
        def __init__(self, connection):
            self.connection = driver(connection)
        def execute(self, _begin):
            self.connection.execute("BEGIN")
            self.connection.execute("SELECT id FROM note").fetchall()
        def __getattr__(self, name):
            return getattr(self.connection, name)
    shared.database._driver = Deferred
print("ready", flush=True)
sys.stdin.readline()
until, written, longest, errors = time.monotonic() + float(sys.argv[2]), 0, 0.0, []
while (began := time.monotonic()) < until:
    try:
        with database.write() as connection:
            connection.execute(text("UPDATE note SET id = id + 1"))
        written += 1
    except Exception as error:
        errors = [*errors[:10], repr(error)]
    longest = max(longest, time.monotonic() - began)
print(json.dumps({"written": written, "longest": longest, "errors": errors}))
"""


@contextmanager
def _opened(url: str, timeout_seconds: float = 5) -> Iterator[Database]:
    settings = load_settings(database_url=url, database_timeout_seconds=timeout_seconds)
    database = create_database(settings)
    try:
        yield database
    finally:
        database.close()


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with _opened(database_url) as database:
        with database.write() as connection:
            connection.execute(text("CREATE TABLE note (id BIGINT PRIMARY KEY)"))
        yield database


def _add(database: Database, number: int) -> None:
    with database.write() as connection:
        connection.execute(text("INSERT INTO note (id) VALUES (:id)"), {"id": number})


def _notes(database: Database) -> list[int]:
    with database.read() as connection:
        return list(connection.execute(text("SELECT id FROM note ORDER BY id")).scalars())


# Transactions.


def test_what_is_written_is_committed_at_the_end_of_the_block(database: Database) -> None:
    with database.write() as connection:
        connection.execute(text("INSERT INTO note (id) VALUES (1)"))
        assert _notes(database) == []
    assert _notes(database) == [1]


@pytest.mark.parametrize("way", [Database.read, Database.snapshot, Database.write])
def test_a_connection_in_use_when_all_are_closed_is_closed_after_its_use(
    database: Database, way: Callable[[Database], AbstractContextManager[Connection]]
) -> None:
    with way(database) as connection:
        database.close()
        assert connection.execute(text("SELECT count(*) FROM note")).scalar_one() == 0
        driver: Any = connection.connection.dbapi_connection
    with pytest.raises(Exception, match="closed"):  # of either driver
        driver.execute("SELECT 1")


def test_an_exception_rolls_all_of_it_back(database: Database) -> None:
    _add(database, 1)
    with pytest.raises(IntegrityError):
        _add_two(database, 2, 1)
    assert _notes(database) == [1]
    _add(database, 2)
    assert _notes(database) == [1, 2]


def _add_two(database: Database, one: int, other: int) -> None:
    with database.write() as connection:
        for number in (one, other):
            connection.execute(text("INSERT INTO note (id) VALUES (:id)"), {"id": number})


def test_a_read_keeps_seeing_one_state_on_sqlite(sqlite_url: str) -> None:
    with _opened(sqlite_url) as database:
        with database.write() as connection:
            connection.execute(text("CREATE TABLE note (id BIGINT PRIMARY KEY)"))
        with database.read() as connection:
            count = text("SELECT count(*) FROM note")
            assert connection.execute(count).scalar_one() == 0
            _add(database, 1)
            assert connection.execute(count).scalar_one() == 0
        assert _notes(database) == [1]


def test_threads_that_write_at_once_lose_nothing(database: Database) -> None:
    def add_many(first: int) -> None:
        for number in range(first, first + 40):
            _add(database, number)

    at_once(*(partial(add_many, first) for first in (0, 100, 200, 300)))
    assert len(_notes(database)) == 160


# SQLite's turns.


def test_processes_that_write_without_pause_all_get_their_turns(sqlite_url: str) -> None:
    results = _write_without_pause(sqlite_url, "in turn")
    assert [result["errors"] for result in results] == [[]] * PROCESSES
    written = [result["written"] for result in results]
    with _opened(sqlite_url) as database:
        assert _notes(database) == [sum(written)]
    fair_share = sum(written) / PROCESSES
    assert min(written) >= fair_share / 2, written
    assert max(result["longest"] for result in results) < SECONDS, results


def test_without_turns_and_an_immediate_begin_the_file_is_locked(sqlite_url: str) -> None:
    """Negative control."""
    results = _write_without_pause(sqlite_url, "deferred")
    assert any("database is locked" in error for one in results for error in one["errors"])


def _write_without_pause(url: str, how: str) -> list[dict[str, Any]]:
    with _opened(url) as database, database.write() as connection:
        connection.execute(text("CREATE TABLE note (id BIGINT PRIMARY KEY)"))
        connection.execute(text("INSERT INTO note (id) VALUES (0)"))
    children = [_writing_process(url, how) for _ in range(PROCESSES)]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    answers = [child.communicate(timeout=20) for child in children]
    assert [child.returncode for child in children] == [0] * PROCESSES, answers
    return [json.loads(told) for told, _ in answers]


def _writing_process(url: str, how: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", WRITING_PROCESS, url, str(SECONDS), how],
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_a_turn_that_fails_is_over(sqlite_url: str) -> None:
    with _opened(sqlite_url) as database, _opened(sqlite_url) as other:
        with pytest.raises(ZeroDivisionError), database.write():
            raise ZeroDivisionError
        with other.write() as connection:
            connection.execute(text("CREATE TABLE note (id BIGINT PRIMARY KEY)"))
        _add(database, 1)
        _add(other, 2)
        assert _notes(database) == [1, 2]


def test_reads_do_not_wait_for_who_writes(database: Database) -> None:
    with database.write() as connection:
        connection.execute(text("INSERT INTO note (id) VALUES (1)"))
        (seen,) = at_once(lambda: _notes(database))
    assert seen == []


# Broken connections.


@pytest.mark.postgres
def test_a_kept_connection_that_the_server_closed_is_replaced(postgresql_url: str) -> None:
    with _opened(postgresql_url) as database, _opened(postgresql_url) as other:
        first, again = _backend(database), _backend(database)
        assert first == again
        _terminate(other, first)
        assert _backend(database) not in {first, _backend(other)}


@pytest.mark.postgres
def test_a_connection_that_breaks_in_a_transaction_fails_it_and_the_next_one_works(
    postgresql_url: str,
) -> None:
    with _opened(postgresql_url) as database, _opened(postgresql_url) as other:
        with pytest.raises(DatabaseUnavailable):
            _write_while_terminated(database, other)
        assert _backend(database)
        with database.read() as connection:
            assert connection.execute(text("SELECT to_regclass('lost')")).scalar_one() is None


def _write_while_terminated(database: Database, other: Database) -> None:
    with database.write() as connection:
        connection.execute(text("CREATE TABLE lost (id BIGINT)"))
        _terminate(other, connection.execute(text("SELECT pg_backend_pid()")).scalar_one())
        connection.execute(text("INSERT INTO lost (id) VALUES (1)"))


def _backend(database: Database) -> int:
    """The server's process behind the connection that writes."""
    with database.write() as connection:
        return int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())


def _terminate(database: Database, backend: int) -> None:
    """Let the server end a connection, and wait until it has."""
    parameters = {"backend": backend}
    with database.write() as connection:
        connection.execute(text("SELECT pg_terminate_backend(:backend)"), parameters)
    alive = text("SELECT count(*) FROM pg_stat_activity WHERE pid = :backend")

    def is_gone() -> bool:
        with database.read() as connection:
            return bool(connection.execute(alive, parameters).scalar_one() == 0)

    block_until(is_gone, description="the server has ended the connection")


@pytest.mark.parametrize("use", ["read", "write"])
def test_a_server_that_is_away_is_unavailable(use: str) -> None:
    url = f"postgresql+psycopg://postgres@127.0.0.1:{free_port()}/none"
    with (
        _opened(url, timeout_seconds=1) as database,
        pytest.raises(DatabaseUnavailable),
        getattr(database, use)(),
    ):
        pass


def test_a_full_disk_is_unavailable_and_the_reason_holds_no_data(sqlite_url: str) -> None:
    with _opened(sqlite_url) as database:
        with database.write() as connection:
            connection.execute(text("CREATE TABLE page (content TEXT)"))
        with pytest.raises(DatabaseUnavailable) as told:
            _fill_up(database)
        assert "full" in str(told.value)
        assert "secret" not in str(told.value)
        # The broken connection, and its limit with it, is not used again.
        with database.write() as connection:
            connection.execute(
                text("INSERT INTO page (content) VALUES (:it)"), {"it": "x" * 50_000}
            )


_INSERT_PAGE = text("INSERT INTO page (content) VALUES (:content)")


def _fill_up(database: Database) -> None:
    with database.write() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 4")
        connection.execute(_INSERT_PAGE, {"content": "secret" * 10_000})


def test_a_file_that_is_no_database_is_an_error_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "flow.db"
    path.write_bytes(b"this is a letter to a friend, and nothing else" * 100)
    with (
        _opened(f"sqlite:///{path}") as database,
        pytest.raises(Exception, match="not a database"),
        database.write(),
    ):
        pass


# Where it is.


def test_the_folder_of_the_file_is_made(tmp_path: Path) -> None:
    with _opened(f"sqlite:///{tmp_path / 'not' / 'yet' / 'flow.db'}") as database:
        with database.write() as connection:
            connection.execute(text("CREATE TABLE note (id BIGINT PRIMARY KEY)"))
        assert _notes(database) == []


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs"])
def test_sqlite_on_a_network_file_system_is_refused(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(database_module, "file_system_of", lambda _: kind)
    with pytest.raises(InvalidSettings, match=f"network file system .{kind}."):
        create_database(load_settings(database_url=sqlite_url))


def test_the_file_system_is_that_of_the_nearest_mount(monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = """\
/dev/b /data/local xfs rw 0 0
server:/x /data nfs4 rw 0 0
/dev/a / ext4 rw 0 0
server:/y /with\\040space cifs rw 0 0
"""
    monkeypatch.setattr(Path, "read_text", lambda _, **__: mounts)
    for folder, kind in {
        "/": "ext4",
        "/database": "ext4",
        "/data": "nfs4",
        "/data/flow": "nfs4",
        "/data/local/flow": "xfs",
        "/with space/flow": "cifs",
    }.items():
        assert file_system_of(Path(folder)) == kind, folder


def test_a_system_that_does_not_tell_its_mounts_is_trusted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: Path, **__: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", refuse)
    assert file_system_of(Path("/data")) is None


@pytest.mark.parametrize(
    "url", ["mysql://host/name", "sqlite://", "sqlite:///:memory:", "nonsense", ""]
)
def test_other_databases_are_refused(url: str) -> None:
    with pytest.raises(InvalidSettings, match="FLOW_DATABASE_URL"):
        create_database(load_settings(database_url=url))


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg", "postgresql+asyncpg"])
def test_every_spelling_of_postgresql_uses_the_driver_that_we_have(scheme: str) -> None:
    with _opened(f"{scheme}://me@host/name") as database:
        assert database.url.drivername == "postgresql+psycopg"
        assert not database.is_sqlite


# Clocks and versions.


def test_the_lease_clock_goes_forward(database: Database) -> None:
    with database.write() as connection:
        first, second = database.lease_clock(connection), database.lease_clock(connection)
    assert first <= second < first + 10


def test_processes_of_one_host_read_the_same_lease_clock(database_url: str) -> None:
    with _opened(database_url) as one, _opened(database_url) as other:
        with one.read() as connection:
            first = one.lease_clock(connection)
        with other.read() as connection:
            second = other.lease_clock(connection)
    assert first <= second < first + 10


def test_the_sqlite_in_use_has_no_wal_reset_bug() -> None:
    version = tuple(int(part) for part in sqlite_version().split("."))
    assert version >= (3, 51, 3), version
