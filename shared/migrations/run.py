"""Runs the migrations on a connection that the caller holds and commits."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection


def configuration() -> Config:
    """Alembic's configuration, without a file of its own."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def run_migrations(connection: Connection, revision: str = "head") -> None:
    """Bring the schema under ``connection`` to ``revision``."""
    config = configuration()
    config.attributes["connection"] = connection
    if not connection.in_transaction():
        # Alembic would begin and commit transactions of its own; the caller's is to hold it all.
        connection.begin()
    command.upgrade(config, revision)
