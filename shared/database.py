"""The connection to the database, and the two ways to use it: read, or write in turn.

SQLite and PostgreSQL by URL. On SQLite a writer first takes a lock file beside the database
and then ``BEGIN IMMEDIATE``: SQLite's own busy handler starves processes under load, a queue
at a lock file does not. Reads run beside writes (WAL).

This module gives connections and translates what a driver raises when the database cannot be
used into :class:`~shared.errors.DatabaseUnavailable`. It knows no tables.
"""

import select
import sqlite3
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from shared.errors import DatabaseUnavailable, InvalidSettings
from shared.file_turns import FileTurns
from shared.settings import Settings

try:
    # The interpreter's own SQLite is often one with the WAL-reset bug; the wheel's is not.
    import pysqlite3.dbapi2 as sqlite_module
except ImportError:  # no wheel for this platform: `flow-manager doctor` judges the version
    sqlite_module = sqlite3

HEAD_REVISION = "0004"
"""The migration that this version of the code works with."""

_UPGRADE_LOCK = 7_236_114_501
"""PostgreSQL's advisory lock under which one process at a time migrates."""

_NETWORK_FILE_SYSTEMS = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "9p", "ceph"}


_ANNOUNCES = "flow_manager_announces"


def announces(connection: Connection) -> bool:
    """Whether the ends of the runs that are created on ``connection`` are told to webhooks."""
    return bool(connection.get_execution_options().get(_ANNOUNCES))


class Database:
    """One process's access to the database. Safe to use from several threads."""

    def __init__(self, url: URL, settings: Settings) -> None:
        self.url = url
        self.is_sqlite = url.get_backend_name() == "sqlite"
        self._turns: FileTurns | None = None
        if self.is_sqlite:
            path = _prepare_file(url)
            self._turns = FileTurns(path)
            self._readers = _sqlite_engine(url, settings)
            event.listen(self._readers, "begin", _begin)
            self._writers = _sqlite_engine(url, settings)
        else:
            self._readers = self._writers = _postgresql_engine(url, settings)
        self._idle: deque[Connection] = deque()
        """Connections kept open for the next who writes, the last used one first."""
        self._is_closed = False

    @property
    def engine(self) -> Engine:
        """The engine of the readers, for what needs one itself."""
        return self._readers

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection to read with. On SQLite its statements see one state, on PostgreSQL each
        sees what was committed before it: see :meth:`snapshot`.

        Raises:
            DatabaseUnavailable: where the database cannot be reached or read.
        """
        pool = self._readers.pool
        try:
            with self._translated(), self._readers.connect() as connection:
                yield connection
        finally:
            if self._is_closed:
                # Nobody else would ever close what has just been given back to it.
                pool.dispose()

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """The same, where all statements of the block see one state on both databases.

        Raises:
            DatabaseUnavailable: as :meth:`read` does.
        """
        with self.read() as connection:
            if not self.is_sqlite:
                # The driver's own word for the next BEGIN: it costs no round trip.
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction, committed at the end of the block and rolled back on an exception.

        Its connection is kept for the next one: to check one out, begin and return it by way of
        the pool costs more than a small transaction itself.

        Raises:
            DatabaseUnavailable: where it cannot be reached or written, its disk full included.
        """
        with self._translated(), self._turns.take() if self._turns else nullcontext():
            connection = self._take_idle() or self._writers.connect()
            try:
                if self.is_sqlite:
                    _driver(connection).execute("BEGIN IMMEDIATE")
                yield connection
                _driver(connection).commit()
            except BaseException:
                self._discard(connection)
                raise
            self._idle.append(connection)
        if self._is_closed:
            self._close_idle()

    def _take_idle(self) -> Connection | None:
        """A connection that is kept and still good."""
        try:
            connection = self._idle.pop()
        except IndexError:
            return None
        if self.is_sqlite or not _has_news(_driver(connection).fileno()):
            return connection
        # Nobody asked the server anything: what it has to say is that it closed it.
        self._discard(connection)
        return None

    def _discard(self, connection: Connection) -> None:
        """Close a connection after a failure, and the idle ones with it: what broke one, such
        as a restarted server, has mostly broken all."""
        for broken in (connection, *_drained(self._idle)):
            # Closing it rolls its transaction back, on whatever is left of it.
            with suppress(SQLAlchemyError):
                broken.invalidate()
                broken.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        driver = self._writers.dialect.dbapi
        assert driver is not None
        try:
            yield
        except (OperationalError, InterfaceError, PoolTimeout) as error:
            raise DatabaseUnavailable(_plain(error)) from error
        except DBAPIError as error:
            if error.connection_invalidated or _is_too_early(error.orig):
                raise DatabaseUnavailable(_plain(error)) from error
            raise
        except (driver.OperationalError, driver.InterfaceError) as error:
            # From a statement that was handed to the driver itself.
            raise DatabaseUnavailable(_plain(error)) from error
        except driver.ProgrammingError as error:
            if _is_too_early(error):
                raise DatabaseUnavailable(_plain(error)) from error
            raise

    def lease_clock(self, connection: Connection) -> float:
        """Seconds of the one clock that decides about leases.

        PostgreSQL's own, so that no worker's wall clock matters; on SQLite the monotonic
        clock, which the processes of one host share.
        """
        if self.is_sqlite:
            return time.monotonic()
        clock = connection.execute(text("SELECT extract(epoch FROM clock_timestamp())::float8"))
        return float(clock.scalar_one())

    def close(self) -> None:
        """Close every connection; one that a thread still uses is closed when that is done."""
        self._is_closed = True
        self._close_idle()
        self._readers.dispose()
        self._writers.dispose()

    def _close_idle(self) -> None:
        for connection in _drained(self._idle):
            connection.detach()
            connection.close()


def create_database(settings: Settings) -> Database:
    """The database that ``settings`` name. Nothing is connected yet.

    Raises:
        InvalidSettings: for a URL that is no SQLite or PostgreSQL one.
    """
    try:
        url = make_url(settings.database_url)
        backend = url.get_backend_name()
    except Exception as error:  # whatever the URL's parser has against it
        raise InvalidSettings("FLOW_DATABASE_URL is not a database URL") from error
    if backend == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    elif backend != "sqlite" or not url.database or url.database == ":memory:":
        raise InvalidSettings(
            "FLOW_DATABASE_URL must be sqlite:///path/to/file or postgresql+psycopg://host/name"
        )
    return Database(url, settings)


def upgrade(settings: Settings) -> bool:
    """Bring the schema to :data:`HEAD_REVISION`; whether anything had to be done.

    Safe to call from many processes at once. Alembic is loaded only when it is needed.

    Raises:
        InvalidSettings: a newer version made the database, and this one cannot use it.
    """
    database = create_database(settings)
    try:
        revision = current_revision(database)
        if revision == HEAD_REVISION:
            return False
        if revision is not None and revision > HEAD_REVISION:
            raise InvalidSettings(
                f"FLOW_DATABASE_URL: the database was made by a newer version (its schema is "
                f"{revision}, this version knows those up to {HEAD_REVISION})"
            )
        from shared.migrations.run import run_migrations  # 0.8 s, seldom needed

        with database.write() as connection:
            if not database.is_sqlite:
                connection.execute(text(f"SELECT pg_advisory_xact_lock({_UPGRADE_LOCK})"))
            run_migrations(connection)
        return True
    finally:
        database.close()


def current_revision(database: Database) -> str | None:
    """The schema's revision; None for an empty database."""
    with database.read() as connection:
        if not connection.dialect.has_table(connection, "alembic_version"):
            return None
        revision = connection.execute(text("SELECT version_num FROM alembic_version"))
        return revision.scalar_one_or_none()


def sqlite_version() -> str:
    """The version of the SQLite library in use."""
    return str(sqlite_module.sqlite_version)


def _drained(connections: deque[Connection]) -> list[Connection]:
    drained = []
    while connections:
        drained.append(connections.pop())
    return drained


def _driver(connection: Connection) -> Any:
    """The driver's own connection."""
    driver = connection.connection.dbapi_connection
    assert driver is not None
    return driver


def _has_news(descriptor: int) -> bool:
    """Whether there is something to read, the end of the stream included."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _sqlite_engine(url: URL, settings: Settings) -> Engine:
    module: ModuleType = sqlite_module
    engine = create_engine(
        url,
        module=module,
        execution_options={_ANNOUNCES: bool(settings.webhook_urls)},
        # Parameters are what tasks and clients gave: they belong into no log.
        hide_parameters=True,
        pool_size=8,
        max_overflow=32,
        pool_timeout=settings.database_timeout_seconds,
        connect_args={
            "check_same_thread": False,
            "timeout": settings.database_timeout_seconds,
            "isolation_level": None,
            "cached_statements": 512,
        },
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        _switch_to_wal(cursor, settings.database_timeout_seconds)
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA cache_size=-16384")
        cursor.execute("PRAGMA journal_size_limit=67108864")
        cursor.close()

    return engine


def _switch_to_wal(cursor: Any, timeout_seconds: float) -> None:
    """Switch a file to WAL, which fails at once while another process is doing the same."""
    until = time.monotonic() + timeout_seconds
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite_module.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.002)
        else:
            return


def _postgresql_engine(url: URL, settings: Settings) -> Engine:
    seconds = max(1, round(settings.database_timeout_seconds))
    return create_engine(
        url,
        execution_options={_ANNOUNCES: bool(settings.webhook_urls)},
        # Parameters are what tasks and clients gave: they belong into no log.
        hide_parameters=True,
        pool_size=8,
        max_overflow=32,
        pool_pre_ping=False,
        pool_timeout=settings.database_timeout_seconds,
        isolation_level="READ COMMITTED",
        connect_args={
            "connect_timeout": seconds,
            "options": f"-c lock_timeout={seconds * 1000} -c TimeZone=UTC",
            "keepalives_idle": 10,
            "tcp_user_timeout": seconds * 1000,
            "application_name": "flow-manager",
        },
    )


def _prepare_file(url: URL) -> Path:
    path = Path(str(url.database)).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = file_system_of(path.parent)
    if kind in _NETWORK_FILE_SYSTEMS:
        raise InvalidSettings(
            f"FLOW_DATABASE_URL: {path.parent} is on a network file system ({kind}), where "
            "SQLite can lose data; use a local disk, or PostgreSQL"
        )
    return path


def file_system_of(folder: Path) -> str | None:
    """The kind of file system that holds ``folder``, where the system tells."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    best, kind = "", None
    for mount in mounts:
        _, place, name, *_ = mount.split(" ")
        place = place.replace("\\040", " ")
        inside = place == "/" or folder == Path(place) or Path(place) in folder.parents
        if inside and len(place) >= len(best):
            best, kind = place, name
    return kind


def _is_too_early(error: BaseException | None) -> bool:
    """Whether a table or column is missing: the schema is about to be made."""
    return getattr(error, "sqlstate", None) in ("42P01", "42703")


def _plain(error: Exception) -> str:
    """What the driver said, without the statement and its parameters."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    lines = str(cause).strip().splitlines()
    return lines[0] if lines else type(cause).__name__
