"""What a run gives back: its definition's ``output``, filled in when the run ends."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

import orjson
from sqlalchemy import Connection, bindparam, select

from shared import evaluation
from shared.expressions import Scope
from shared.expressions.budget import Json
from shared.flow import Flow
from shared.ids import FlowRunId
from shared.models import NO_INDEX, FlowRun, TaskRun
from shared.statements import Row, Statement
from shared.status import TaskRunStatus
from shared.times import iso_time

runs = FlowRun.__table__
task_runs = TaskRun.__table__


def render_output(
    connection: Connection, flow: Flow, flow_run_id: FlowRunId, now: datetime
) -> bytes:
    """The ``output`` of a run that ends in this transaction, as JSON.

    Raises:
        ExpressionError: the results do not fit its expressions.
    """
    template = flow.data.output
    assert template is not None
    scope = Scope(now=now)
    if not template.is_constant:
        run = _RUN.all(connection, {"run": flow_run_id})[0]
        names = sorted(template.task_names)
        rows = _RESULTS.all(connection, {"run": flow_run_id, "tasks": names}) if names else []
        scope = Scope(
            input=_load(run.input),
            tasks=_Results({row.task: row for row in rows}),
            run={
                "id": flow_run_id,
                "flow_id": run.flow_id,
                "started_at": None if run.started_at is None else iso_time(run.started_at),
            },
            now=now,
        )
    return evaluation.render_output(flow, scope)


@dataclass(frozen=True, slots=True)
class _Result:
    """One stored result, its JSON read when it is asked for."""

    row: Row

    @property
    def success(self) -> bool | None:
        return None if self.row.error is not None else self.row.status == TaskRunStatus.SUCCESS

    @property
    def data(self) -> Json:
        return _load(self.row.data)

    @property
    def error(self) -> Json:
        return _load(self.row.error)

    @property
    def iteration(self) -> int:
        return int(self.row.iteration)


class _Results(Mapping[str, _Result]):
    def __init__(self, rows: Mapping[str, Row]) -> None:
        self._rows = rows

    def __getitem__(self, task: str) -> _Result:
        return _Result(self._rows[task])

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


def _load(data: bytes | None) -> Json:
    return None if data is None else orjson.loads(data)


_RUN = Statement(
    select(runs.c.input, runs.c.flow_id, runs.c.started_at).where(runs.c.id == bindparam("run"))
)

_RESULTS = Statement(
    select(
        task_runs.c.task,
        task_runs.c.iteration,
        task_runs.c.status,
        task_runs.c.data,
        task_runs.c.error,
    )
    .where(
        task_runs.c.flow_run_id == bindparam("run"),
        task_runs.c.task.in_(bindparam("tasks", expanding=True)),
        task_runs.c.item_index == NO_INDEX,
        task_runs.c.status.in_([TaskRunStatus.SUCCESS, TaskRunStatus.FAILED]),
    )
    # Of each task the last one is kept.
    .order_by(task_runs.c.task, task_runs.c.iteration, task_runs.c.attempt)
)
