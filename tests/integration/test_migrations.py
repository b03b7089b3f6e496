"""Migrations: they make what the models say, and once, however many begin at the same time."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, text
from sqlmodel import SQLModel

import shared.models
import shared.models_limits
import shared.models_schedules
import shared.models_webhooks
import shared.models_workers  # noqa: F401  # they declare the tables
from shared.database import HEAD_REVISION, Database, create_database, current_revision, upgrade
from shared.errors import InvalidSettings
from shared.migrations.run import run_migrations
from shared.settings import load_settings
from tests.integration.store_rig import at_once

PROCESSES = 3
ROOT = Path(__file__).parents[2]
UPGRADE = """
import json, sys
from shared.database import upgrade
from shared.settings import load_settings
print(json.dumps(upgrade(load_settings(database_url=sys.argv[1]))))
"""


@contextmanager
def _database(url: str, *, upgraded: bool = True) -> Iterator[Database]:
    settings = load_settings(database_url=url)
    if upgraded:
        upgrade(settings)
    database = create_database(settings)
    try:
        yield database
    finally:
        database.close()


def _constraints(connection: Connection) -> set[tuple[str, str, str]]:
    """The CHECK constraints of all tables, as the database gives them back."""
    inspector = inspect(connection)
    return {
        (table, str(check["name"]), " ".join(check["sqltext"].split()))
        for table in inspector.get_table_names()
        for check in inspector.get_check_constraints(table)
    }


def _indexes(connection: Connection) -> set[tuple[str, str, tuple[str | None, ...], bool, str]]:
    """The indexes of all tables, the condition of the partial ones included."""
    inspector = inspect(connection)
    return {
        (
            table,
            str(index["name"]),
            tuple(index["column_names"]),
            bool(index["unique"]),
            str(index.get("dialect_options", {}).get(f"{connection.dialect.name}_where", "")),
        )
        for table in inspector.get_table_names()
        for index in inspector.get_indexes(table)
    }


def test_the_migrations_make_the_tables_and_columns_of_the_models(bare_database_url: str) -> None:
    with _database(bare_database_url) as database, database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, SQLModel.metadata) == []


def test_the_migrations_make_the_constraints_and_indexes_of_the_models(
    bare_database_url: str, tmp_path: Path
) -> None:
    """Alembic's own comparison sees neither a CHECK nor what a partial index is about."""
    with _database(bare_database_url) as database, database.read() as connection:
        migrated = (_constraints(connection), _indexes(connection))
    if database.is_sqlite:
        fresh_url = f"sqlite:///{tmp_path / 'models.db'}"
    else:
        _empty(bare_database_url)
        fresh_url = bare_database_url
    with _database(fresh_url, upgraded=False) as database, database.write() as connection:
        SQLModel.metadata.create_all(connection)
        modelled = (_constraints(connection), _indexes(connection))
    version_table = {entry for entry in migrated[0] if entry[0] == "alembic_version"}
    assert migrated[0] - version_table == modelled[0]
    assert migrated[1] == modelled[1]
    assert len(modelled[0]) >= 9
    assert len(modelled[1]) >= 12


def _empty(url: str) -> None:
    with _database(url, upgraded=False) as database, database.write() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))


def test_sqlite_tables_are_those_of_the_models_to_the_column(
    bare_sqlite_url: str, tmp_path: Path
) -> None:
    with _database(bare_sqlite_url) as database, database.read() as connection:
        migrated = _columns(connection)
    with (
        _database(f"sqlite:///{tmp_path / 'models.db'}", upgraded=False) as database,
        database.write() as connection,
    ):
        SQLModel.metadata.create_all(connection)
        modelled = _columns(connection)
    migrated.pop("alembic_version")
    assert migrated == modelled
    assert set(modelled) == set(SQLModel.metadata.tables)


def _columns(connection: Connection) -> dict[str, set[tuple[object, ...]]]:
    """Of every table its columns: name, type, whether it may be null, default, part of the key."""
    names = connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'"))
    return {
        name: {tuple(row)[1:] for row in connection.execute(text(f"PRAGMA table_info('{name}')"))}
        for name in names.scalars()
    }


def test_an_upgrade_is_done_once_and_changes_nothing_the_second_time(
    bare_database_url: str,
) -> None:
    settings = load_settings(database_url=bare_database_url)
    assert upgrade(settings)
    with _database(bare_database_url, upgraded=False) as database:
        assert current_revision(database) == HEAD_REVISION
        with database.write() as connection:
            connection.execute(text("UPDATE lease SET expires = 7"))
        assert not upgrade(settings)
        with database.write() as connection:
            # Not even when it is run past the check that nothing is to be done.
            run_migrations(connection)
        with database.read() as connection:
            assert connection.execute(text("SELECT expires FROM lease")).scalars().all() == [7]


def test_the_database_of_a_newer_version_is_refused_and_left_as_it_is(
    bare_database_url: str,
) -> None:
    """As after a release was taken back: what does not know the tables must not touch them."""
    settings = load_settings(database_url=bare_database_url)
    with _database(bare_database_url) as database:
        with database.write() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '0099_newer'"))
        with pytest.raises(InvalidSettings, match=r"newer version .*0099_newer"):
            upgrade(settings)
        assert current_revision(database) == "0099_newer"


def test_an_empty_database_has_no_revision(bare_database_url: str) -> None:
    with _database(bare_database_url, upgraded=False) as database:
        assert current_revision(database) is None


def test_processes_that_upgrade_at_once_all_succeed(bare_database_url: str) -> None:
    command = [sys.executable, "-c", UPGRADE, bare_database_url]
    children = [
        subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(PROCESSES)
    ]
    answers = [child.communicate(timeout=25) for child in children]
    assert [child.returncode for child in children] == [0] * PROCESSES, answers
    assert any(json.loads(told) for told, _ in answers)
    with _database(bare_database_url, upgraded=False) as database:
        assert current_revision(database) == HEAD_REVISION
        with database.read() as connection:
            leaders = connection.execute(text("SELECT name FROM lease")).scalars().all()
    assert leaders == ["leader"]


def test_threads_that_upgrade_at_once_all_succeed(bare_database_url: str) -> None:
    settings = load_settings(database_url=bare_database_url)
    done = at_once(*(lambda: upgrade(settings),) * 4)
    assert any(done)
    assert not upgrade(settings)
    with _database(bare_database_url, upgraded=False) as database, database.read() as connection:
        assert connection.execute(text("SELECT name FROM lease")).scalars().all() == ["leader"]


def test_a_failed_migration_leaves_nothing_behind(bare_database_url: str) -> None:
    """Both databases change their schema inside the transaction of the upgrade."""
    with _database(bare_database_url, upgraded=False) as database:
        with suppress(ZeroDivisionError), database.write() as connection:
            run_migrations(connection)
            raise ZeroDivisionError
        with database.read() as connection:
            assert inspect(connection).get_table_names() == []
    assert upgrade(load_settings(database_url=bare_database_url))
