"""A definition is not pruned under a run that is being accepted."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, select, update

import shared.store.runs
from shared.models import FlowRun, StoredDefinition
from shared.store.upkeep import prune_definitions
from tests.integration.store_rig import opened

definitions = StoredDefinition.__table__
runs = FlowRun.__table__


def test_a_definition_that_was_found_is_kept_until_its_run_is_stored(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On PostgreSQL only: on SQLite there is one writer at a time."""
    now = datetime.now(UTC)
    with opened(postgresql_url) as store:
        first = store.create()
        with store.database.write() as connection:
            connection.execute(runs.delete().where(runs.c.id == first.flow_run_id))
            old = now - timedelta(days=90)
            connection.execute(update(definitions).values(created_at=old))
        look = shared.store.runs._KNOWN_DEFINITIONS
        pruned: list[int] = []

        class _PrunedAfterTheLook:
            def all(self, connection: Connection, parameters: Any) -> Any:
                found = look.all(connection, parameters)
                pruned.append(store.do(prune_definitions, now - timedelta(days=30)))
                return found

        monkeypatch.setattr(shared.store.runs, "_KNOWN_DEFINITIONS", _PrunedAfterTheLook())
        created = store.create()
        assert pruned == [0]
        with store.database.read() as connection:
            query = select(definitions.c.hash).join(
                runs, runs.c.definition_hash == definitions.c.hash
            )
            assert connection.execute(query.where(runs.c.id == created.flow_run_id)).all()
