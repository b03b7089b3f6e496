"""Makes one attempt at one visit: its params filled in, its task run, its result judged.

The pipeline between a claimed visit and the step that is recorded. It writes nothing: what
comes out of it is recorded by the runner, under the claim.
"""

import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, datetime

import orjson

from shared.errors import ExpressionError
from shared.flow import Flow
from shared.queries.results import StoredResult
from shared.registry import Registry
from shared.routing import Applies
from shared.settings import Settings
from shared.store.branches import ClaimedRun, Visit
from shared.tasks import EarlierResult, Json
from worker.evaluation import applies_in, broken_off, render_params, scope_of
from worker.execution import AttemptResult, Execution, Executor
from worker.journal import Journal
from worker.judging import Judgement, judge
from worker.memory import Memories, Memory


class Visits:
    """Makes the visits of one worker."""

    def __init__(
        self,
        executor: Executor,
        journal: Journal,
        memories: Memories,
        registry: Registry,
        settings: Settings,
    ) -> None:
        self._executor = executor
        self._journal = journal
        self._memories = memories
        self._registry = registry
        self._settings = settings

    async def make(
        self, visit: Visit, run: ClaimedRun, flow: Flow, memory: Memory
    ) -> tuple[AttemptResult, Judgement]:
        """Make an attempt; what it came to, and what that means.

        Raises:
            asyncio.CancelledError: the caller was cancelled; what was logged is kept.
        """
        began = time.monotonic()
        result = await self._attempt(visit, run, flow, memory)
        return await self._judge(visit, run, flow, memory, result, began)

    async def _attempt(
        self, visit: Visit, run: ClaimedRun, flow: Flow, memory: Memory
    ) -> AttemptResult:
        try:
            return await self._executor.execute(await self._execution(visit, run, flow, memory))
        except ExpressionError as error:
            return broken_off(error)
        except asyncio.CancelledError as stopped:
            # Nobody records a stopped attempt; what it logged is kept all the same.
            if stopped.args and isinstance(cancelled := stopped.args[0], AttemptResult):
                self._journal.keep(cancelled.logs)
            raise

    async def _execution(
        self, visit: Visit, run: ClaimedRun, flow: Flow, memory: Memory
    ) -> Execution:
        task = flow.tasks[visit.task]
        data = flow.data.of(visit.task)
        tasks: Mapping[str, EarlierResult] = {}
        previous: Json = None
        if self._registry.get(visit.task_type).needs_results:
            await self._memories.complete(memory, visit, flow)
            tasks, previous = memory.results(), memory.previous_json()
        elif data.params is not None:
            await self._memories.complete(memory, visit, flow, data.before)
        params: Json = task.params
        if data.params is not None:
            secrets = {name: self._secret(name) for name in data.secrets}
            params = render_params(flow, visit, scope_of(run, visit, memory, secrets))
        return Execution(
            task_type=visit.task_type,
            name=visit.task,
            params=params,
            input=_load(run.input),
            tasks=tasks,
            previous=previous,
            run_id=visit.flow_run_id,
            task_run_id=visit.task_run_id,
            flow_id=run.flow_id,
            branch=visit.path,
            attempt=visit.attempt,
            iteration=visit.iteration,
            idempotency_key=f"{visit.flow_run_id}:{visit.task}:{visit.iteration}",
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
        began: float,
    ) -> tuple[AttemptResult, Judgement]:
        """What ``result`` means; the result is another one where a condition breaks off."""
        elapsed = time.monotonic() - began
        retry = flow.tasks[visit.task].retry
        if visit.attempt > 1 and retry is not None and retry.budget is not None:
            first = await asyncio.to_thread(self._memories.visit_began, visit)
            elapsed = (datetime.now(UTC) - first).total_seconds()
        if result.kind == "suspended" or not flow.decider.asks(visit.task):
            return result, judge(flow, visit, result, elapsed_seconds=elapsed)
        applies = await self._conditions(visit, run, flow, memory, result)
        try:
            return result, judge(flow, visit, result, elapsed_seconds=elapsed, applies=applies)
        except ExpressionError as error:
            result = broken_off(error, result)
        # Where that leads must not depend on what cannot be evaluated.
        return result, judge(flow, visit, result, elapsed_seconds=elapsed, applies=lambda _: False)

    async def _conditions(
        self, visit: Visit, run: ClaimedRun, flow: Flow, memory: Memory, result: AttemptResult
    ) -> Applies:
        """The conditions of the visit, asked as if its result were recorded already."""
        await self._memories.complete(memory, visit, flow, flow.data.of(visit.task).after)
        after = Memory(before=memory.flattened(), previous=memory.previous, joined=memory.joined)
        after.add(visit.task, stored_result(result, visit))
        return applies_in(flow, visit, scope_of(run, visit, after))


def stored_result(result: AttemptResult, visit: Visit) -> StoredResult:
    """``result`` as it will be read when it is recorded."""
    return StoredResult(result.kind == "success", result.data, result.error, visit.iteration)


def _load(data: bytes | None) -> Json:
    return None if data is None else orjson.loads(data)
