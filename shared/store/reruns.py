"""Reruns: create them while their source is there, and keep it for as long as they need it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import orjson
from sqlalchemy import ColumnElement, Connection, select, update

from shared.ids import FlowRunId
from shared.models import FlowRun
from shared.replay import Point
from shared.status import RunStatus
from shared.store.runs import CreatedRun, NewRun, create_runs
from shared.store.stopping import lock_runs
from shared.writer import apart

runs = FlowRun.__table__

RerunRefusal = Literal["unknown", "running"]


@dataclass(frozen=True, slots=True)
class NewRerun:
    """A run that is to keep results of another one."""

    source: FlowRunId
    run: NewRun
    point: Point | None
    """None: it keeps nothing."""


@apart
def create_reruns(
    connection: Connection, items: Sequence[NewRerun]
) -> list[CreatedRun | RerunRefusal]:
    """Store reruns of runs that are over; of others it is said why not."""
    # Locked, so that a source is not pruned while its rerun is made.
    sources = lock_runs(connection, sorted({item.source for item in items}))
    results: list[CreatedRun | RerunRefusal] = []
    for item in items:
        source = sources.get(item.source)
        if source is None:
            results.append("unknown")
        elif source.status == RunStatus.RUNNING:
            results.append("running")
        else:
            results.append(_create(connection, item))
    return results


def _create(connection: Connection, item: NewRerun) -> CreatedRun:
    created = create_runs(connection, [item.run])[0]
    if not created.replayed:
        rerun = None if item.point is None else write_rerun(item.source, item.point)
        connection.execute(
            update(runs)
            .where(runs.c.id == created.flow_run_id)
            .values(rerun_of=item.source, rerun=rerun)
        )
    return created


def write_rerun(source: FlowRunId, point: Point) -> bytes:
    """What a run's row says of the results that it keeps."""
    return orjson.dumps({"source": source, "task": point.task})


def read_rerun(stored: bytes) -> tuple[FlowRunId, Point]:
    """The source and the point that a run's row names."""
    told = orjson.loads(stored)
    return FlowRunId(told["source"]), Point(told["task"])


def is_not_needed() -> ColumnElement[bool]:
    """The condition on a run that no rerun which is not over keeps results of it."""
    rerun = runs.alias("rerun")
    return (
        ~select(rerun.c.id)
        .where(rerun.c.rerun_of == runs.c.id, rerun.c.finished_at.is_(None))
        .exists()
    )


def needed_among(connection: Connection, ids: Collection[FlowRunId]) -> set[FlowRunId]:
    """Those of ``ids`` of which a rerun that is not over keeps results."""
    statement = select(runs.c.rerun_of).where(
        runs.c.rerun_of.in_(sorted(ids)), runs.c.finished_at.is_(None)
    )
    return set(connection.execute(statement).scalars())
