"""Branches: claimed by one worker at a time, and given back or taken away, on both databases."""

from collections.abc import Iterator
from functools import partial

import pytest

from shared.ids import BranchId, new_id
from shared.models import Branch, FlowRun, TaskRun
from shared.status import BranchState, TaskRunStatus
from shared.store.branches import Visit, claim_branches
from shared.store.freeing import (
    Orphans,
    Release,
    free_orphans,
    release_branches,
    rescue_branches,
)
from shared.store.upkeep import wake_due
from tests.integration.store_rig import (
    CHAIN,
    DATABASES,
    LEASE_NOW,
    MAX_LOSSES,
    NOW,
    SINGLE,
    TYPE,
    Store,
    at_once,
    opened_for_module,
)

RACES = 15
LATER = LEASE_NOW + 7


@pytest.fixture(scope="module", params=DATABASES)
def shared_store(request: pytest.FixtureRequest) -> Iterator[Store]:
    with opened_for_module(request) as store:
        yield store


@pytest.fixture
def store(shared_store: Store) -> Store:
    return shared_store.empty()


def _release(visit: Visit, claim: int | None = None) -> Release:
    return Release(
        visit.branch_id, visit.claim if claim is None else claim, visit.task_run_id, LATER
    )


def _lose(store: Store, branch: BranchId | None, times: int) -> None:
    """Let a branch cost so many workers their lives."""
    for _ in range(times):
        victim = store.register()
        (claimed,) = store.claim(branch, worker_id=victim) or store.claim(
            branch, worker_id=victim, suspects=True
        )
        assert claimed.visit.branch_id == branch
        store.do(rescue_branches, [victim], LEASE_NOW)


# Claiming.


def test_a_claim_begins_the_visit(store: Store) -> None:
    created = store.create(CHAIN, input_json=b'{"a":1}')
    (claimed,) = store.claim(created.branch_id)
    visit, branch, task_run = claimed.visit, store.row(Branch), store.row(TaskRun)
    assert (claimed.run.flow_id, claimed.run.input) == ("intake", b'{"a":1}')
    assert claimed.run.definition_hash == CHAIN.hash
    assert (visit.branch_id, visit.flow_run_id) == (created.branch_id, created.flow_run_id)
    assert (visit.task, visit.task_type, visit.path) == ("first", TYPE, "main")
    assert (visit.claim, visit.iteration, visit.attempt, visit.resumed) == (1, 1, 1, False)
    assert (branch.state, branch.worker_id) == (BranchState.RUNNING, store.worker)
    assert (branch.claim, branch.attempt, branch.task_run_id) == (1, 1, task_run.id)
    assert (task_run.id, task_run.status) == (visit.task_run_id, TaskRunStatus.RUNNING)
    assert (task_run.worker_id, task_run.branch, task_run.attempt) == (store.worker, "main", 1)
    run = store.run(created.flow_run_id)
    assert run.started_at == task_run.started_at


def test_whoever_comes_second_gets_nothing(store: Store) -> None:
    created = store.create()
    assert len(store.claim(created.branch_id)) == 1
    other = store.register()
    assert store.claim(created.branch_id, worker_id=other) == []
    assert store.claim(worker_id=other) == []
    assert store.branch(created.branch_id).worker_id == store.worker


def test_two_claims_of_one_batch_do_not_share_a_branch(store: Store) -> None:
    created = store.create()
    assert created.branch_id is not None
    other = store.register()
    wishes = [
        store.wish(created.branch_id),
        store.wish(created.branch_id, worker_id=other),
    ]
    first, second = store.batch(claim_branches, *wishes)
    assert (len(first), second) == (1, [])


@pytest.mark.parametrize("by_ring", [True, False])
def test_workers_that_claim_at_once_never_get_the_same(store: Store, by_ring: bool) -> None:
    others = [store.register(), store.register()]
    for _ in range(RACES):
        created = store.batch_of_runs(4)
        ids = [one.branch_id for one in created] if by_ring else []
        got = at_once(*(partial(store.claim, *ids, worker_id=worker) for worker in others))
        claimed = [one.visit.branch_id for part in got for one in part]
        assert len(claimed) == len(set(claimed))
        # On PostgreSQL one may skip what the other has only locked: it comes by again.
        claimed += [one.visit.branch_id for one in store.claim(*ids, worker_id=others[0])]
        assert sorted(claimed) == sorted(str(one.branch_id) for one in created)
    task_runs = store.rows(TaskRun)
    assert len(task_runs) == len(store.rows(FlowRun)) == 4 * RACES
    assert {row.attempt for row in task_runs} == {1}
    assert {row.claim for row in store.rows(Branch)} == {1}


def test_types_that_the_worker_cannot_run_are_left_for_others(store: Store) -> None:
    known = store.create()
    unknown = store.create(start_type="from-the-future")
    ids = (known.branch_id, unknown.branch_id)
    assert [one.visit.branch_id for one in store.claim(*ids)] == [known.branch_id]
    assert store.claim() == []
    assert store.branch(unknown.branch_id).state == BranchState.READY
    (other,) = store.claim(unknown.branch_id, task_types={TYPE, "from-the-future"})
    assert other.visit.branch_id == unknown.branch_id


def test_a_worker_without_types_claims_nothing(store: Store) -> None:
    created = store.create()
    assert store.claim(created.branch_id, task_types=set()) == []
    assert store.claim(task_types=set()) == []


def test_a_claim_keeps_to_its_queues(store: Store) -> None:
    slow, plain = store.create(), store.create()
    store.set(Branch, slow.branch_id, queue="slow")
    ids = (slow.branch_id, plain.branch_id)
    for named in (ids, ()):
        assert store.claim(*named, queues=("another",)) == []
    (claimed,) = store.claim(*ids, queues=("slow", "another"))
    assert claimed.visit.branch_id == slow.branch_id
    (claimed,) = store.claim(queues=("another", "default"))
    assert claimed.visit.branch_id == plain.branch_id


def test_a_claim_takes_no_more_than_its_limit_and_the_oldest_first(store: Store) -> None:
    created = [store.create(ready_at=LEASE_NOW - age) for age in (1, 5, 3, 2, 4)]
    by_age = [created[place].branch_id for place in (1, 4, 2, 3, 0)]
    assert [one.visit.branch_id for one in store.claim(limit=2)] == by_age[:2]
    assert [one.visit.branch_id for one in store.claim()] == by_age[2:]


def test_a_rung_claim_takes_no_more_than_its_limit(store: Store) -> None:
    ids = [one.branch_id for one in store.batch_of_runs(5)]
    first = [one.visit.branch_id for one in store.claim(*ids, limit=3)]
    second = [one.visit.branch_id for one in store.claim(*ids, limit=3)]
    assert (len(first), len(second)) == (3, 2)
    assert sorted(first + second) == sorted(str(one) for one in ids)


def test_without_a_ring_only_what_is_late_is_taken(store: Store) -> None:
    late = store.create(ready_at=LEASE_NOW - 2)
    store.create(ready_at=LEASE_NOW)
    before_a_reboot = store.create(ready_at=LEASE_NOW + 500)
    claimed = store.claim(ready_before=LEASE_NOW - 1, ready_after=LEASE_NOW + 1)
    ids = [one.visit.branch_id for one in claimed]
    assert ids == [late.branch_id, before_a_reboot.branch_id]


def test_a_rung_branch_is_taken_however_new_it_is(store: Store) -> None:
    created = store.create(ready_at=LEASE_NOW + 0.5)
    assert len(store.claim(created.branch_id)) == 1


def test_unknown_branches_are_nothing(store: Store) -> None:
    assert store.claim(BranchId(new_id())) == []


def test_a_suspect_is_taken_alone_and_only_by_who_asks_for_one(store: Store) -> None:
    suspects = [store.create() for _ in range(2)]
    for one in suspects:
        _lose(store, one.branch_id, MAX_LOSSES - 1)
    innocent = store.create()
    everything = [one.branch_id for one in (*suspects, innocent)]
    assert [one.visit.branch_id for one in store.claim(*everything)] == [innocent.branch_id]
    assert store.claim() == []
    (taken,) = store.claim(suspects=True)
    assert taken.visit.branch_id in everything[:2]
    assert taken.visit.attempt == MAX_LOSSES


def test_a_branch_that_is_no_suspect_is_not_taken_as_one(store: Store) -> None:
    created = store.create()
    _lose(store, created.branch_id, MAX_LOSSES - 2)
    assert store.claim(suspects=True) == []
    assert len(store.claim()) == 1


def test_what_has_cost_too_many_is_given_to_nobody(store: Store) -> None:
    created = store.create()
    _lose(store, created.branch_id, MAX_LOSSES)
    assert store.branch(created.branch_id).losses == MAX_LOSSES
    assert store.claim(created.branch_id) == store.claim() == store.claim(suspects=True) == []


# Giving back.


def test_a_release_makes_the_branch_ready_and_ends_its_attempt(store: Store) -> None:
    begun = store.begin()
    assert store.batch(release_branches, _release(begun.visit)) == [True]
    branch, task_run = store.branch(begun.visit.branch_id), store.task_run(begun.visit)
    assert (branch.state, branch.worker_id, branch.task_run_id) == (BranchState.READY, None, None)
    assert (branch.claim, branch.losses, branch.ready_at) == (begun.visit.claim + 1, 0, LATER)
    assert (task_run.status, task_run.reason) == (TaskRunStatus.CANCELLED, "worker_stopped")
    assert task_run.finished_at is not None
    (again,) = store.claim(begun.visit.branch_id)
    assert (again.visit.attempt, again.visit.iteration) == (2, 1)
    assert again.visit.task_run_id != begun.visit.task_run_id


def test_a_release_counts_only_under_the_callers_own_claim(store: Store) -> None:
    lost, held = store.begin(), store.begin()
    store.batch(release_branches, _release(lost.visit))
    (taken,) = store.claim(lost.visit.branch_id, worker_id=store.register())
    unknown = held.visit._replace(branch_id=BranchId(new_id()))
    results = store.batch(
        release_branches, _release(lost.visit), _release(unknown), _release(held.visit)
    )
    assert results == [False, False, True]
    branch = store.branch(lost.visit.branch_id)
    assert (branch.state, branch.claim) == (BranchState.RUNNING, taken.visit.claim)
    assert store.task_run(taken.visit).status == TaskRunStatus.RUNNING


def test_a_release_of_what_is_recorded_changes_nothing(store: Store) -> None:
    begun = store.begin()
    store.record(SINGLE, begun.visit)
    assert store.batch(release_branches, _release(begun.visit)) == [False]
    assert store.branch(begun.visit.branch_id).state == BranchState.DONE
    assert store.task_run(begun.visit).status == TaskRunStatus.SUCCESS


# Taking away.


def test_a_rescue_frees_all_that_lost_workers_held_and_nothing_else(store: Store) -> None:
    kept = store.begin()
    victims = [store.register(), store.register()]
    held = []
    for worker in (victims[0], victims[0], victims[1]):
        created = store.create()
        held += store.claim(created.branch_id, worker_id=worker)
    rescued = store.do(rescue_branches, victims, LATER)
    assert sorted((one.branch_id, one.flow_run_id, one.losses) for one in rescued) == sorted(
        (one.visit.branch_id, one.visit.flow_run_id, 1) for one in held
    )
    for claimed in held:
        branch, task_run = store.branch(claimed.visit.branch_id), store.task_run(claimed.visit)
        assert (branch.state, branch.worker_id) == (BranchState.READY, None)
        assert (branch.claim, branch.losses, branch.ready_at) == (2, 1, LATER)
        assert (task_run.status, task_run.reason) == (TaskRunStatus.CANCELLED, "worker_lost")
    assert store.branch(kept.visit.branch_id).state == BranchState.RUNNING
    assert store.do(rescue_branches, victims, LATER) == []


def test_losses_add_up_and_every_attempt_is_kept(store: Store) -> None:
    created = store.create()
    _lose(store, created.branch_id, 2)
    branch = store.branch(created.branch_id)
    assert (branch.losses, branch.attempt, branch.claim) == (2, 2, 4)
    assert [row.attempt for row in store.rows(TaskRun)] == [1, 2]


def test_losses_are_those_of_one_visit(store: Store) -> None:
    created = store.create(CHAIN)
    _lose(store, created.branch_id, 1)
    (claimed,) = store.claim(created.branch_id)
    assert store.record(CHAIN, claimed.visit).accepted
    branch = store.branch(created.branch_id)
    assert (branch.task, branch.losses, branch.attempt) == ("second", 0, 1)


def test_what_a_lost_worker_still_records_is_refused(store: Store) -> None:
    begun = store.begin(CHAIN)
    store.do(rescue_branches, [store.worker], LATER)
    assert not store.record(CHAIN, begun.visit).accepted
    assert store.batch(release_branches, _release(begun.visit)) == [False]
    assert store.task_run(begun.visit).data is None


def test_orphans_are_freed_under_their_claim_only_and_count_as_losses(store: Store) -> None:
    orphan, running = store.begin(), store.begin()
    held = {orphan.visit.branch_id: orphan.visit.claim, running.visit.branch_id: 99}
    assert store.batch(free_orphans, Orphans(held, LATER)) == [None]
    freed = store.branch(orphan.visit.branch_id)
    assert (freed.state, freed.losses, freed.ready_at) == (BranchState.READY, 1, LATER)
    assert store.task_run(orphan.visit).reason == "worker_lost"
    assert store.branch(running.visit.branch_id).state == BranchState.RUNNING
    assert store.task_run(running.visit).status == TaskRunStatus.RUNNING


# Resuming.


def _woken(store: Store) -> Visit:
    """A visit that asked to be woken, and was."""
    begun = store.begin(CHAIN)
    assert store.record(CHAIN, begun.visit, kind="suspended", data=None, wake_at=NOW).accepted
    assert store.do(wake_due, LATER) == [begun.visit.branch_id]
    return begun.visit


def test_a_suspended_visit_is_resumed_in_the_same_attempt(store: Store) -> None:
    visit = _woken(store)
    other = store.register()
    (claimed,) = store.claim(visit.branch_id, worker_id=other)
    resumed = claimed.visit
    assert (resumed.resumed, resumed.attempt) == (True, 1)
    assert (resumed.task_run_id, resumed.claim) == (visit.task_run_id, visit.claim + 1)
    task_run = store.task_run(visit)
    assert (task_run.status, task_run.worker_id) == (TaskRunStatus.RUNNING, other)
    recorded = store.record(CHAIN, resumed, worker_id=other)
    assert [started.task for started in recorded.started] == ["second"]
    assert store.task_run(visit).status == TaskRunStatus.SUCCESS


@pytest.mark.parametrize("is_lost", [True, False])
def test_who_was_resumed_is_resumed_again_after_its_worker(store: Store, is_lost: bool) -> None:
    visit = _woken(store)
    (claimed,) = store.claim(visit.branch_id)
    if is_lost:
        store.do(rescue_branches, [store.worker], LATER)
    else:
        store.batch(release_branches, _release(claimed.visit))
    assert store.task_run(visit).status == TaskRunStatus.WAITING
    (again,) = store.claim(visit.branch_id)
    assert (again.visit.resumed, again.visit.attempt) == (True, 1)
    assert again.visit.task_run_id == visit.task_run_id
    assert len(store.rows(TaskRun)) == 1


def test_after_a_resumed_visit_the_next_one_begins_anew(store: Store) -> None:
    visit = _woken(store)
    (claimed,) = store.claim(visit.branch_id)
    (following,) = store.record(CHAIN, claimed.visit).started
    store.do(rescue_branches, [store.worker], LATER)
    (again,) = store.claim(visit.branch_id)
    assert (again.visit.task, again.visit.resumed, again.visit.attempt) == ("second", False, 2)
    assert store.task_run(following).reason == "worker_lost"
