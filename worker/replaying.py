"""Finds the result that a rerun keeps for a visit, so that its task is not run again.

What is kept is decided by ``shared.replay``; here its facts are read: of the source once, since
a run that is over never changes, of the rerun for each visit what it came from. Nothing is
remembered that a crash could take along: another worker finds the same.
"""

import asyncio
from collections import OrderedDict
from threading import Lock

import orjson
from sqlalchemy import Connection

from shared.database import Database
from shared.definition import FlowDefinition
from shared.flow import Flow
from shared.ids import FlowRunId
from shared.queries.replay import (
    definition_of_source,
    last_of_item,
    read_past,
    reasons_before,
    result_of,
)
from shared.replay import (
    KEPT_MARK,
    Kept,
    Point,
    Replay,
    changed_tasks,
    is_replayed,
    may_keep,
    plan_replay,
    read_origins,
)
from shared.status import TaskRunStatus
from shared.store.branches import ClaimedRun, Visit
from shared.store.reruns import read_rerun
from worker.execution import AttemptResult

_MAX_WEIGHT = 50_000
"""Visits of sources that are remembered."""


class Replays:
    """Looks up what the reruns of one worker keep."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._plans: OrderedDict[tuple[bytes, str], Replay] = OrderedDict()
        self._planning = Lock()

    async def result_of(self, visit: Visit, run: ClaimedRun, flow: Flow) -> AttemptResult | None:
        """The result that ``visit`` keeps of its run's source; None where it must be made."""
        # Who waited has been looked up before, and had to be made.
        if run.rerun is None or visit.resumed or not is_replayed(visit.path):
            return None
        return await asyncio.to_thread(self._find, visit, run.rerun, flow)

    def _find(self, visit: Visit, rerun: bytes, flow: Flow) -> AttemptResult | None:
        source, point = read_rerun(rerun)
        with self._database.read() as connection:
            origins = read_origins(
                reasons_before(
                    connection,
                    FlowRunId(visit.flow_run_id),
                    visit.previous_id,
                    visit.joined_by,
                )
            )
            if origins is None:
                return None
            replay = self._plan(connection, rerun, source, point, flow)
            kept = replay.of(visit.task, origins)
            if kept is None:
                return None
            if visit.parent_id is not None:
                return _item(connection, source, kept, visit, replay)
            return _whole(connection, kept) if kept.whole else None

    def _plan(
        self, connection: Connection, rerun: bytes, source: FlowRunId, point: Point, flow: Flow
    ) -> Replay:
        key = (rerun, flow.hash)
        with self._planning:
            replay = self._plans.get(key)
            if replay is None:
                replay = _read_plan(connection, source, point, flow)
                self._plans[key] = replay
                while len(self._plans) > 1 and self._weight() > _MAX_WEIGHT:
                    self._plans.popitem(last=False)
            self._plans.move_to_end(key)
            return replay

    def _weight(self) -> int:
        return sum(replay.weight for replay in self._plans.values())


def _read_plan(connection: Connection, source: FlowRunId, point: Point, flow: Flow) -> Replay:
    past = read_past(connection, source)
    changed: frozenset[str] = frozenset()
    stored = definition_of_source(connection, source)
    if stored is not None and stored[0] != flow.hash:
        changed = changed_tasks(FlowDefinition.model_validate_json(stored[1]), flow.definition)
    return plan_replay(past, point, changed, flow.graph)


def _whole(connection: Connection, kept: Kept) -> AttemptResult:
    row = result_of(connection, kept.task_run_id)
    reason = f"{KEPT_MARK}{kept.task_run_id}"
    if row.status == TaskRunStatus.SUCCESS:
        return AttemptResult("success", data=row.data, reason=reason)
    if row.error is None:
        return AttemptResult("failure", data=row.data, reason=reason)
    return AttemptResult("error", data=row.data, error=row.error, reason=reason)


def _item(
    connection: Connection, source: FlowRunId, kept: Kept, visit: Visit, replay: Replay
) -> AttemptResult | None:
    """The result of one item of a list that is gone through again, where it succeeded."""
    if not kept.items:
        return None
    row = last_of_item(connection, source, visit.task, kept.iteration, visit.item_index)
    if row is None or row.id in replay.undone or not may_keep(row.status, row.reason):
        return None
    if row.status != TaskRunStatus.SUCCESS or not _are_equal(row.item, visit.item):
        return None
    return AttemptResult("success", data=row.data, reason=f"{KEPT_MARK}{row.id}")


def _are_equal(one: bytes | None, other: bytes | None) -> bool:
    if one is None or other is None:
        return one is other
    return one == other or orjson.loads(one) == orjson.loads(other)
