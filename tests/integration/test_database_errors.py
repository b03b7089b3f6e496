"""What errors of the database come to: they tell no data, and pass while the schema is made."""

import traceback
from collections.abc import Iterator

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from shared.database import Database, create_database
from shared.errors import DatabaseUnavailable
from shared.ids import FlowRunId, new_id
from shared.settings import load_settings
from shared.store.stopping import lock_runs

PAYLOAD = "canary-5d1e77"
_INSERT = text("INSERT INTO page (id, content) VALUES (1, :content)")


@pytest.fixture
def bare_database(bare_database_url: str) -> Iterator[Database]:
    """One that nothing was made in yet."""
    database = create_database(load_settings(database_url=bare_database_url))
    yield database
    database.close()


def test_an_error_tells_no_data(bare_database: Database) -> None:
    """Such an error is logged with its traceback, and what was written belongs into no log."""
    with bare_database.write() as connection:
        connection.execute(text("CREATE TABLE page (id INTEGER PRIMARY KEY, content TEXT)"))
        connection.execute(_INSERT, {"content": PAYLOAD})
    with pytest.raises(IntegrityError) as told, bare_database.write() as connection:
        connection.execute(_INSERT, {"content": PAYLOAD})
    assert PAYLOAD not in "".join(traceback.format_exception(told.value))


def test_a_table_that_is_not_made_yet_is_unavailable(bare_database: Database) -> None:
    """Processes serve while another one still makes the schema: that is no mistake of ours."""
    with pytest.raises(DatabaseUnavailable), bare_database.read() as connection:
        connection.execute(text("SELECT id FROM flow_run"))
    # By way of the driver itself, as the hot paths do it.
    with pytest.raises(DatabaseUnavailable), bare_database.write() as connection:
        lock_runs(connection, [FlowRunId(new_id())])
