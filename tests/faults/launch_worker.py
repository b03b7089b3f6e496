"""Starts a worker that kills itself at a named point: ``python -P launch_worker.py POINT``.

The points are wrapped around the engine from outside, so that it holds no code for tests.

=================  ============================================================================
``before-commit``  the task has ended, its record has not begun
``in-commit``      its rows are written, the transaction is not committed
``stand``          its rows are written, and the process stops (SIGSTOP) before the commit
``before-ring``    it is committed, and nobody was rung for what became ready
``before-start``   a start of a schedule is decided, nothing of it is written
``in-start``       it is written with its run, the transaction is not committed
``no-drop``        never dies, and goes on with branches that were taken away
``no-fence``       the same, and even records what they come to (negative control)
``no-run-lock``    reads a run's numbers and writes them later without a lock in between, which
                   is counting first and deciding then (negative control)
=================  ============================================================================
"""

import os
import signal
import sys
from collections.abc import Sequence

from sqlalchemy import Connection, select

from shared.ids import FlowRunId
from shared.models import FlowRun
from shared.queue import Ringer
from shared.statements import Row
from shared.store import steps
from shared.store.runs import CreatedRun
from shared.store.scheduled_starts import Verdict, carry_out
from shared.store.step import Recorded, Step
from worker import runner, scheduler
from worker.__main__ import main


def _die(*_arguments: object, **_options: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _record_and_die(connection: Connection, items: Sequence[Step]) -> list[Recorded]:
    recorded = steps.record_steps(connection, items)
    _die()
    return recorded


def _record_and_stand(connection: Connection, items: Sequence[Step]) -> list[Recorded]:
    recorded = steps.record_steps(connection, items)
    setattr(runner, "record_steps", steps.record_steps)  # noqa: B010  # as below
    os.kill(os.getpid(), signal.SIGSTOP)
    return recorded


def _start_and_die(connection: Connection, items: Sequence[Verdict]) -> list[CreatedRun | None]:
    created = carry_out(connection, items)
    _die()
    return created


def _no_fence(connection: Connection, items: Sequence[Step]) -> list[Step]:
    return list(items)


def _read_runs(connection: Connection, ids: Sequence[FlowRunId]) -> dict[FlowRunId, Row]:
    runs = FlowRun.__table__
    numbers = (
        runs.c.id,
        runs.c.status,
        runs.c.active,
        runs.c.failed,
        runs.c.task_runs,
        runs.c.parent_task_run_id,
    )
    found = connection.execute(select(*numbers).where(runs.c.id.in_(ids)))
    return {row.id: row for row in found}


def _never_drop() -> None:
    runner.Runner.drop = lambda *_: None  # type: ignore[method-assign]


def arrange(point: str) -> None:
    """Set the trap."""
    match point:
        case "before-commit":
            setattr(runner, "record_steps", _die)  # noqa: B010  # mypy sees a name of another module
        case "in-commit":
            setattr(runner, "record_steps", _record_and_die)  # noqa: B010  # the same
        case "stand":
            setattr(runner, "record_steps", _record_and_stand)  # noqa: B010  # the same
        case "before-ring":
            Ringer.ring = _die  # type: ignore[method-assign]
        case "before-start":
            setattr(scheduler, "carry_out", _die)  # noqa: B010  # the same
        case "in-start":
            setattr(scheduler, "carry_out", _start_and_die)  # noqa: B010  # the same
        case "no-drop":
            _never_drop()
        case "no-fence":
            _never_drop()
            steps._fence = _no_fence
        case "no-run-lock":
            setattr(steps, "lock_runs", _read_runs)  # noqa: B010  # as above
        case _:
            raise SystemExit(f"no such point: {point}")


if __name__ == "__main__":
    arrange(sys.argv[1])
    main()
