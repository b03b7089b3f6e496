"""What a branch knows of the tasks before it, kept in memory while it stays on this worker.

A branch that runs step after step in place reads nothing back. What was recorded elsewhere (a
fork's results on another worker, the branches of a join) is read once, when a task asks for
it, and shared by all branches of the same fork.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

import orjson

from shared.database import Database
from shared.flow import Flow
from shared.ids import FlowRunId
from shared.queries.endings import UndoneVisit, undone_visit
from shared.queries.results import (
    ItemResult,
    StoredResult,
    earlier_results,
    item_results,
    joined_data,
    taken_signal,
    task_and_data,
    visit_began,
)
from shared.store.branches import Visit
from shared.task_context import EarlierResult, Json, Signal
from worker.snapshots import Snapshots

_KEPT_SNAPSHOTS = 256
_LINK_BYTES = 200
"""What a result takes beside its data."""
_KEPT_BYTES = 32_000_000
"""Of all snapshots together: results may be as large as ``FLOW_MAX_RESULT_BYTES`` allows."""


@dataclass(slots=True)
class Memory:
    """The results before a branch's present visit."""

    before: Mapping[str, StoredResult] = field(default_factory=dict)
    """Shared with other branches of the same fork; never changed."""
    own: dict[str, StoredResult] = field(default_factory=dict)
    """Of this branch since then."""
    previous: bytes | None = None
    joined: Mapping[str, bytes | None] | None = None
    """Instead of ``previous``, at a join that merged several branches."""
    is_complete: bool = True
    """False while there is more to read than :attr:`read`."""
    read: frozenset[str] | None = None
    """The tasks whose results were read although others were not; None before any reading."""
    undone: UndoneVisit | None = None
    """In a run's ending: what the visit there is about."""

    @property
    def weight(self) -> int:
        """What was read takes so many bytes, roughly."""
        read = [stored.data for stored in self.before.values()]
        read += [self.previous, *(self.joined or {}).values()]
        return sum(_LINK_BYTES + len(data or b"") for data in read)

    def add(self, task: str, result: StoredResult) -> None:
        """Remember what the branch's last visit came to."""
        self.own[task] = result
        self.previous, self.joined = result.data, None

    def flattened(self) -> Mapping[str, StoredResult]:
        """Everything, as what the heads of a fork start with."""
        return {**self.before, **self.own} if self.own else self.before

    def previous_json(self) -> Json:
        """The ``previous`` of the task's context."""
        return self.previous_reader()()

    def previous_reader(self) -> Callable[[], Json]:
        """What gives :meth:`previous_json` as it is now, also when the branch has moved on."""
        if self.joined is not None:
            return partial(_load_each, dict(self.joined))
        return partial(_load, self.previous)

    def results(self) -> Mapping[str, EarlierResult]:
        """The ``tasks`` of the task's context."""
        return _Results(self.flattened())


def _load_each(joined: Mapping[str, bytes | None]) -> Json:
    return {task: _load(data) for task, data in joined.items()}


class _Results(Mapping[str, EarlierResult]):
    """Results that are parsed when they are asked for: most never are."""

    def __init__(self, stored: Mapping[str, StoredResult]) -> None:
        self._stored = stored

    def __getitem__(self, task: str) -> EarlierResult:
        return _to_result(self._stored[task])

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)


class Memories:
    """Reads what branches do not know."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._snapshots: Snapshots[Memory] = Snapshots(_KEPT_SNAPSHOTS, _KEPT_BYTES)

    async def complete(
        self, memory: Memory, visit: Visit, flow: Flow, only: frozenset[str] | None = None
    ) -> None:
        """Read what is missing from ``memory`` for ``visit``: everything, or ``only`` the
        results of those tasks, and in any case what came before it."""
        if memory.is_complete:
            return
        if only is not None and memory.read is not None:
            if only <= memory.read:
                return
            only |= memory.read
        key: tuple[str, str | None, frozenset[str] | None]
        key = (visit.previous_id or visit.flow_run_id, visit.joined_by, only)
        if visit.is_ending:
            # It knows more than anybody else behind that task, and more each time.
            key = (visit.task_run_id, None, only)
        reading = self._snapshots.get(key)
        if reading is None:
            reading = asyncio.ensure_future(asyncio.to_thread(self._read, visit, flow, only))
            self._snapshots.add(key, reading)
        # Shared by all branches of the fork: one that is cancelled must not cancel it.
        snapshot = await asyncio.shield(reading)
        memory.before = snapshot.before
        memory.previous, memory.joined = snapshot.previous, snapshot.joined
        memory.is_complete = only is None
        memory.read = only

    async def look_back(self, memory: Memory, visit: Visit) -> None:
        """Read what a visit in a run's ending is about."""
        memory.undone = await asyncio.to_thread(self._read_undone, visit)
        memory.previous, memory.joined = memory.undone.data, None

    def _read_undone(self, visit: Visit) -> UndoneVisit:
        with self._database.read() as connection:
            return undone_visit(connection, visit.flow_run_id, visit.previous_id)

    async def signal(self, visit: Visit) -> Signal | None:
        """The signal that ended the wait of ``visit``, where one did."""
        return await asyncio.to_thread(self._read_signal, visit)

    def _read_signal(self, visit: Visit) -> Signal | None:
        with self._database.read() as connection:
            found = taken_signal(connection, visit.task_run_id)
        return None if found is None else Signal(found.name, _load(found.data))

    async def items(self, visit: Visit) -> list[ItemResult]:
        """What the items of ``visit`` came to."""
        return await asyncio.to_thread(self._read_items, visit)

    def _read_items(self, visit: Visit) -> list[ItemResult]:
        with self._database.read() as connection:
            return item_results(connection, visit.flow_run_id, visit.task, visit.iteration)

    def visit_began(self, visit: Visit) -> datetime:
        """When the first attempt at ``visit`` was started."""
        with self._database.read() as connection:
            began = visit_began(
                connection, visit.flow_run_id, visit.task, visit.iteration, visit.item_index
            )
        return began or datetime.now(UTC)

    def _read(self, visit: Visit, flow: Flow, only: frozenset[str] | None) -> Memory:
        run = FlowRunId(visit.flow_run_id)
        memory = Memory()
        with self._database.read() as connection:
            before = flow.graph.ancestors(visit.task)
            if visit.previous_id is not None:
                found = task_and_data(connection, visit.previous_id)
                if found is not None:
                    source, memory.previous = found
                    # The heads of a fork share what was before them: what their source knew.
                    before = flow.graph.ancestors(source) | {source}
            if visit.joined_by is not None:
                joined = joined_data(connection, run, visit.joined_by)
                before = flow.graph.ancestors(visit.task)
                if len(joined) > 1:
                    memory.joined = joined
            if visit.is_ending:
                before = frozenset(flow.tasks)
            if only is not None:
                before &= only
            memory.before = earlier_results(connection, run, before) if before else {}
        return memory


def _to_result(stored: StoredResult) -> EarlierResult:
    return EarlierResult(
        success=None if stored.error is not None else stored.success,
        data=_load(stored.data),
        error=_load(stored.error),
        iteration=stored.iteration,
    )


def _load(data: bytes | None) -> Json:
    return None if data is None else orjson.loads(data)
