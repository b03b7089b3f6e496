"""The endings of runs: begin one, find what it does next, conclude it.

How a run will have ended stands in its row (``flow_run.ending``), what it has still to undo in
the rows of ``compensation``, and what it does at this moment in its only open branch. All of it
changes under the lock of the run and together with what caused it, so that a crash at any point
loses nothing and repeats nothing.

The one place, too, where a run that does not simply run out gets its final status.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple

import orjson
from sqlalchemy import Connection, Text, bindparam, case, or_, select, type_coerce, update

from shared.definition import FlowDefinition
from shared.ids import BranchId, FlowRunId, TaskRunId, new_id
from shared.models import Branch, FlowRun, StoredDefinition, TaskRun
from shared.statements import Row, Statement
from shared.status import BranchState, RunStatus
from shared.store.compensations import Following, take_next, write_plan
from shared.store.places import free_runs
from shared.undoing import Ending, Told, Undoing, parse_ending, read_undoing

branches = Branch.__table__
definitions = StoredDefinition.__table__
runs = FlowRun.__table__
task_runs = TaskRun.__table__


@dataclass(slots=True)
class Begun:
    """The endings that a transaction begins, each by a branch that is ready for anybody."""

    ready_at: float
    """Lease time."""
    branch_id: BranchId | None = None
    """What that branch is to be called, where somebody will ring for it by that."""
    runs: list[FlowRunId] = field(default_factory=list)
    ready: list[BranchId] = field(default_factory=list)
    """Their branches, to ring for."""

    def conclude(
        self,
        connection: Connection,
        flow_run_id: FlowRunId,
        undoing: Undoing | None,
        ending: Ending,
        at: datetime,
    ) -> bool:
        """End a locked run whose branches are stopped; whether that is final.

        It is not where something is to be undone, or to run last: then that begins.
        """
        if undoing is not None:
            first = write_ending(connection, flow_run_id, undoing, ending)
            if first is not None:
                self.runs.append(flow_run_id)
                self.start(connection, flow_run_id, undoing, first)
                return False
        write_final(connection, flow_run_id, ending, at)
        return True

    def start(
        self, connection: Connection, flow_run_id: FlowRunId, undoing: Undoing, first: Following
    ) -> None:
        """Add the branch of an ending."""
        branch_id = self.branch_id or BranchId(new_id())
        connection.execute(
            branches.insert(),
            {
                "id": branch_id,
                "flow_run_id": flow_run_id,
                "state": BranchState.READY,
                "ready_at": self.ready_at,
                **_place(undoing, first),
            },
        )
        self.ready.append(branch_id)


class Standing(NamedTuple):
    """What must be known of a run before it is ended by something other than its steps."""

    undoing: Undoing | None
    is_ending: bool
    """Whether its ending has begun: nothing ends it any more but that."""


def read_standings(
    connection: Connection, flow_run_ids: Iterable[FlowRunId]
) -> dict[FlowRunId, Standing]:
    """How locked runs stand, and what their definitions say about endings."""
    found = _STANDINGS.all(connection, {"ids": sorted(flow_run_ids)})
    return {
        row.id: Standing(
            None if row.content is None else _read_undoing(row.content), row.ending is not None
        )
        for row in found
    }


def _read_undoing(content: bytes) -> Undoing | None:
    return read_undoing(FlowDefinition.model_validate_json(content))


def write_ending(
    connection: Connection,
    flow_run_id: FlowRunId,
    undoing: Undoing,
    ending: Ending,
    output: bytes | None = None,
) -> Following | None:
    """Write down how a locked run that has no open branch will have ended, and what it does
    before; the first of it. None where there is nothing: then nothing is written."""
    planned = write_plan(connection, flow_run_id, undoing) if ending.undoes else 0
    first = take_next(connection, flow_run_id, undoing, None)
    if first is not None:
        stored = replace(ending, planned=planned).to_json()
        connection.execute(
            update(runs)
            .where(runs.c.id == flow_run_id)
            .values(ending=stored, output=output, deadline=None, active=1)
        )
    return first


def note_failure(
    connection: Connection,
    flow_run_id: FlowRunId,
    task: str,
    undoes: TaskRunId | None,
    error: Told,
) -> None:
    """Note in the row of a locked run that a task of its ending failed for good."""
    undone = None
    if undoes is not None:
        undone = connection.execute(
            select(task_runs.c.task).where(task_runs.c.id == undoes)
        ).scalar_one()
    ending = read_ending(connection, flow_run_id).with_failure(task, undone, error)
    connection.execute(update(runs).where(runs.c.id == flow_run_id).values(ending=ending.to_json()))


def conclude_ending(connection: Connection, flow_run_id: FlowRunId, at: datetime) -> RunStatus:
    """Give a locked run its final status whose ending is over."""
    ending = read_ending(connection, flow_run_id).concluded()
    write_final(connection, flow_run_id, ending, at)
    return ending.status


def give_up_visit(
    connection: Connection,
    branch: Row,
    undoing: Undoing,
    error: Told,
    at: datetime,
    begun: Begun,
) -> bool:
    """Go on in an ending behind a visit that nobody can run; whether the run is over by that.

    The branch is ready and locked, as the run is.
    """
    flow_run_id, branch_id = FlowRunId(branch.flow_run_id), BranchId(branch.id)
    note_failure(connection, flow_run_id, branch.task, branch.previous_id, error)
    following = take_next(connection, flow_run_id, undoing, branch.path)
    values: dict[str, object] = {"state": BranchState.DONE}
    if following is None:
        conclude_ending(connection, flow_run_id, at)
    else:
        values = {"ready_at": begun.ready_at, **_place(undoing, following)}
        begun.ready.append(branch_id)
    connection.execute(
        update(branches)
        .where(branches.c.id == branch_id)
        .values(
            claim=branches.c.claim + 1,
            task_run_id=None,
            wake_at=None,
            signal=None,
            attempt=0,
            failed_attempts=0,
            losses=0,
            **values,
        )
    )
    return following is None


def rename_branch(
    connection: Connection, branch_id: BranchId, undoing: Undoing, following: Following
) -> None:
    """Let the ending branch be called by what it does now, and belong to who can do that."""
    place = _place(undoing, following)
    values = {f"b_{name}": place[name] for name in ("path", "queue", "priority")}
    _NAME.run(connection, {"b_id": branch_id, **values})


def _place(undoing: Undoing, following: Following) -> dict[str, object]:
    """Where the ending branch stands, as columns of its row."""
    task = undoing.tasks[following.task]
    return {
        "path": following.path,
        "task": following.task,
        "task_type": task.task_type,
        "queue": task.queue,
        "priority": task.priority,
        "iteration": following.iteration,
        "previous_id": following.undoes,
    }


def write_final(
    connection: Connection, flow_run_id: FlowRunId, ending: Ending, at: datetime
) -> None:
    """Give a locked, running run its final status."""
    output = runs.c.output if ending.status is RunStatus.COMPLETED else None
    connection.execute(
        update(runs)
        .where(runs.c.id == flow_run_id, runs.c.status == RunStatus.RUNNING)
        .values(
            status=ending.status,
            outcome=ending.outcome,
            error=None if ending.error is None else orjson.dumps(ending.error),
            output=output,
            ending=None,
            finished_at=at,
            active=0,
        )
    )
    free_runs(connection, [flow_run_id])


def read_ending(connection: Connection, flow_run_id: FlowRunId) -> Ending:
    """How a run in its ending will have ended."""
    (row,) = _ENDING.all(connection, {"run": flow_run_id})
    return parse_ending(row.ending)


# A definition whose text has none of these words says nothing about endings: it is not read.
_CONTENT = type_coerce(definitions.c.content, Text)
_MAY_END = or_(_CONTENT.like('%"compensate"%'), _CONTENT.like('%"finally"%'))

_STANDINGS = Statement(
    select(
        runs.c.id,
        runs.c.ending,
        case((_MAY_END, definitions.c.content)).label("content"),
    )
    .join_from(runs, definitions, definitions.c.hash == runs.c.definition_hash, isouter=True)
    .where(runs.c.id.in_(bindparam("ids", expanding=True)))
)

_ENDING = Statement(select(runs.c.ending).where(runs.c.id == bindparam("run")))

_NAME = Statement(
    update(branches)
    .where(branches.c.id == bindparam("b_id"))
    .values(path=bindparam("b_path"), queue=bindparam("b_queue"), priority=bindparam("b_priority"))
)
