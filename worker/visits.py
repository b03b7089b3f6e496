"""Makes one attempt at one visit: its params filled in, its task run, its result judged.

The pipeline between a claimed visit and the step that is recorded. It writes nothing: what
comes out of it is recorded by the runner, under the claim.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial

import orjson

from shared.errors import ExpressionError, SubFlowRefused
from shared.evaluation import applies_in, list_items, render_params
from shared.flow import Flow
from shared.queries.results import StoredResult
from shared.registry import Registry
from shared.routing import Applies
from shared.settings import Settings
from shared.store.branches import ClaimedRun, Visit
from shared.task_context import EarlierResult, Json
from worker.collecting import collect
from worker.evaluation import broken_off, item_of, scope_of
from worker.execution import AttemptResult, Execution, Executor
from worker.journal import Journal
from worker.judging import Judgement, judge
from worker.limiting import Places
from worker.memory import Memories, Memory
from worker.redaction import Redaction
from worker.replaying import Replays
from worker.sub_flows import SubFlows, refused


class Visits:
    """Makes the visits of one worker."""

    def __init__(
        self,
        executor: Executor,
        journal: Journal,
        memories: Memories,
        sub_flows: SubFlows,
        places: Places,
        replays: Replays,
        registry: Registry,
        settings: Settings,
    ) -> None:
        self._executor = executor
        self._journal = journal
        self._memories = memories
        self._sub_flows = sub_flows
        self._places = places
        self._replays = replays
        self._registry = registry
        self._settings = settings

    async def make(
        self, visit: Visit, run: ClaimedRun, flow: Flow, memory: Memory
    ) -> tuple[AttemptResult, Judgement] | None:
        """Make an attempt; what it came to, and what that means. None where the branch must
        wait for its turn under a limit first, or is no longer this worker's.

        Raises:
            asyncio.CancelledError: the caller was cancelled; what was logged is kept.
        """
        began = time.monotonic()
        if visit.is_ending:
            await self._memories.look_back(memory, visit)
        if run.rerun is not None:
            kept = await self._replays.result_of(visit, run, flow)
            if kept is not None:
                return await self._judge(visit, run, flow, memory, kept, None)
        if flow.tasks[visit.task].for_each is not None and visit.parent_id is None:
            return await self._make_of_items(visit, run, flow, memory)
        limit = flow.limits.get(visit.task)
        if limit is not None:
            try:
                taken = await self._places.take(limit, visit, run, flow, memory)
            except ExpressionError as error:
                return await self._judge(visit, run, flow, memory, broken_off(error), None)
            if taken is None:
                return None
            visit, began = taken, time.monotonic()
        result = await self._attempt(visit, run, flow, memory)
        if result.starts is not None:
            return await self._begin_sub_flow(visit, run, flow, memory, result)
        return await self._judge(visit, run, flow, memory, result, began)

    async def _begin_sub_flow(
        self, visit: Visit, run: ClaimedRun, flow: Flow, memory: Memory, result: AttemptResult
    ) -> tuple[AttemptResult, Judgement]:
        """Let the visit wait for the run that its attempt asked for."""
        assert result.starts is not None
        bound = flow.tasks[visit.task].timeout
        try:
            new_run = await self._sub_flows.prepare(visit, result.starts, bound)
        except SubFlowRefused as error:
            refusal = refused(error, result)
            return await self._judge(visit, run, flow, memory, refusal, time.monotonic())
        return result, Judgement("suspended", sub_flow=new_run)

    async def _make_of_items(
        self, visit: Visit, run: ClaimedRun, flow: Flow, memory: Memory
    ) -> tuple[AttemptResult, Judgement]:
        """Begin the items of a visit or, when they are over, give it its result."""
        if visit.resumed:
            result = collect(flow.tasks[visit.task], visit, await self._memories.items(visit))
        else:
            await self._memories.complete(memory, visit, flow, flow.data.of(visit.task).before)
            try:
                scope = scope_of(run, visit, memory)
                items = list_items(flow, visit.task, scope, self._settings.max_items)
            except ExpressionError as error:
                result = broken_off(error)
            else:
                if items:
                    return AttemptResult("suspended"), Judgement("mapped", items=items)
                result = AttemptResult("success", data=b"[]")
        return await self._judge(visit, run, flow, memory, result, None)

    async def _attempt(
        self, visit: Visit, run: ClaimedRun, flow: Flow, memory: Memory
    ) -> AttemptResult:
        try:
            redaction = self._redaction(flow, visit)
            execution = await self._execution(visit, run, flow, memory, redaction)
            return redaction.result(await self._executor.execute(execution))
        except ExpressionError as error:
            return broken_off(error)
        except asyncio.CancelledError as stopped:
            # Nobody records a stopped attempt; what it logged is kept all the same.
            if stopped.args and isinstance(cancelled := stopped.args[0], AttemptResult):
                self._journal.keep(cancelled.logs)
            raise

    def _redaction(self, flow: Flow, visit: Visit) -> Redaction:
        """What must be taken out of all that the attempt leaves behind."""
        return Redaction.of(self._secret(name) for name in flow.data.of(visit.task).secrets)

    async def _execution(
        self,
        visit: Visit,
        run: ClaimedRun,
        flow: Flow,
        memory: Memory,
        redaction: Redaction,
    ) -> Execution:
        task = flow.tasks[visit.task]
        data = flow.data.of(visit.task)
        tasks: Mapping[str, EarlierResult] = {}
        unread: dict[str, Callable[[], Json]] = {}
        if run.input is not None:
            unread["input"] = partial(orjson.loads, run.input)
        if self._registry.get(visit.task_type).needs_results:
            await self._memories.complete(memory, visit, flow)
            tasks, unread["previous"] = memory.results(), memory.previous_reader()
        elif data.params is not None:
            await self._memories.complete(memory, visit, flow, data.before)
        params: Json = task.params
        if data.params is not None:
            secrets = {name: self._secret(name) for name in data.secrets}
            scope = scope_of(run, visit, memory, secrets, names=data.params.names)
            params = render_params(flow, visit.task, scope)
        item, index = item_of(visit, memory)
        return Execution(
            task_type=visit.task_type,
            name=visit.task,
            params=params,
            unread=unread,
            tasks=tasks,
            run_id=visit.flow_run_id,
            task_run_id=visit.task_run_id,
            flow_id=run.flow_id,
            branch=visit.path,
            attempt=visit.attempt,
            iteration=visit.iteration,
            item=item,
            index=index,
            redact=redaction.text if redaction.secrets else None,
            signal=await self._memories.signal(visit) if visit.signal is not None else None,
            flow_run=await self._sub_flows.result(visit) if visit.item_count else None,
            idempotency_key=_idempotency_key(visit),
            timeout_seconds=task.timeout,
            resumed=visit.resumed,
        )

    def _secret(self, name: str) -> str:
        secret = self._settings.secrets.get(name)
        if secret is None:
            raise ExpressionError(f"this worker has no secret {name!r} (FLOW_SECRETS)")
        return secret.get_secret_value()

    async def _judge(
        self,
        visit: Visit,
        run: ClaimedRun,
        flow: Flow,
        memory: Memory,
        result: AttemptResult,
        began: float | None,
    ) -> tuple[AttemptResult, Judgement]:
        """What ``result`` means; the result is another one where a condition breaks off.

        ``began`` is None for what is not tried again.
        """
        elapsed = 0.0 if began is None else time.monotonic() - began
        may_retry = began is not None
        retry = flow.tasks[visit.task].retry
        if visit.attempt > 1 and retry is not None and retry.budget is not None:
            first = await asyncio.to_thread(self._memories.visit_began, visit)
            elapsed = (datetime.now(UTC) - first).total_seconds()
        ask = partial(judge, flow, visit, elapsed_seconds=elapsed, may_retry=may_retry)
        is_item = visit.parent_id is not None
        if result.kind in ("suspended", "finish") or is_item or not flow.decider.asks(visit.task):
            return result, ask(result)
        applies = await self._conditions(visit, run, flow, memory, result)
        try:
            return result, ask(result, applies=applies)
        except ExpressionError as error:
            result = broken_off(error, result)
        # Where that leads must not depend on what cannot be evaluated.
        return result, ask(result, applies=lambda _: False)

    async def _conditions(
        self, visit: Visit, run: ClaimedRun, flow: Flow, memory: Memory, result: AttemptResult
    ) -> Applies:
        """The conditions of the visit, asked as if its result were recorded already."""
        await self._memories.complete(memory, visit, flow, flow.data.of(visit.task).after)
        after = Memory(before=memory.flattened(), previous=memory.previous, joined=memory.joined)
        after.add(visit.task, stored_result(result, visit))
        return applies_in(flow, visit.task, scope_of(run, visit, after))


def stored_result(result: AttemptResult, visit: Visit) -> StoredResult:
    """``result`` as it will be read when it is recorded."""
    return StoredResult(result.kind == "success", result.data, result.error, visit.iteration)


def _idempotency_key(visit: Visit) -> str:
    """The same for every attempt of one visit, and of one item of it."""
    key = f"{visit.flow_run_id}:{visit.task}:{visit.iteration}"
    return key if visit.parent_id is None else f"{key}:{visit.item_index}"
