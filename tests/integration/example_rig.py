"""An engine that knows the tasks of the examples, and the services that they call."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import select

from shared.ids import FlowRunId
from shared.models import NO_INDEX, TaskRun
from shared.store.definitions import NewVersion, put_versions
from shared.store.signals import NewSignal, send_signals
from shared.validation import validate_definition
from tests.integration.engine_rig import Rig, open_rig
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
MODULES = tuple(str(path) for path in sorted([*EXAMPLES.glob("tasks/*.py"), EXAMPLES / "media.py"]))


class ExampleRig(Rig):
    """Runs examples as they are, or with another input."""

    async def start(self, name: str, **given: Any) -> FlowRunId:
        """A run of an example; ``given`` replaces parts of the input that stands in its file."""
        document = read_example(name)
        return await self.submit(document["flow"], {**document["input"], **given})

    async def store(self, name: str) -> None:
        """What ``flow-manager definitions put`` does."""
        flow = read_example(name)["flow"]
        judged = validate_definition(flow, task_types=self.engine.registry.names())
        assert judged.flow is not None, judged.errors
        new = NewVersion(flow["id"], judged.flow.hash, judged.definition_json, datetime.now(UTC))
        await self.engine.writer.call(put_versions, new)

    async def signal(self, run_id: FlowRunId, task: str, name: str, data: Any) -> None:
        """Send a signal as soon as a task waits for one."""
        await wait_until(
            lambda: self.waits(run_id, task), description=f"{task} waits for its signal"
        )
        sent = NewSignal(
            run_id, name, orjson.dumps(data), datetime.now(UTC), self.engine.clock.now() - 10
        )
        await self.engine.writer.call(send_signals, sent)

    def waits(self, run_id: FlowRunId, task: str) -> bool:
        """Whether the last visit of a task waits."""
        found = self.tasks(run_id).get(task)
        return found is not None and found.status == "waiting"

    def task_runs(self, run_id: FlowRunId, task: str) -> list[Any]:
        """The task runs of a task, as they began."""
        table = TaskRun.__table__
        query = select(table).where(table.c.flow_run_id == run_id, table.c.task == task)
        with self.engine.database.read() as connection:
            return list(connection.execute(query.order_by(table.c.id)))

    def data(self, run_id: FlowRunId, task: str) -> Any:
        """What a task gave at its last visit, of a list all items together."""
        whole = [one for one in self.task_runs(run_id, task) if one.item_index == NO_INDEX]
        return orjson.loads(whole[-1].data)

    async def output(self, run_id: FlowRunId) -> Any:
        """The run's output, once it is over; it must have ended well."""
        run = await self.ended(run_id)
        assert (run.status, run.outcome) == ("completed", "success"), run
        return orjson.loads(run.output)


def read_example(name: str) -> Any:
    """The file of an example."""
    return orjson.loads((EXAMPLES / f"{name}.json").read_bytes())


@asynccontextmanager
async def open_examples(
    database_url: str, redis_url: str, **settings: Any
) -> AsyncIterator[ExampleRig]:
    """An engine for the examples; it may call services on this machine."""
    loopback = {"http_allowed_networks": ("127.0.0.0/8",)}
    async with open_rig(database_url, redis_url, MODULES, **loopback, **settings) as rig:
        examples = ExampleRig(rig.engine)
        examples.answer_rings()
        yield examples


@pytest.fixture
async def examples(database_url: str, redis_url: str) -> AsyncIterator[ExampleRig]:
    """An engine for the examples, on each database."""
    async with open_examples(database_url, redis_url) as rig:
        yield rig


@pytest.fixture
async def examples_on_sqlite(sqlite_url: str, redis_url: str) -> AsyncIterator[ExampleRig]:
    """The same on SQLite only, for what takes longer."""
    async with open_examples(sqlite_url, redis_url) as rig:
        yield rig


@pytest.fixture
def stand_in() -> Iterator[str]:
    """The address of the services that stand in for others, in a process of their own."""
    command = [sys.executable, "-P", str(EXAMPLES / "stand_in.py"), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.kill()
