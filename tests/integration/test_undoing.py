"""The store's part in endings: exactly what succeeded is undone, once, whatever gets lost."""

import random
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.flow import Flow
from shared.ids import BranchId, FlowRunId
from shared.models import Branch, Compensation, FlowRun, TaskRun
from shared.status import BranchState, RunStatus, TaskRunStatus
from shared.store.branches import Visit
from shared.store.freeing import rescue_branches
from shared.store.step import Recorded
from shared.store.stopping import Cancel, cancel_runs
from shared.store.undoing import Begun
from shared.store.upkeep import fail_overdue, give_up
from shared.validation import validate_definition
from tests.integration.store_rig import (
    DATABASES,
    LEASE_NOW,
    MAX_LOSSES,
    NOW,
    TYPE,
    Store,
    at_once,
    opened_for_module,
)

Definition = dict[str, Any]
RACES = 10


@pytest.fixture(scope="module", params=DATABASES)
def shared_store(request: pytest.FixtureRequest) -> Iterator[Store]:
    with opened_for_module(request) as store:
        yield store


@pytest.fixture
def store(shared_store: Store) -> Store:
    return shared_store.empty()


def _flow(tasks: list[Definition], conditions: list[Definition], **fields: Any) -> Flow:
    definition: Definition = {
        "id": "trip",
        "start_task": tasks[0]["name"],
        "tasks": [{"type": TYPE, **task} for task in tasks],
        "conditions": conditions,
        **fields,
    }
    judged = validate_definition(definition, task_types={TYPE})
    assert judged.flow is not None, judged.errors
    return judged.flow


def _chain(*names: str, last: str | None = None) -> Flow:
    """Tasks one after another, each of which has another one that undoes it."""
    tasks = [{"name": name, "compensate": f"un{name}"} for name in names]
    tasks += [{"name": f"un{name}"} for name in names]
    fields = {}
    if last is not None:
        tasks.append({"name": last})
        fields["finally"] = last
    return _flow(
        tasks,
        [
            {"source_task": source, "target_task_success": target}
            for source, target in pairwise(names)
        ],
        **fields,
    )


CHAIN = _chain("a", "b", "c", last="tidy")
ERROR = b'{"type":"ValueError","message":"no","traceback":null}'


def _at_c(store: Store) -> tuple[FlowRunId, Visit]:
    """A run of the chain of which two tasks have succeeded."""
    begun = store.begin(CHAIN)
    (second,) = store.record(CHAIN, begun.visit).started
    (third,) = store.record(CHAIN, second).started
    return begun.run, third


def _fail(store: Store, flow: Flow, visit: Visit) -> Recorded:
    return store.record(flow, visit, kind="error", data=None, error=ERROR, targets=None)


def _finish(store: Store, flow: Flow, visit: Visit) -> list[str]:
    """Let a run's ending go on from ``visit`` with successes; what ran."""
    ran = []
    while True:
        ran.append(visit.task)
        recorded = store.record(flow, visit, targets=())
        assert recorded.accepted
        if recorded.ended is not None:
            return ran
        (visit,) = recorded.started


def _take(store: Store, branch: BranchId | None, **changes: Any) -> Visit:
    (claimed,) = store.claim(branch, **changes)
    return claimed.visit


def test_the_step_that_fails_a_run_begins_its_ending(store: Store) -> None:
    run, visit = _at_c(store)
    recorded = _fail(store, CHAIN, visit)
    assert (recorded.ended, recorded.stops_others) == (None, True)
    (first,) = recorded.started
    assert (first.task, first.path, first.iteration) == ("unb", "ending/undo:b", 1)
    row = store.run(run)
    assert (row.status, row.active, row.error) == (RunStatus.RUNNING, 1, None)
    assert orjson.loads(row.ending)["error"]["message"] == "no"
    assert [r.task for r in store.rows(Compensation)] == ["una"]
    assert _finish(store, CHAIN, first) == ["unb", "una", "tidy"]
    row = store.run(run)
    assert (row.status, row.active, row.ending) == (RunStatus.FAILED, 0, None)
    assert orjson.loads(row.error)["message"] == "no"
    assert store.rows(Compensation) == []
    assert set(store.states(run)) == {BranchState.DONE}


def test_a_worker_that_cannot_run_what_undoes_hands_it_over(store: Store) -> None:
    tasks = [{"name": "a", "compensate": "una"}, {"name": "b"}, {"name": "una"}]
    flow = _flow(tasks, [{"source_task": "a", "target_task_success": "b"}])
    begun = store.begin(flow)
    (second,) = store.record(flow, begun.visit).started
    recorded = store.record(
        flow, second, kind="error", data=None, error=ERROR, targets=None, task_types=()
    )
    assert recorded.started == []
    (branch,) = recorded.ready
    row = store.branch(branch)
    assert (row.state, row.task, row.attempt) == (BranchState.READY, "una", 0)
    assert _finish(store, flow, _take(store, branch)) == ["una"]


def test_of_two_who_undo_only_the_one_with_the_claim_is_recorded(store: Store) -> None:
    run, visit = _at_c(store)
    (first,) = _fail(store, CHAIN, visit).started
    store.do(rescue_branches, [store.worker], LEASE_NOW)
    again = _take(store, first.branch_id)
    assert (again.task, again.attempt, again.iteration) == ("unb", 2, 1)
    assert not store.record(CHAIN, first, targets=()).accepted
    assert _finish(store, CHAIN, again) == ["unb", "una", "tidy"]
    assert [(r.task, r.attempt, r.status) for r in _ending_rows(store, run)] == [
        ("unb", 1, TaskRunStatus.CANCELLED),
        ("unb", 2, TaskRunStatus.SUCCESS),
        ("una", 1, TaskRunStatus.SUCCESS),
        ("tidy", 1, TaskRunStatus.SUCCESS),
    ]


def _ending_rows(store: Store, run: FlowRunId) -> list[Any]:
    return [r for r in store.rows(TaskRun, flow_run_id=run) if r.branch.startswith("ending")]


def _kill_for(store: Store, branch: BranchId) -> None:
    """Lose as many workers to a branch as it is allowed to cost."""
    for _ in range(MAX_LOSSES):
        victim = store.register()
        store.claim(branch, worker_id=victim) or store.claim(
            branch, worker_id=victim, suspects=True
        )
        store.do(rescue_branches, [victim], LEASE_NOW)


def test_a_compensation_that_kills_its_workers_is_passed_over(store: Store) -> None:
    run, _ = _at_c(store)
    cancel = Cancel(run, NOW, ready_at=LEASE_NOW)
    assert store.batch(cancel_runs, cancel) == ["cancelling"]
    _kill_for(store, cancel.branch_id)
    begun = Begun(LEASE_NOW)
    assert store.do(give_up, MAX_LOSSES, begun) == []
    assert (begun.ready, begun.runs) == ([cancel.branch_id], [])
    following = _take(store, cancel.branch_id)
    assert (following.task, following.attempt) == ("una", 1)
    assert _finish(store, CHAIN, following) == ["una", "tidy"]
    row = store.run(run)
    error = orjson.loads(row.error)
    assert (row.status, error["type"]) == (RunStatus.FAILED, "CompensationFailed")
    assert error["failures"][0]["type"] == "WorkerLost"


def test_a_last_task_that_kills_its_workers_ends_the_run(store: Store) -> None:
    flow = _flow([{"name": "a"}, {"name": "tidy"}], [], **{"finally": "tidy"})
    begun = store.begin(flow)
    recorded = store.record(flow, begun.visit, task_types=())
    (branch,) = recorded.ready
    _kill_for(store, branch)
    assert store.do(give_up, MAX_LOSSES, Begun(LEASE_NOW)) == [begun.run]
    row = store.run(begun.run)
    assert (row.status, row.active, row.output) == (RunStatus.FAILED, 0, None)
    assert orjson.loads(row.error)["type"] == "FinallyFailed"
    assert store.branch(branch).state == BranchState.DONE


def test_a_run_that_is_given_up_is_undone(store: Store) -> None:
    run, visit = _at_c(store)
    store.do(rescue_branches, [store.worker], LEASE_NOW)
    _kill_for(store, visit.branch_id)
    begun = Begun(LEASE_NOW)
    assert store.do(give_up, MAX_LOSSES, begun) == []
    assert begun.runs == [run]
    assert _finish(store, CHAIN, _take(store, begun.ready[0])) == ["unb", "una", "tidy"]
    assert orjson.loads(store.run(run).error)["type"] == "WorkerLost"


def test_a_deadline_ends_a_run_once_and_not_its_ending(store: Store) -> None:
    begun = store.begin(CHAIN, deadline=NOW)
    (second,) = store.record(CHAIN, begun.visit).started
    endings = Begun(LEASE_NOW)
    assert store.do(fail_overdue, endings) == []
    assert store.do(fail_overdue, endings) == []
    assert endings.runs == [begun.run]
    assert not store.record(CHAIN, second).accepted
    assert store.run(begun.run).deadline is None
    assert _finish(store, CHAIN, _take(store, endings.ready[0])) == ["una", "tidy"]
    assert orjson.loads(store.run(begun.run).error)["type"] == "RunTimeout"


def test_nothing_else_ends_a_run_in_its_ending(store: Store) -> None:
    run, visit = _at_c(store)
    (first,) = _fail(store, CHAIN, visit).started
    # As if both had looked before they had to wait for the lock of the run.
    store.set(FlowRun, run, deadline=NOW)
    endings = Begun(LEASE_NOW)
    assert store.do(fail_overdue, endings) == []
    assert store.batch(cancel_runs, Cancel(run, NOW)) == ["ending"]
    assert (endings.runs, endings.ready) == ([], [])
    assert _finish(store, CHAIN, first) == ["unb", "una", "tidy"]
    assert store.run(run).status == RunStatus.FAILED


def test_a_cancel_and_a_failing_step_begin_one_ending(store: Store) -> None:
    for _ in range(RACES):
        run, visit = _at_c(store)
        cancel = Cancel(run, NOW, ready_at=LEASE_NOW)
        results: list[Any] = at_once(
            lambda v=visit: _fail(store, CHAIN, v),  # type: ignore[misc]  # bound in the loop
            lambda c=cancel: store.batch(cancel_runs, c)[0],  # type: ignore[misc]  # the same
        )
        recorded, told = results
        if recorded.accepted:
            assert told == "ending"
            (visit,) = recorded.started
        else:
            assert told == "cancelling"
            visit = _take(store, cancel.branch_id)
        assert _finish(store, CHAIN, visit) == ["unb", "una", "tidy"]
        status = RunStatus.FAILED if recorded.accepted else RunStatus.CANCELLED
        assert store.run(run).status == status


def test_a_run_without_a_result_that_can_be_undone_is_cancelled_at_once(store: Store) -> None:
    flow = _chain("a", "b")
    begun = store.begin(flow)
    assert store.batch(cancel_runs, Cancel(begun.run, NOW)) == ["cancelled"]
    row = store.run(begun.run)
    assert (row.status, row.active, row.ending) == (RunStatus.CANCELLED, 0, None)


def test_no_clock_of_a_host_changes_the_order(store: Store) -> None:
    run, _ = _at_c(store)
    # The first task was recorded by a worker whose clock is an hour ahead.
    (first,) = store.rows(TaskRun, flow_run_id=run, task="a")
    store.set(TaskRun, first.id, finished_at=first.finished_at + timedelta(hours=1))
    cancel = Cancel(run, NOW)
    store.batch(cancel_runs, cancel)
    assert _finish(store, CHAIN, _take(store, cancel.branch_id)) == ["unb", "una", "tidy"]


def test_results_without_a_place_are_undone_last(store: Store) -> None:
    run, _ = _at_c(store)
    (kept,) = store.rows(TaskRun, flow_run_id=run, task="b")
    store.set(TaskRun, kept.id, position=None, finished_at=NOW)
    cancel = Cancel(run, NOW)
    store.batch(cancel_runs, cancel)
    assert _finish(store, CHAIN, _take(store, cancel.branch_id)) == ["una", "unb", "tidy"]


# Whatever happens, exactly what succeeded is undone.


@st.composite
def sagas(draw: st.DrawFn) -> Flow:
    """Flows with forks, joins, lists and ways back, in which some tasks can be undone."""
    count = draw(st.integers(2, 6))
    names = [f"t{number}" for number in range(count)]
    tasks: list[Definition] = []
    for name in names:
        task: Definition = {"name": name, "compensate": f"un_{name}"}
        if draw(st.integers(0, 3)) == 0:
            del task["compensate"]
        if draw(st.integers(0, 4)) == 0:
            task |= {"for_each": "input", "tolerate": draw(st.sampled_from([0, 1, "all"]))}
        tasks.append(task)
    conditions = []
    for number, name in enumerate(names[:-1]):
        ahead = st.sampled_from(names[number + 1 :])
        heads = draw(st.lists(ahead, min_size=1, max_size=3, unique=True))
        back = draw(st.sampled_from(["end", "end", *names[: number + 1]]))
        conditions.append(
            {"source_task": name, "target_task_success": heads, "target_task_failure": back}
        )
    tasks += [{"name": task["compensate"]} for task in tasks if "compensate" in task]
    fields = {}
    if draw(st.booleans()):
        tasks.append({"name": "tidy"})
        fields["finally"] = "tidy"
    return _flow(tasks, conditions, max_task_runs=60, **fields)


class _Run:
    """A run that is driven to its end, with chance for its workers and tasks."""

    def __init__(self, store: Store, flow: Flow, chance: random.Random) -> None:
        self.store, self.flow, self.chance = store, flow, chance
        begun = store.begin(flow)
        self.run = begun.run
        self.visits = [begun.visit]
        self.succeeded: list[str] = []
        """Task runs that are to be undone, should it come to that, as they were recorded."""

    def drive(self) -> None:
        """Go on until the run is over or in its ending."""
        while self.store.run(self.run).status == RunStatus.RUNNING:
            if self.store.run(self.run).ending is not None:
                return
            if self.chance.random() < 0.04:
                assert self.store.batch(cancel_runs, Cancel(self.run, NOW)) != ["ending"]
                self.visits.clear()
                continue
            self._step(self.visits.pop(self.chance.randrange(len(self.visits))))

    def _step(self, visit: Visit) -> None:
        flow, store = self.flow, self.store
        task = flow.tasks[visit.task]
        is_list = task.for_each is not None and visit.parent_id is None
        if is_list and not visit.resumed:
            items = [b"1"] * self.chance.randint(1, 3)
            recorded = store.record(
                flow, visit, kind="mapped", data=None, targets=None, items=items, keep=9
            )
        elif is_list:
            kind = "success" if visit.items_failed == 0 else "failure"
            recorded = store.record(flow, visit, kind=kind, keep=9)
        else:
            kind = self.chance.choices(["success", "failure", "error"], [12, 3, 1])[0]
            error = ERROR if kind == "error" else None
            recorded = store.record(flow, visit, kind=kind, error=error, keep=9)
            if recorded.accepted and kind == "success" and task.compensate is not None:
                self.succeeded.append(visit.task_run_id)
        if recorded.accepted:
            self.visits += [v for v in recorded.started if not v.is_ending]

    def undo(self) -> list[str]:
        """Let the ending run, with failures and lost workers; the task runs that it undid."""
        store = self.store
        undone: list[str] = []
        while store.run(self.run).status == RunStatus.RUNNING:
            (branch,) = [
                row
                for row in store.rows(Branch, flow_run_id=self.run)
                if row.state != BranchState.DONE
            ]
            store.do(rescue_branches, [store.worker], LEASE_NOW)
            store.set(Branch, branch.id, losses=0)
            visit = _take(store, branch.id)
            if self.chance.random() < 0.2:
                continue
            if visit.previous_id is not None:
                undone.append(visit.previous_id)
            kind = self.chance.choices(["success", "failure", "error"], [8, 1, 1])[0]
            error = ERROR if kind == "error" else None
            assert store.record(self.flow, visit, kind=kind, error=error, targets=()).accepted
        return undone


@pytest.mark.timeout(120)
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(flow=sagas(), seed=st.integers(0, 2**32))
def test_exactly_what_succeeded_is_undone_once_and_in_reverse(
    shared_store: Store, flow: Flow, seed: int
) -> None:
    run = _Run(shared_store.empty(), flow, random.Random(seed))
    run.drive()
    before = shared_store.run(run.run)
    undone = run.undo()

    after = shared_store.run(run.run)
    is_undone = after.status != RunStatus.COMPLETED or after.outcome == "failure"
    if before.ending is not None:
        told = orjson.loads(before.ending)
        is_undone = told["status"] != "completed" or told["outcome"] == "failure"
    assert undone == (run.succeeded[::-1] if is_undone else [])
    rows = _ending_rows(shared_store, run.run)
    done = [r for r in rows if r.status in (TaskRunStatus.SUCCESS, TaskRunStatus.FAILED)]
    has_last = flow.definition.finally_ is not None
    assert len(done) == len(undone) + has_last
    assert not has_last or done[-1].task == "tidy"
    failed = any(r.status == TaskRunStatus.FAILED for r in done[: len(undone)])
    assert not failed or after.status == RunStatus.FAILED
    assert shared_store.rows(Compensation) == []
    assert shared_store.row(FlowRun, id=run.run).active == 0
