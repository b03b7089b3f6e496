"""``flow-manager db``: the schema, and a copy of the database while it is in use."""

import os
from pathlib import Path

import typer

from flow_manager.command.options import settings_of
from shared.errors import InvalidInput


def upgrade(
    context: typer.Context,
    quiet: bool = typer.Option(False, "--quiet", help="Say nothing where all is well."),
) -> None:
    """Bring the database's schema up to date. Safe to repeat, and to run from many machines."""
    from shared.database import HEAD_REVISION
    from shared.database import upgrade as upgrade_database

    changed = upgrade_database(settings_of(context))
    if not quiet:
        print(f"The schema {'is now' if changed else 'was already'} at {HEAD_REVISION}.")


def backup(
    context: typer.Context,
    file: Path = typer.Option(
        ..., "--to", help="The copy; it must not exist yet.", show_default=False
    ),
) -> None:
    """Copy a SQLite database, consistently, while the service goes on.

    For PostgreSQL use its own pg_dump.
    """
    from shared.database import create_database

    settings = settings_of(context)
    if not settings.is_sqlite:
        raise InvalidInput("only SQLite is copied here: for PostgreSQL use pg_dump")
    database = create_database(settings)
    if not Path(str(database.url.database)).exists():
        raise InvalidInput(f"there is no database at {database.url.database}")
    try:
        # Nobody else may read it: it holds what tasks were given and what they returned.
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise InvalidInput(f"{file}: {error.strerror}") from None
    os.close(descriptor)
    try:
        connection = database.engine.raw_connection()
        try:
            # One snapshot, without holding up the writers; an empty file is a valid target.
            connection.cursor().execute("VACUUM INTO ?", (str(file),))
        finally:
            connection.close()
    finally:
        database.close()
    print(f"Copied to {file} ({file.stat().st_size} bytes).")
