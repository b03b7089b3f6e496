"""The product's works through its engine, without HTTP.

Runs are submitted as the API submits them: written through the store's group-commit writer,
then rung for. That a run has ended is learned from the message that the API's waiting
requests are woken by; what the database says at the end is checked once.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Self

import orjson
from sqlalchemy import func, select

from bench import product_flows
from bench.measuring import WorkNotDone
from shared.database import Database, create_database
from shared.events import Subscriber
from shared.flow import Flow
from shared.ids import BranchId, FlowRunId, new_id
from shared.lease_clock import LeaseClock
from shared.models import FlowRun
from shared.queue import Ringer
from shared.settings import load_settings
from shared.status import Outcome
from shared.store.runs import NewRun, create_runs
from shared.submissions import split_submission
from shared.validation import validate_definition
from shared.writer import Writer

runs = FlowRun.__table__

LISTEN_TRIES = 500
LISTEN_PAUSE_SECONDS = 0.01


class EngineSide:
    """The submitter. It lives on the event loop of its runner."""

    def __init__(self, runner: asyncio.Runner, environment: dict[str, str]) -> None:
        settings = load_settings(
            database_url=environment["FLOW_DATABASE_URL"],
            redis_url=environment["FLOW_REDIS_URL"],
        )
        redis_url = settings.redis_url.get_secret_value()
        self._runner = runner
        self.database: Database = create_database(settings)
        self._writer = Writer(self.database, settings)
        self._clock = LeaseClock(self.database)
        self._flows: dict[bytes, tuple[Flow, bytes]] = {}
        self._waiting: set[str] = set()
        self._all_ended = asyncio.Event()

        async def connect() -> tuple[Ringer, Subscriber]:
            ringer = Ringer(redis_url, settings.queue_name, settings.ring_timeout_seconds)
            subscriber = Subscriber(redis_url, settings.queue_name, on_ended=self._note_ended)
            await ringer.start()
            await subscriber.start()
            for _ in range(LISTEN_TRIES):
                if subscriber.is_listening:
                    return ringer, subscriber
                await asyncio.sleep(LISTEN_PAUSE_SECONDS)
            raise TimeoutError("no subscription to the ends of runs")

        self._ringer, self._subscriber = runner.run(connect())

    @classmethod
    @contextmanager
    def started(cls, runner: asyncio.Runner, environment: dict[str, str]) -> Iterator[Self]:
        """The submitter, while the block runs."""
        side = cls(runner, environment)
        side._writer.start()
        with side.database.read() as connection:
            side._clock.synchronise(connection)
        try:
            yield side
        finally:
            runner.run(side._subscriber.close())
            runner.run(side._ringer.close())
            side._writer.close()
            side.database.close()

    def run_sequential(self, steps: int, timeout_seconds: float) -> None:
        """One run of ``steps`` steps."""
        self._runner.run(self._run(product_flows.sequential(steps), 1, timeout_seconds))

    def run_parallel(self, width: int, timeout_seconds: float) -> None:
        """One run with a fork of ``width``."""
        self._runner.run(self._run(product_flows.parallel(width), 1, timeout_seconds))

    def run_many(self, flows: int, steps: int, timeout_seconds: float) -> None:
        """All runs at once."""
        self._runner.run(self._run(product_flows.sequential(steps), flows, timeout_seconds))

    def run_flow(self, body: bytes, given: bytes, timeout_seconds: float) -> None:
        """One run of a request's definition with an input."""
        (run_id,) = self.submit(body, [given], anew=True)
        self.wait(timeout_seconds)
        self._check(run_id)

    def submit(
        self, body: bytes, inputs: Sequence[bytes], *, anew: bool = False
    ) -> list[FlowRunId]:
        """Start a run for each input; with ``anew`` no others are waited for any more."""
        if anew:
            self._waiting.clear()
        return self._runner.run(self._begin(body, inputs))

    def wait(self, timeout_seconds: float) -> None:
        """Wait for all runs that were submitted."""
        self._runner.run(self._wait(timeout_seconds))

    async def _run(self, body: bytes, flows: int, timeout_seconds: float) -> None:
        self._waiting.clear()
        async with asyncio.timeout(timeout_seconds):
            run_ids = await self._begin(body, [b"{}"] * flows)
            await self._all_ended.wait()
        if flows == 1:
            self._check(run_ids[0])

    async def _begin(self, body: bytes, inputs: Sequence[bytes]) -> list[FlowRunId]:
        flow, content = self._prepare(body)
        new = [self._new_run(flow, content, given) for given in inputs]
        self._waiting.update(run.flow_run_id for run in new)
        self._all_ended.clear()
        await asyncio.gather(*(self._submit(run) for run in new))
        return [run.flow_run_id for run in new]

    async def _wait(self, timeout_seconds: float) -> None:
        async with asyncio.timeout(timeout_seconds):
            await self._all_ended.wait()

    async def _submit(self, run: NewRun) -> None:
        created = await self._writer.call(create_runs, run)
        if created.branch_id is not None:
            self._ringer.ring([created.branch_id])

    def _note_ended(self, run_ids: Sequence[str]) -> None:
        self._waiting.difference_update(run_ids)
        if not self._waiting:
            self._all_ended.set()

    def _prepare(self, body: bytes) -> tuple[Flow, bytes]:
        """The flow of a request's body, judged once, as the API does."""
        if body not in self._flows:
            submission = split_submission(orjson.loads(body))
            judged = validate_definition(submission.definition, prefix=submission.prefix)
            if judged.flow is None:
                raise WorkNotDone(judged.errors[0].message)
            self._flows[body] = (judged.flow, judged.definition_json)
        return self._flows[body]

    def _new_run(self, flow: Flow, content: bytes, given: bytes) -> NewRun:
        start = flow.definition.start_task
        return NewRun(
            flow_run_id=FlowRunId(new_id()),
            branch_id=BranchId(new_id()),
            flow_id=flow.definition.id,
            name=flow.definition.name,
            definition_hash=flow.hash,
            definition_json=content,
            input_json=given,
            tags_json=b"[]",
            start_task=start,
            start_type=flow.tasks[start].task_type,
            created_at=datetime.now(UTC),
            ready_at=self._clock.now(),
        )

    def _check(self, flow_run_id: str) -> None:
        """A run that went wrong would be quick, too."""
        with self.database.read() as connection:
            good = connection.execute(
                select(func.count()).where(
                    runs.c.id == flow_run_id, runs.c.outcome == Outcome.SUCCESS
                )
            ).scalar_one()
        if good != 1:
            raise WorkNotDone("the run did not end in success")
