"""Whatever happens to a run and to its ending, exactly what succeeded is undone."""

import random
from collections.abc import Iterator

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.flow import Flow
from shared.models import Branch, Compensation, FlowRun
from shared.status import BranchState, RunStatus, TaskRunStatus
from shared.store.branches import Visit
from shared.store.freeing import rescue_branches
from shared.store.stopping import Cancel, cancel_runs
from tests.integration.store_rig import DATABASES, LEASE_NOW, NOW, Store, opened_for_module
from tests.integration.undoing_rig import ERROR, Definition, ending_rows, flow_of, take


@pytest.fixture(scope="module", params=DATABASES)
def shared_store(request: pytest.FixtureRequest) -> Iterator[Store]:
    with opened_for_module(request) as store:
        yield store


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
    return flow_of(tasks, conditions, max_task_runs=60, **fields)


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
            visit = take(store, branch.id)
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
    rows = ending_rows(shared_store, run.run)
    done = [r for r in rows if r.status in (TaskRunStatus.SUCCESS, TaskRunStatus.FAILED)]
    has_last = flow.definition.finally_ is not None
    assert len(done) == len(undone) + has_last
    assert not has_last or done[-1].task == "tidy"
    failed = any(r.status == TaskRunStatus.FAILED for r in done[: len(undone)])
    assert not failed or after.status == RunStatus.FAILED
    assert shared_store.rows(Compensation) == []
    assert shared_store.row(FlowRun, id=run.run).active == 0
