"""Branches of workers that have ended are freed, whoever held them, on both databases."""

from collections.abc import Iterator

import pytest

from shared.ids import WorkerId, new_id
from shared.settings import Settings
from shared.status import BranchState
from shared.store.branches import Visit
from shared.store.freeing import free_all, free_stray
from shared.store.workers import leave, mark_lost
from tests.integration.store_rig import DATABASES, LEASE_NOW, Store, opened_for_module
from worker.leader import Round, look_around

LATER = LEASE_NOW + 7


@pytest.fixture(scope="module", params=DATABASES)
def shared_store(request: pytest.FixtureRequest) -> Iterator[Store]:
    with opened_for_module(request) as store:
        yield store


@pytest.fixture
def store(shared_store: Store) -> Store:
    return shared_store.empty()


def _held_by(store: Store, worker: WorkerId) -> Visit:
    (claimed,) = store.claim(store.create().branch_id, worker_id=worker)
    return claimed.visit


def test_what_a_lost_worker_claimed_afterwards_is_freed_and_counts_as_a_loss(
    store: Store,
) -> None:
    victim = store.register()
    store.do(mark_lost, [victim])
    held = _held_by(store, victim)
    (freed,) = store.do(free_stray, LATER)
    assert (freed.branch_id, freed.losses) == (held.branch_id, 1)
    row = store.branch(held.branch_id)
    assert (row.state, row.worker_id, row.ready_at) == (BranchState.READY, None, LATER)
    assert row.claim > held.claim
    assert store.task_run(held).reason == "worker_lost"


def test_what_a_stopped_worker_still_held_is_freed_without_a_loss(store: Store) -> None:
    worker = store.register()
    held = _held_by(store, worker)
    store.do(leave, worker, "stopped")
    (freed,) = store.do(free_stray, LATER)
    assert (freed.branch_id, freed.losses) == (held.branch_id, 0)
    assert store.task_run(held).reason == "worker_stopped"


def test_what_an_unknown_worker_holds_is_freed(store: Store) -> None:
    held = _held_by(store, WorkerId(new_id()))
    (freed,) = store.do(free_stray, LATER)
    assert freed.branch_id == held.branch_id


def test_what_live_and_stopping_workers_hold_is_no_stray(store: Store) -> None:
    stopping = store.register()
    _held_by(store, stopping)
    _held_by(store, store.register())
    store.do(leave, stopping, "stopping")
    assert store.do(free_stray, LATER) == []


def test_a_worker_that_leaves_gives_back_all_it_holds(store: Store) -> None:
    worker, neighbour = store.register(), store.register()
    mine, other = _held_by(store, worker), _held_by(store, neighbour)
    assert store.do(free_all, worker, LATER) == [mine.branch_id]
    assert store.branch(mine.branch_id).state == BranchState.READY
    assert store.branch(other.branch_id).worker_id == neighbour


def test_the_leader_frees_strays_in_each_of_its_rounds(store: Store) -> None:
    """Nobody else looks for them: a stray that the leader leaves stands for ever."""
    victim, leader = store.register(), store.register()
    store.do(mark_lost, [victim])
    held = _held_by(store, victim)
    round_ = Round(leader, LEASE_NOW, Settings(), prunes=False, declares=False)
    (report,) = store.do(look_around, [round_])
    assert report.rescued == [held.branch_id]
    assert store.branch(held.branch_id).state == BranchState.READY
