"""The outbox of webhooks: each end of a run in it once, whoever looks, on both databases."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest

from shared.database import create_database, upgrade
from shared.ids import FlowRunId, new_id
from shared.models import FlowRun
from shared.models_webhooks import DeliveryState, WebhookDelivery
from shared.queries.webhooks import list_deliveries
from shared.settings import load_settings
from shared.store.stopping import Cancel, cancel_runs
from shared.store.upkeep import prune_runs
from shared.store.webhooks import Delivered, Look, Looked, look_for_deliveries, record_deliveries
from tests.integration.store_rig import DATABASES, NOW, SINGLE, Store, at_once

HOSTS = {"a" * 16: "a.example", "b" * 16: "b.example"}
FIRST = "a" * 16
LATER = NOW + timedelta(minutes=1)


@pytest.fixture(scope="module", params=DATABASES)
def shared_store(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[Store]:
    """A store of processes that have receivers."""
    if request.param == "sqlite":
        folder: Path = tmp_path_factory.mktemp("webhooks")
        url = f"sqlite:///{folder / 'flow.db'}"
    else:
        server, name = request.getfixturevalue("_postgresql_server"), f"webhooks_{new_id()}"
        with psycopg.connect(
            host=server, user="postgres", dbname="postgres", autocommit=True
        ) as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        url = f"postgresql+psycopg://postgres@/{name}?host={server}"
    settings = load_settings(
        database_url=url, webhook_urls="https://a.example", webhook_secret="k" * 16
    )
    upgrade(settings)
    database = create_database(settings)
    try:
        yield Store(database, settings)
    finally:
        database.close()


@pytest.fixture
def store(shared_store: Store) -> Store:
    return shared_store.empty()


def _look(room: int = 8, **changes: Any) -> Look:
    look = Look(HOSTS, dict.fromkeys(HOSTS, room), "", NOW, LATER)
    return replace(look, **changes)


def _looked(store: Store, look: Look) -> Looked:
    return store.batch(look_for_deliveries, look)[0]


def _ended(store: Store, count: int = 1) -> list[FlowRunId]:
    created = store.batch_of_runs(count)
    store.batch(cancel_runs, *(Cancel(one.flow_run_id, NOW) for one in created))
    return [one.flow_run_id for one in created]


def test_an_end_is_put_into_the_outbox_once_for_each_receiver(store: Store) -> None:
    running = store.create()
    by_key = store.create(SINGLE, idempotency_key="k", request_hash="h")
    assert not _looked(store, _look()).taken
    store.batch(cancel_runs, Cancel(by_key.flow_run_id, NOW))
    looked = _looked(store, _look())
    assert {one.endpoint for one in looked.taken} == set(HOSTS)
    assert len({one.event_id for one in looked.taken}) == 1
    assert not _looked(store, _look()).taken
    rows = store.rows(WebhookDelivery)
    assert {(row.flow_run_id, row.endpoint, row.state, row.attempts) for row in rows} == {
        (by_key.flow_run_id, endpoint, "pending", 1) for endpoint in HOSTS
    }
    assert orjson.loads(rows[0].body)["subject"] == by_key.flow_run_id
    marks = {row.id: row.to_announce for row in store.rows(FlowRun)}
    assert marks == {running.flow_run_id: 1, by_key.flow_run_id: 0}


def test_processes_that_look_at_once_share_what_there_is(store: Store) -> None:
    for _ in range(10):
        ids = _ended(store, 6)
        found = at_once(*(partial(_looked, store, _look()) for _ in range(3)))
        taken = [one.id for looked in found for one in looked.taken]
        assert len(taken) == len(set(taken))
        # On PostgreSQL one may skip what another has only locked.
        taken += [one.id for one in _looked(store, _look(room=100)).taken]
        rows = store.rows(WebhookDelivery)
        assert len({(row.flow_run_id, row.endpoint) for row in rows}) == len(rows)
        assert {row.flow_run_id for row in rows} >= set(ids)
        assert len([row for row in rows if row.flow_run_id in ids]) == len(taken) == 12


def test_no_more_is_taken_than_there_is_room_for(store: Store) -> None:
    _ended(store, 5)
    looked = _looked(store, _look(room=2))
    assert (len(looked.taken), looked.has_more) == (4, True)
    looked = _looked(store, _look(room=8))
    assert (len(looked.taken), looked.has_more) == (6, False)


def test_what_a_dead_sender_began_is_due_again_and_counts(store: Store) -> None:
    _ended(store)
    assert [one.attempt for one in _looked(store, _look()).taken] == [1, 1]
    assert not _looked(store, _look(now=LATER - timedelta(seconds=1))).taken
    again = _looked(store, _look(now=LATER, due_again=LATER + timedelta(minutes=1)))
    assert [one.attempt for one in again.taken] == [2, 2]


def test_an_attempt_that_was_overtaken_records_nothing(store: Store) -> None:
    _ended(store)
    (late, *_) = _looked(store, _look()).taken
    again = _looked(store, _look(now=LATER, due_again=LATER + timedelta(minutes=1)))
    (current,) = [one for one in again.taken if one.id == late.id]
    dead = Delivered(late, DeliveryState.DEAD, LATER, 404, "no", LATER)
    store.batch(record_deliveries, dead)
    assert store.row(WebhookDelivery, id=late.id).state == "pending"
    done = Delivered(current, DeliveryState.DELIVERED, LATER, 200, None, LATER)
    store.batch(record_deliveries, done)
    store.batch(record_deliveries, replace(dead, delivery=current))
    row = store.row(WebhookDelivery, id=late.id)
    assert (row.state, row.status_code, row.error, row.ended_at) == ("delivered", 200, None, LATER)


def test_what_is_for_a_receiver_that_is_gone_waits_for_it(store: Store) -> None:
    _ended(store)
    only = Look({FIRST: "a.example"}, {FIRST: 8}, "", NOW, LATER)
    _looked(store, _look(room=0))
    assert {one.endpoint for one in _looked(store, only).taken} == {FIRST}
    assert {one.endpoint for one in _looked(store, _look()).taken} == set(HOSTS) - {FIRST}


def test_deliveries_go_with_their_run(store: Store) -> None:
    _ended(store)
    _looked(store, _look())
    assert len(store.rows(WebhookDelivery)) == 2
    assert store.do(prune_runs, NOW + timedelta(hours=1)) == 1
    assert store.rows(WebhookDelivery) == []


def test_deliveries_are_listed_a_page_at_a_time(store: Store) -> None:
    _ended(store, 3)
    _looked(store, _look())
    with store.database.read() as connection:
        first = list_deliveries(connection, DeliveryState.PENDING, None, 4)
        second = list_deliveries(connection, DeliveryState.PENDING, first.next_cursor, 4)
        dead = list_deliveries(connection, DeliveryState.DEAD, None, 4)
    ids = [row.id for row in (*first.rows, *second.rows)]
    assert (len(first.rows), second.next_cursor, dead.rows) == (4, None, [])
    assert ids == sorted((row.id for row in store.rows(WebhookDelivery)), reverse=True)
