"""A past for the product: so many finished runs in its database.

Every hundredth run has its three task runs, as any run has; the others would only make the
filling slower. The GETs ask for those.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from shared.database import create_database
from shared.ids import new_id
from shared.models import FlowRun, StoredDefinition, TaskRun
from shared.settings import load_settings
from shared.status import Outcome, RunStatus, TaskRunStatus

BATCH = 5_000
WITH_TASKS_EVERY = 100
STEPS = 3
HASH = "0" * 64


def store_runs(environment: dict[str, str], count: int) -> list[str]:
    """Store ``count`` finished runs; the ids of those that have task runs."""
    database = create_database(load_settings(database_url=environment["FLOW_DATABASE_URL"]))
    asked: list[str] = []
    content = b'{"id":"past","start_task":"step_0","tasks":[{"name":"step_0"}]}'
    definition = {"hash": HASH, "content": content, "created_at": datetime.now(UTC)}
    try:
        with database.write() as connection:
            connection.execute(StoredDefinition.__table__.insert(), definition)
        for ids in _batches(count):
            told = ids[::WITH_TASKS_EVERY]
            asked.extend(told)
            with database.write() as connection:
                connection.execute(FlowRun.__table__.insert(), [_run_row(each) for each in ids])
                connection.execute(
                    TaskRun.__table__.insert(),
                    [_task_row(each, step) for each in told for step in range(STEPS)],
                )
    finally:
        database.close()
    return asked


def _batches(count: int) -> Iterator[list[str]]:
    for start in range(0, count, BATCH):
        yield [new_id() for _ in range(min(BATCH, count - start))]


def _run_row(run_id: str) -> dict[str, object]:
    now = datetime.now(UTC)
    return {
        "id": run_id,
        "flow_id": "past",
        "name": "A run of the past",
        "definition_hash": HASH,
        "status": RunStatus.COMPLETED,
        "outcome": Outcome.SUCCESS,
        "input": b"{}",
        "output": b"{}",
        "tags": b"[]",
        "active": 0,
        "failed": 0,
        "task_runs": 1,
        "created_at": now,
        "started_at": now,
        "finished_at": now + timedelta(milliseconds=5),
    }


def _task_row(run_id: str, step: int) -> dict[str, object]:
    now = datetime.now(UTC)
    return {
        "id": new_id(),
        "flow_run_id": run_id,
        "branch_id": run_id,
        "branch": "main",
        "task": f"step_{step}",
        "task_type": "noop",
        "iteration": 1,
        "item_index": -1,
        "attempt": 1,
        "status": TaskRunStatus.SUCCESS,
        "data": b"{}",
        "started_at": now,
        "finished_at": now + timedelta(milliseconds=1),
    }
