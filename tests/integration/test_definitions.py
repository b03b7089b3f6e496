"""Stored definitions: versions counted once each, hidden, listed and kept, on both databases."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial

import pytest

from shared.models import DefinitionVersion, StoredDefinition
from shared.queries.definitions import get_version, list_definitions, list_versions
from shared.store.definitions import NewVersion, PutVersion, delete_versions, put_version
from shared.store.upkeep import prune_definitions
from tests.integration.store_rig import DATABASES, NOW, Store, at_once, opened_for_module

RACES = 15


@pytest.fixture(scope="module", params=DATABASES)
def shared_store(request: pytest.FixtureRequest) -> Iterator[Store]:
    with opened_for_module(request) as store:
        yield store


@pytest.fixture
def store(shared_store: Store) -> Store:
    return shared_store.empty()


def _put(store: Store, content: str, flow_id: str = "intake", at: datetime = NOW) -> PutVersion:
    item = NewVersion(flow_id, content.ljust(64, "0"), f'"{content}"'.encode(), at)
    return store.do(put_version, item)


def test_every_change_is_a_version_and_the_same_again_is_none(store: Store) -> None:
    puts = [_put(store, content) for content in ("a", "a", "b", "a")]
    assert [(put.version, put.created) for put in puts] == [
        (1, True),
        (1, False),
        (2, True),
        (3, True),
    ]
    newest, second = store.do(get_version, "intake"), store.do(get_version, "intake", 2)
    assert newest is not None
    assert newest.definition == b'"a"'
    assert second is not None
    assert second.definition == b'"b"'
    assert store.do(get_version, "intake", 4) is None


def test_puts_at_once_never_get_the_same_number(store: Store) -> None:
    for race in range(RACES):
        one, other = at_once(
            partial(_put, store, f"one{race}"), partial(_put, store, f"other{race}")
        )
        assert {one.version, other.version} == {2 * race + 1, 2 * race + 2}


def test_equal_puts_at_once_make_one_version(store: Store) -> None:
    for race in range(RACES):
        put = partial(_put, store, f"same{race}")
        assert sorted(made.created for made in at_once(put, put)) == [False, True]


def test_a_deleted_flow_is_hidden_and_goes_on_counting(store: Store) -> None:
    _put(store, "a")
    assert store.do(delete_versions, "intake", NOW)
    assert not store.do(delete_versions, "intake", NOW)
    assert store.do(get_version, "intake") is None
    assert store.do(list_definitions, None, 10).rows == []
    assert _put(store, "a") == PutVersion(2, NOW, created=True)
    assert store.do(get_version, "intake", 1) is None


def test_lists_go_on_behind_their_cursor(store: Store) -> None:
    for flow_id in ("c", "a", "b"):
        _put(store, "old", flow_id)
        _put(store, "new", flow_id)
    page = store.do(list_definitions, None, 2)
    assert [(row.flow_id, row.version) for row in page.rows] == [("a", 2), ("b", 2)]
    last = store.do(list_definitions, page.next_cursor, 2)
    assert ([row.flow_id for row in last.rows], last.next_cursor) == (["c"], None)
    newest = store.do(list_versions, "a", None, 1)
    assert ([row.version for row in newest.rows], newest.next_cursor) == ([2], "2")
    assert [row.version for row in store.do(list_versions, "a", 2, 1).rows] == [1]


def test_what_a_version_holds_is_pruned_only_after_its_deletion(store: Store) -> None:
    _put(store, "a")
    later = NOW + timedelta(days=1)
    assert store.do(prune_definitions, later) == 0
    store.do(delete_versions, "intake", NOW)
    assert store.do(prune_definitions, later) == 1
    assert store.rows(StoredDefinition) == []
    assert len(store.rows(DefinitionVersion)) == 1
