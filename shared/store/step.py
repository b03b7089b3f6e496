"""A step of a branch: what a visit came to, as a worker tells it, and what became of it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from shared.decider import Targets
from shared.definition import TaskDefinition
from shared.flow import Flow
from shared.ids import BranchId, FlowRunId, WorkerId
from shared.pools import DEFAULT_QUEUE, serves
from shared.status import Outcome, RunStatus
from shared.store.branches import Visit
from shared.store.logs import LoggedLine
from shared.store.runs import NewRun


@dataclass(frozen=True, slots=True)
class Step:
    """What a visit came to, with all that is needed to record it."""

    visit: Visit
    flow: Flow
    worker_id: WorkerId
    kind: Literal["success", "failure", "error", "suspended", "retry", "mapped", "finish"]
    """``retry`` is an attempt that went wrong and is followed by another one; ``mapped`` a
    visit that from now on waits for its items; ``finish`` one that ends the whole run."""
    task_types: Collection[str]
    """What the worker can run: other tasks are handed over."""
    lease_now: float
    queues: Collection[str] = (DEFAULT_QUEUE,)
    """Whose branches the worker takes: others are handed over, too."""
    targets: Targets | None = None
    """Where the conditions lead; None for an error that nobody handles."""
    data: bytes | None = None
    error: bytes | None = None
    reason: str | None = None
    wake_at: datetime | None = None
    """Of ``suspended`` and ``retry``."""
    signal: str | None = None
    """Of ``suspended``: the signal that ends the wait."""
    sub_flow: NewRun | None = None
    """Of ``suspended``: the run that begins with it, whose end ends the wait."""
    cancels: Sequence[str] = ()
    """Tasks whose branches end with it."""
    items: Sequence[bytes] = ()
    """Of ``mapped``: the items as JSON, at least one."""
    logs: Sequence[LoggedLine] = ()
    keep: int = 1
    """Branches of a fork that this worker goes on with itself."""

    @property
    def branch_id(self) -> BranchId:
        """The branch that made the step."""
        return self.visit.branch_id

    @property
    def flow_run_id(self) -> FlowRunId:
        """Its run."""
        return self.visit.flow_run_id

    @property
    def claim(self) -> int:
        """The claim under which the visit was run."""
        return self.visit.claim

    @property
    def task(self) -> str:
        """The task that was visited."""
        return self.visit.task

    @property
    def tracked(self) -> bool:
        """Whether the branch is in the books of the joins."""
        return self.visit.tracked

    def begins(self, task: str) -> bool:
        """Whether the worker may go on with ``task`` itself."""
        definition = self.flow.tasks[task]
        return definition.task_type in self.task_types and serves(self.queues, definition.queue)

    @property
    def ends_item(self) -> bool:
        """Whether it is the end of one item of a list."""
        return self.visit.parent_id is not None and self.kind in _OUTCOMES

    @property
    def is_ending(self) -> bool:
        """Whether it was made in the ending of its run."""
        return self.flow.undoing is not None and self.visit.is_ending

    @property
    def outcome(self) -> Outcome | None:
        """What the visit came to, where it is over."""
        return _OUTCOMES.get(self.kind)


_OUTCOMES = {outcome.value: outcome for outcome in Outcome}


@dataclass(slots=True)
class Recorded:
    """What became of a step."""

    accepted: bool
    """False: the claim was taken away, and nothing was written."""
    started: list[Visit] = field(default_factory=list)
    """The visits that the worker goes on with."""
    ready: list[BranchId] = field(default_factory=list)
    """Branches for anybody, to ring for."""
    queues: dict[BranchId, str] = field(default_factory=dict)
    """The queues of those of them that do not wait in the default one."""
    ended: RunStatus | None = None
    """The final status of the run, where this step ended it."""
    stops_others: bool = False
    """Whether other branches of the run were stopped by it."""

    def hand_over(self, branch_id: BranchId, task: TaskDefinition) -> None:
        """Note that a branch is ready for ``task``, which somebody else may run."""
        self.ring_for(branch_id, task.queue)

    def ring_for(self, branch_id: BranchId, queue: str) -> None:
        """Note that a branch is ready in ``queue``."""
        self.ready.append(branch_id)
        if queue != DEFAULT_QUEUE:
            self.queues[branch_id] = queue
