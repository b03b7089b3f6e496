"""Runs the branches that this worker holds, step after step.

One asyncio task a branch: run the visit's task, record what it came to together with the
start of what follows, go on. What else the record started here (heads of a fork, a join that
fired) becomes a branch of its own. A branch that was taken away is dropped without a word.
"""

import asyncio
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import structlog

from shared.collector import keep_from_collector
from shared.database import Database
from shared.definition import FlowDefinition
from shared.errors import DatabaseUnavailable, FlowManagerError
from shared.events import Publisher
from shared.flow import Flow, FlowCache, prepare_flow
from shared.ids import BranchId, WorkerId
from shared.lease_clock import LeaseClock
from shared.pools import DEFAULT_QUEUE
from shared.queries.results import definition_content
from shared.queue import Ringer
from shared.registry import Registry
from shared.settings import Settings
from shared.store.branches import Claimed, ClaimedRun, Visit
from shared.store.freeing import Release, release_branches
from shared.store.step import Recorded, Step
from shared.store.steps import record_steps
from shared.writer import Writer
from worker.execution import AttemptResult, Executor
from worker.journal import Journal
from worker.judging import Judgement
from worker.limiting import Places
from worker.memory import Memories, Memory
from worker.replaying import Replays
from worker.sub_flows import SubFlows
from worker.visits import Visits, stored_result

_log = structlog.get_logger(__name__)

_LARGE_FLOW = 1_000
"""Tasks from which on a definition weighs on every full collection."""
_RELEASE_SECONDS = 5.0
"""For branches that are stopped to be given back."""
_RETRY_SECONDS = 0.2
"""Between two tries to record while the database is away."""


@dataclass(slots=True, eq=False)
class RunningBranch:
    """A branch that this worker runs now."""

    visit: Visit
    run: ClaimedRun
    flow: Flow | None
    memory: Memory
    is_suspect: bool = False
    is_dropped: bool = False
    """Its claim was taken away: nothing of it is recorded or released any more."""
    is_recording: bool = False
    """Its step is being recorded: the fence says whether it still is ours."""
    task: "asyncio.Task[None] | None" = field(default=None, repr=False)


class Runner:
    """The branches of one worker."""

    def __init__(
        self,
        *,
        worker_id: WorkerId,
        settings: Settings,
        database: Database,
        writer: Writer,
        registry: Registry,
        clock: LeaseClock,
        ringer: Ringer,
        publisher: Publisher,
    ) -> None:
        self.worker_id = worker_id
        self.peers = 1
        """Live workers, this one included."""
        self.slot_freed = asyncio.Event()
        """Set whenever a branch ends here."""
        self.suspect_over = asyncio.Event()
        """Set when a suspect's visit is over, or the suspect does not run here any more."""
        self._settings = settings
        self._database = database
        self._writer = writer
        self._registry = registry
        self._clock = clock
        self._ringer = ringer
        self._publisher = publisher
        self._executor = Executor(registry, settings)
        self.journal = Journal(self._executor.captured, writer, settings)
        """What the attempts log and no record takes along."""
        sub_flows = SubFlows(database, clock, settings)
        memories = Memories(database)
        self._visits = Visits(
            self._executor,
            self.journal,
            memories,
            sub_flows,
            Places(writer, memories, clock),
            Replays(database),
            registry,
            settings,
        )
        self._flows = FlowCache(settings.definition_cache_tasks)
        self._loading: dict[str, asyncio.Future[Flow]] = {}
        self._branches: dict[BranchId, RunningBranch] = {}
        self._is_stopping = False

    @property
    def room(self) -> int:
        """How many more branches this worker may run."""
        if self._is_stopping:
            return 0
        return max(0, self._settings.worker_concurrency - len(self._branches))

    @property
    def task_types(self) -> Collection[str]:
        """What this worker begins; nothing while it stops."""
        return frozenset() if self._is_stopping else self._registry.names()

    @property
    def claims(self) -> dict[BranchId, int]:
        """The branches that run here, with their claims."""
        return {branch_id: b.visit.claim for branch_id, b in self._branches.items()}

    def start(self, claimed: Iterable[Claimed], *, suspects: bool = False) -> None:
        """Run branches that were claimed for this worker."""
        for item in claimed:
            visit = item.visit
            # Nothing was before the first visit of a run; everything else must be looked up.
            fresh = visit.previous_id is None and visit.joined_by is None and not visit.is_ending
            memory = Memory(is_complete=fresh)
            self._run(RunningBranch(visit, item.run, None, memory, is_suspect=suspects))

    def drop(self, branch_ids: Iterable[BranchId]) -> None:
        """Stop running branches that are no longer ours.

        Not those that are being recorded. One whose record was committed a moment ago has moved
        on and may not look like ours, and with its answer we would lose what it began here.
        """
        for branch_id in branch_ids:
            branch = self._branches.get(branch_id)
            if branch is not None and branch.task is not None and not branch.is_recording:
                branch.is_dropped = True
                branch.task.cancel()

    def drop_runs(self, flow_run_ids: Collection[str]) -> None:
        """Stop the branches of cancelled runs; not what undoes what they did."""
        wanted = set(flow_run_ids)
        stopped = [b.visit for b in self._branches.values() if b.visit.flow_run_id in wanted]
        self.drop([visit.branch_id for visit in stopped if not visit.is_ending])

    def drop_all(self) -> None:
        """Stop everything: this worker was declared lost."""
        self.drop(list(self._branches))

    async def stop(self, grace_seconds: float) -> None:
        """Let running tasks end in their grace; give back what has not ended by then."""
        self._is_stopping = True
        loop = asyncio.get_running_loop()
        until = loop.time() + grace_seconds
        # Anew each time: what is being recorded now may begin further branches here.
        while (tasks := self._tasks()) and loop.time() < until:
            await asyncio.wait(tasks, timeout=until - loop.time())
        self._executor.stop_seconds = 1.0
        until = loop.time() + _RELEASE_SECONDS
        while (tasks := self._tasks()) and loop.time() < until:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=until - loop.time())
        self._executor.close()

    def _tasks(self) -> "list[asyncio.Task[None]]":
        return [b.task for b in self._branches.values() if b.task is not None]

    def _run(self, branch: RunningBranch) -> None:
        name = f"branch {branch.visit.branch_id}"
        self._branches[branch.visit.branch_id] = branch
        branch.task = asyncio.get_running_loop().create_task(self._keep_running(branch), name=name)
        branch.task.add_done_callback(lambda task: self._forget(branch, task))

    def _forget(self, branch: RunningBranch, task: "asyncio.Task[None]") -> None:
        branch_id = branch.visit.branch_id
        if self._branches.get(branch_id) is branch:
            del self._branches[branch_id]
        self.slot_freed.set()
        self._acquit(branch)
        if not task.cancelled() and (error := task.exception()) is not None:
            # The heartbeat finds the branch held and not running, and frees it.
            _log.error("branch_broke_off", branch_id=branch_id, exc_info=error)

    def _acquit(self, branch: RunningBranch) -> None:
        if branch.is_suspect:
            branch.is_suspect = False
            self.suspect_over.set()

    async def _keep_running(self, branch: RunningBranch) -> None:
        try:
            if branch.flow is None:
                branch.flow = await self._flow_of(branch.run.definition_hash)
            going_on: Visit | None = branch.visit
            while going_on is not None:
                branch.visit = going_on
                going_on = await self._step(branch, branch.flow)
        except asyncio.CancelledError:
            if not branch.is_dropped:
                await asyncio.shield(self._release(branch))
            raise

    async def _step(self, branch: RunningBranch, flow: Flow) -> Visit | None:
        visit = branch.visit
        made = await self._visits.make(visit, branch.run, flow, branch.memory)
        if made is None:
            return None
        result, judgement = made
        branch.is_recording = True
        recorded = await self._record(branch, flow, result, judgement)
        branch.is_recording = False
        if not recorded.accepted:
            _log.info("step_refused", branch_id=visit.branch_id, task=visit.task)
            return None
        self._acquit(branch)
        if recorded.ended is not None:
            self._publisher.run_ended([visit.flow_run_id])
        if recorded.stops_others:
            # Its other branches, here and elsewhere, are no longer anybody's.
            self._publisher.cancelled([visit.flow_run_id])
        if recorded.ready:
            self._ringer.ring(recorded.ready, chunks=self.peers, queues=recorded.queues)
        if judgement.targets is not None:
            branch.memory.add(visit.task, stored_result(result, visit))
        return self._spread(branch, flow, recorded.started)

    def _spread(self, branch: RunningBranch, flow: Flow, started: Iterable[Visit]) -> Visit | None:
        """Run what a step began; the visit with which its own branch goes on is returned."""
        going_on: Visit | None = None
        before = None
        for visit in started:
            here = self._branches.get(visit.branch_id)
            begins_ending = visit.is_ending and here is not branch
            if visit.joined_by is not None or visit.resumed or begins_ending:
                memory = Memory(is_complete=False)
            elif visit.branch_id == branch.visit.branch_id:
                memory = branch.memory
            else:
                if before is None:
                    before = branch.memory.flattened()
                memory = Memory(
                    before=before,
                    previous=branch.memory.previous,
                    is_complete=branch.memory.is_complete,
                    read=branch.memory.read,
                )
            if here is branch:
                branch.memory = memory
                going_on = visit
            else:
                self._run(RunningBranch(visit, branch.run, flow, memory))
        return going_on

    async def _record(
        self, branch: RunningBranch, flow: Flow, result: AttemptResult, judgement: Judgement
    ) -> Recorded:
        """Record a finished visit, however long the database is away."""
        step = Step(
            visit=branch.visit,
            flow=flow,
            worker_id=self.worker_id,
            kind=judgement.kind,
            targets=judgement.targets,
            task_types=self.task_types,
            queues=self._settings.worker_queues,
            lease_now=self._clock.now(),
            data=result.data,
            error=result.error,
            reason=result.reason,
            wake_at=judgement.wake_at,
            items=judgement.items,
            signal=judgement.signal,
            sub_flow=judgement.sub_flow,
            cancels=tuple(task for task in result.cancels if task in flow.tasks),
            logs=result.logs,
            keep=self._share(len(judgement.targets or judgement.items)),
        )
        accepted = False
        try:
            recorded = await self._write_down(step)
            accepted = recorded.accepted
            return recorded
        finally:
            if not accepted:
                # Should they be stored all the same, because only the answer got lost, they
                # are stored once.
                self.journal.keep(result.logs)

    async def _write_down(self, step: Step) -> Recorded:
        is_delayed = False
        while True:
            try:
                return await self._writer.call(record_steps, step)
            except DatabaseUnavailable as error:
                if not is_delayed:
                    is_delayed = True
                    _log.warning("record_delayed", task=step.task, error=str(error))
                if self._is_stopping:
                    raise
                await asyncio.sleep(_RETRY_SECONDS)

    def _share(self, heads: int) -> int:
        """How many heads of a fork to go on with here: a fair share, if there is room."""
        return min(-(-heads // max(1, self.peers)), self.room + 1) if heads > 1 else 1

    async def _release(self, branch: RunningBranch) -> None:
        visit = branch.visit
        release = Release(visit.branch_id, visit.claim, visit.task_run_id, self._clock.now())
        try:
            if await self._writer.call(release_branches, release):
                queue = (
                    DEFAULT_QUEUE if branch.flow is None else branch.flow.tasks[visit.task].queue
                )
                self._ringer.ring([visit.branch_id], queues={visit.branch_id: queue})
        except FlowManagerError as error:
            # It is freed when our lease has passed.
            _log.warning("release_failed", branch_id=visit.branch_id, error=str(error))

    async def _flow_of(self, definition_hash: str) -> Flow:
        """The flow of that hash, loaded once however many branches ask at the same time."""
        flow = self._flows.get(definition_hash)
        if flow is not None:
            return flow
        loading = self._loading.get(definition_hash)
        if loading is None:
            loading = asyncio.ensure_future(asyncio.to_thread(self._load_flow, definition_hash))
            self._loading[definition_hash] = loading
            loading.add_done_callback(lambda _: self._loading.pop(definition_hash))
        return self._flows.add(await asyncio.shield(loading))

    def _load_flow(self, definition_hash: str) -> Flow:
        with self._database.read() as connection:
            content = definition_content(connection, definition_hash)
        flow = prepare_flow(FlowDefinition.model_validate_json(content), definition_hash)
        if len(flow.tasks) > _LARGE_FLOW:
            keep_from_collector()
        return flow
