"""The checks of ``flow-manager doctor``. Each looks at one thing and never raises."""

import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from shared.database import (
    HEAD_REVISION,
    Database,
    create_database,
    current_revision,
    sqlite_version,
)
from shared.errors import FlowManagerError
from shared.queries.workers import list_workers
from shared.registry import load_registry
from shared.settings import Settings

REDIS_SECONDS = 3.0
"""What Redis may take to answer a doctor."""
LEAST_FREE_BYTES = 200_000_000
"""Less free space than this is worth a warning."""

# Versions of SQLite in which the WAL-reset bug is repaired: from each on, in its own series.
_REPAIRED = ((3, 51, 3), (3, 50, 7), (3, 44, 6))
_FIRST_BROKEN = (3, 7, 0)


class Verdict(StrEnum):
    """How a check ended."""

    FINE = "fine"
    DOUBTFUL = "doubtful"
    """It works, but somebody should know."""
    WRONG = "wrong"
    """It does not work, or may lose data."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    check: str
    verdict: Verdict
    detail: str


def check_readiness(settings: Settings) -> list[Finding]:
    """Whether the database and Redis answer."""
    return [*_database(settings, with_workers=False), _redis(settings)]


def check_installation(settings: Settings) -> list[Finding]:
    """Everything."""
    findings = [_python()]
    if settings.is_sqlite:
        findings.append(judge_sqlite(sqlite_version()))
        findings.extend(_data_folder(settings))
    return [*findings, *_database(settings, with_workers=True), _redis(settings), *_tasks(settings)]


def judge_sqlite(version: str) -> Finding:
    """Whether this version of SQLite can corrupt a file that several processes write."""
    numbers = tuple(int(part) for part in version.split("."))
    is_broken = _FIRST_BROKEN <= numbers < _REPAIRED[0] and not any(
        numbers[:2] == repaired[:2] and numbers >= repaired for repaired in _REPAIRED[1:]
    )
    if not is_broken:
        return Finding("SQLite", Verdict.FINE, version)
    return Finding(
        "SQLite",
        Verdict.WRONG,
        f"{version} has the WAL-reset bug, which can corrupt a database that several processes "
        "write: install pysqlite3, a SQLite from 3.51.3 on, or use PostgreSQL",
    )


def _python() -> Finding:
    version = platform.python_version()
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        return Finding("Python", Verdict.FINE, f"{version} at {sys.executable}")
    return Finding("Python", Verdict.DOUBTFUL, f"{version} is not one of 3.11 to 3.13")


def _data_folder(settings: Settings) -> Iterator[Finding]:
    try:
        # Refuses a network file system, and makes the folder where it is missing.
        database = create_database(settings)
    except (FlowManagerError, OSError) as error:
        yield Finding("data folder", Verdict.WRONG, str(error))
        return
    folder = Path(str(database.url.database)).absolute().parent
    database.close()
    if not os.access(folder, os.W_OK | os.X_OK):
        yield Finding("data folder", Verdict.WRONG, f"{folder} cannot be written")
        return
    status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize
    verdict = Verdict.FINE if free >= LEAST_FREE_BYTES else Verdict.DOUBTFUL
    yield Finding("data folder", verdict, f"{folder}, {free // 1_000_000:,} MB free")


def _database(settings: Settings, *, with_workers: bool) -> Iterator[Finding]:
    try:
        database = create_database(settings)
    except (FlowManagerError, OSError) as error:
        yield Finding("database", Verdict.WRONG, str(error))
        return
    try:
        revision = current_revision(database)
        yield _schema(revision)
        if with_workers and revision == HEAD_REVISION:
            yield _workers(database)
    except FlowManagerError as error:
        yield Finding("database", Verdict.WRONG, f"does not answer: {error}")
    finally:
        database.close()


def _schema(revision: str | None) -> Finding:
    if revision == HEAD_REVISION:
        return Finding("database", Verdict.FINE, f"answers, schema {revision}")
    found = "has no tables yet" if revision is None else f"has schema {revision}"
    detail = f"{found}, this version needs {HEAD_REVISION}: flow-manager db upgrade"
    return Finding("database", Verdict.WRONG, detail)


def _workers(database: Database) -> Finding:
    with database.read() as connection:
        live = len(list_workers(connection, ("live",)))
    if live:
        return Finding("workers", Verdict.FINE, f"{live} live")
    return Finding("workers", Verdict.WRONG, "none is live, so no run moves: flow-manager worker")


def _redis(settings: Settings) -> Finding:
    from redis import Redis
    from redis.exceptions import RedisError

    url = settings.redis_url.get_secret_value()
    try:
        with Redis.from_url(
            url, socket_timeout=REDIS_SECONDS, socket_connect_timeout=REDIS_SECONDS
        ) as redis:
            version = redis.info("server").get("redis_version", "unknown")
    except (RedisError, OSError, ValueError) as error:
        # Runs go on without it, but only as fast as the workers look by themselves.
        return Finding("Redis", Verdict.WRONG, f"does not answer: {error}")
    return Finding("Redis", Verdict.FINE, f"answers, version {version}")


def _tasks(settings: Settings) -> Iterator[Finding]:
    try:
        registry = load_registry(settings.task_modules)
    except FlowManagerError as error:
        yield Finding("task types", Verdict.WRONG, str(error))
        return
    for problem in registry.problems:
        yield Finding("task types", Verdict.WRONG, f"{problem.source}: {problem.message}")
    yield Finding("task types", Verdict.FINE, f"{len(registry.names())} can be run here")
