"""What the calls of one process share, opened and closed together."""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import cast

from sqlalchemy import Connection
from starlette.requests import Request

from api.reading import Reader
from api.simulation import Simulations
from api.statistics import Statistics
from api.stored import StoredView
from api.sub_flows import SubFlowView
from api.submission import Submissions
from api.upgrading import Upgrade
from api.worker_view import WorkerView
from shared.database import create_database
from shared.events import Publisher, RunEndings, Subscriber
from shared.ids import FlowRunId
from shared.lease_clock import LeaseClock
from shared.queries.runs import run_statuses
from shared.queue import Ringer
from shared.settings import Settings
from shared.status import is_terminal
from shared.writer import Writer


@dataclass(frozen=True, slots=True)
class Resources:
    """The parts of a running API process."""

    settings: Settings
    reader: Reader
    writer: Writer
    clock: LeaseClock
    ringer: Ringer
    publisher: Publisher
    endings: RunEndings
    workers: WorkerView
    submissions: Submissions
    simulations: Simulations
    statistics: Statistics
    upgrade: Upgrade


def resources_of(request: Request) -> Resources:
    """The parts that serve ``request``."""
    return cast(Resources, request.app.state.resources)


@asynccontextmanager
async def open_resources(settings: Settings) -> AsyncIterator[Resources]:
    """Connect to everything. Neither the database nor Redis needs to be there yet."""
    database = create_database(settings)
    reader = Reader(database)
    writer = Writer(database, settings)
    clock = LeaseClock(database)
    redis_url = settings.redis_url.get_secret_value()
    ringer = Ringer(redis_url, settings.queue_name, settings.ring_timeout_seconds)
    writer.on_ready = lambda ready: ringer.ring(list(ready))

    async def find_ended(flow_run_ids: Sequence[str]) -> Collection[str]:
        return await reader.call(_ended, [FlowRunId(one) for one in flow_run_ids])

    endings = RunEndings(find_ended)
    subscriber = Subscriber(redis_url, settings.queue_name, on_ended=endings.notify)
    workers = WorkerView(reader, clock, settings)
    resources = Resources(
        settings=settings,
        reader=reader,
        writer=writer,
        clock=clock,
        ringer=ringer,
        publisher=Publisher(ringer, settings.queue_name),
        endings=endings,
        workers=workers,
        submissions=Submissions(workers, StoredView(reader), SubFlowView(reader), settings),
        simulations=Simulations(settings),
        statistics=Statistics(reader, clock),
        upgrade=Upgrade(settings),
    )
    async with AsyncExitStack() as stack:
        stack.callback(database.close)
        stack.callback(reader.close)
        # Whoever still waits is let go first, then all is written, then rung for.
        for part in (resources.upgrade, ringer):
            stack.push_async_callback(part.close)
            await part.start()
        writer.start()
        stack.push_async_callback(asyncio.to_thread, writer.close)
        for listener in (subscriber, endings):
            stack.push_async_callback(listener.close)
            await listener.start()
        yield resources


def _ended(connection: Connection, flow_run_ids: Sequence[FlowRunId]) -> list[FlowRunId]:
    found = run_statuses(connection, flow_run_ids)
    return [one for one in flow_run_ids if one in found and is_terminal(found[one])]
