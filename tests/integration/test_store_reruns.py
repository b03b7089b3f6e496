"""Reruns in the store, on both databases: made of what is over, and of what is still there."""

from collections.abc import Iterator
from functools import partial

import pytest

from shared.ids import FlowRunId, new_id
from shared.models import FlowRun
from shared.replay import Point
from shared.store.branches import claim_branches
from shared.store.reruns import NewRerun, create_reruns, read_rerun, write_rerun
from shared.store.runs import CreatedRun
from shared.store.stopping import Cancel, cancel_runs
from shared.store.upkeep import prune_runs
from tests.integration.store_rig import CHAIN, DATABASES, NOW, Store, at_once, new_run
from tests.integration.store_rig import opened_for_module as opened

RACES = 15
LATE = NOW.replace(year=2100)


@pytest.fixture(scope="module", params=DATABASES)
def shared_store(request: pytest.FixtureRequest) -> Iterator[Store]:
    with opened(request) as store:
        yield store


@pytest.fixture
def store(shared_store: Store) -> Store:
    return shared_store.empty()


def _over(store: Store) -> FlowRunId:
    run = store.create(CHAIN).flow_run_id
    store.batch(cancel_runs, Cancel(run, NOW))
    return run


def _rerun(store: Store, source: FlowRunId, **changes: object) -> CreatedRun | str:
    rerun = NewRerun(source, new_run(CHAIN, **changes), Point("second"))
    return store.batch(create_reruns, rerun)[0]


def test_the_worker_that_claims_a_rerun_is_told_what_it_keeps(store: Store) -> None:
    source = _over(store)
    plain, again = store.create(CHAIN), _rerun(store, source)
    assert isinstance(again, CreatedRun)
    assert store.run(again.flow_run_id).rerun_of == source
    claimed = store.batch(claim_branches, store.wish(plain.branch_id, again.branch_id))[0]
    told = {one.visit.flow_run_id: one.run.rerun for one in claimed}
    assert told[plain.flow_run_id] is None
    assert read_rerun(told[again.flow_run_id] or b"") == (source, Point("second"))


def test_a_rerun_from_the_start_keeps_nothing(store: Store) -> None:
    source = _over(store)
    again = store.batch(create_reruns, NewRerun(source, new_run(CHAIN), None))[0]
    assert isinstance(again, CreatedRun)
    row = store.run(again.flow_run_id)
    assert (row.rerun_of, row.rerun) == (source, None)


def test_only_a_run_that_is_over_is_run_again(store: Store) -> None:
    assert _rerun(store, store.create(CHAIN).flow_run_id) == "running"
    assert _rerun(store, FlowRunId(new_id())) == "unknown"
    assert len(store.rows(FlowRun)) == 1


def test_a_key_makes_one_rerun_that_stays_as_it_was(store: Store) -> None:
    source, other = _over(store), _over(store)
    key = {"idempotency_key": "again", "request_hash": "h"}
    first = _rerun(store, source, **key)
    second = _rerun(store, other, **key | {"request_hash": "i"})
    assert isinstance(first, CreatedRun)
    assert isinstance(second, CreatedRun)
    assert (second.flow_run_id, second.replayed, second.mismatch) == (
        first.flow_run_id,
        True,
        True,
    )
    assert store.run(first.flow_run_id).rerun_of == source


def test_what_is_written_of_a_point_is_read_again() -> None:
    source = FlowRunId(new_id())
    for point in (Point(), Point("a"), Point('"quoted"\n')):
        assert read_rerun(write_rerun(source, point)) == (source, point)


def test_a_source_is_pruned_or_run_again_but_never_both(store: Store) -> None:
    kept = 0
    for _ in range(RACES):
        source = _over(store)
        again, pruned = at_once(partial(_rerun, store, source), partial(store.do, prune_runs, LATE))
        there = bool(store.rows(FlowRun, id=source))
        assert there == isinstance(again, CreatedRun), (again, pruned)
        kept += there
        if isinstance(again, CreatedRun):
            store.batch(cancel_runs, Cancel(again.flow_run_id, NOW))
        store.do(prune_runs, LATE)
        assert store.rows(FlowRun) == []
    assert 0 <= kept <= RACES
