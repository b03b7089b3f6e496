"""The six invariants, asked of the database and of the tasks' own journal.

1. An acknowledged submit ends in ``completed``, ``failed`` or ``cancelled``.
2. A task run that was recorded as finished is never executed again and never changes.
3. A join runs exactly once. A run gets its final status exactly once.
4. No write under a claim that was taken away is accepted.
5. Whatever was killed, the database is valid and nobody had to help.
6. Whatever was shown had been committed before.

Each check names what breaks it; an empty list is what a test wants to see.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, text

from shared.task_context import Json
from tests.faults.journal import Attempted, Journal

Finished = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Final:
    """How a run ended."""

    status: str
    outcome: str | None
    finished_at: datetime | str


@dataclass(slots=True)
class Violations:
    """What breaks an invariant, by its number."""

    found: dict[int, list[str]] = field(default_factory=dict)

    def add(self, invariant: int, what: Collection[object], sentence: str) -> None:
        """Note what breaks an invariant, if anything does."""
        if what:
            some = ", ".join(str(one) for one in list(what)[:5])
            self.found.setdefault(invariant, []).append(f"{len(what)} {sentence}: {some}")


def finals(connection: Connection) -> dict[str, Final]:
    """Every run that is over."""
    rows = connection.execute(text(_FINALS))
    return {str(row.id): Final(row.status, row.outcome, row.finished_at) for row in rows}


def finished_task_runs(connection: Connection) -> dict[str, Finished]:
    """Every task run that has its result."""
    return {str(row.id): tuple(row) for row in connection.execute(text(_FINISHED))}


def check(
    connection: Connection,
    journal: Journal,
    *,
    acknowledged: Collection[str],
    seen: Mapping[str, Final],
    earlier: Mapping[str, Finished],
) -> dict[int, list[str]]:
    """What breaks the invariants, now that everything is quiet."""
    violations = Violations()
    now = finals(connection)
    violations.add(1, set(acknowledged) - set(now), "acknowledged runs did not end")
    changed = [key for key, value in earlier.items() if _by_id(connection, key) != value]
    violations.add(2, changed, "finished task runs changed")
    violations.add(2, journal.repeated(), "attempts were executed twice")
    violations.add(2, _run_after_the_end(connection, journal), "attempts began after a result")
    violations.add(6, [k for k, v in seen.items() if now.get(k) != v], "final states changed")
    for invariant, sentence, statement in _QUERIES:
        rows = connection.execute(text(statement)).all()
        violations.add(invariant, [tuple(map(str, row)) for row in rows], sentence)
    if connection.dialect.name == "sqlite":
        for pragma in ("integrity_check", "foreign_key_check"):
            rows = connection.execute(text(f"PRAGMA {pragma}")).all()
            broken = [tuple(row) for row in rows if tuple(row) != ("ok",)]
            violations.add(5, broken, f"findings of {pragma}")
    return violations.found


def expect_visits(connection: Connection, run: str, tasks: Collection[str]) -> None:
    """Assert that a run's recorded results are one a task, of exactly these tasks."""
    rows = connection.execute(text(_RESULTS), {"run": run}).scalars()
    assert sorted(rows) == sorted(tasks)


def _by_id(connection: Connection, task_run: str) -> Json:
    row = connection.execute(text(_FINISHED + " AND id = :id"), {"id": task_run}).one_or_none()
    return None if row is None else tuple(row)


def _run_after_the_end(connection: Connection, journal: Journal) -> list[Attempted]:
    """Visits of which an attempt began that is later than the one with the result."""
    best: dict[Attempted, int] = {}
    for row in connection.execute(text(_LAST)):
        index = row.item_index if row.item_index >= 0 else None
        best[(str(row.flow_run_id), row.task, row.iteration, index)] = row.attempt
    entries = journal.entries("start")
    return [e.visit for e in entries if e.attempt > best.get(e.visit, e.attempt)]


_FINALS = "SELECT id, status, outcome, finished_at FROM flow_run WHERE status <> 'running'"

_FINISHED = """
SELECT id, flow_run_id, task, iteration, attempt, status, reason, data, worker_id, finished_at
FROM task_run WHERE status IN ('success', 'failed')
"""

_LAST = """
SELECT flow_run_id, task, iteration, item_index, max(attempt) AS attempt
FROM task_run WHERE status IN ('success', 'failed')
GROUP BY flow_run_id, task, iteration, item_index
"""

_RESULTS = "SELECT task FROM task_run WHERE flow_run_id = :run AND status = 'success'"

_QUERIES = (
    (
        2,
        "visits have two results",
        """SELECT flow_run_id, task, iteration, item_index FROM task_run
        WHERE status IN ('success', 'failed')
        GROUP BY flow_run_id, task, iteration, item_index HAVING count(*) > 1""",
    ),
    (
        2,
        "results are not those of the last attempt",
        """SELECT done.flow_run_id, done.task, done.attempt FROM task_run done
        JOIN task_run later ON later.flow_run_id = done.flow_run_id AND later.task = done.task
        AND later.iteration = done.iteration AND later.item_index = done.item_index
        AND later.attempt > done.attempt WHERE done.status = 'success'""",
    ),
    (
        3,
        "tasks of flows without a loop were visited twice",
        "SELECT flow_run_id, task FROM task_run WHERE iteration > 1",
    ),
    (
        3,
        "joins still wait for somebody",
        """SELECT j.flow_run_id, j.task FROM "join" j JOIN flow_run r ON r.id = j.flow_run_id
        WHERE r.status = 'completed' AND j.upstream <> 0""",
    ),
    (
        3,
        "forks made a head twice",
        """SELECT flow_run_id, path FROM branch WHERE path <> 'main'
        GROUP BY flow_run_id, path HAVING count(*) > 1""",
    ),
    (
        4,
        "results are from a claim that was taken away",
        """SELECT flow_run_id, task, attempt FROM task_run WHERE status = 'cancelled'
        AND reason IN ('worker_lost', 'worker_stopped')
        AND (data IS NOT NULL OR error IS NOT NULL)""",
    ),
    (
        4,
        "log lines belong to no task run of their run",
        """SELECT l.flow_run_id, l.task FROM log_line l LEFT JOIN task_run t
        ON t.id = l.task_run_id AND t.flow_run_id = l.flow_run_id WHERE t.id IS NULL""",
    ),
    (
        5,
        "runs are over and have open branches",
        """SELECT b.flow_run_id, b.task, b.state FROM branch b
        JOIN flow_run r ON r.id = b.flow_run_id
        WHERE r.status <> 'running' AND b.state <> 'done'""",
    ),
    (
        5,
        "runs are over and have open task runs",
        """SELECT t.flow_run_id, t.task, t.status FROM task_run t
        JOIN flow_run r ON r.id = t.flow_run_id
        WHERE r.status <> 'running' AND t.status IN ('running', 'waiting')""",
    ),
    (
        5,
        "runs ended before their tasks",
        """SELECT t.flow_run_id, t.task FROM task_run t JOIN flow_run r ON r.id = t.flow_run_id
        WHERE t.finished_at > r.finished_at""",
    ),
    (
        5,
        "runs go on without a branch",
        """SELECT r.id FROM flow_run r WHERE r.status = 'running' AND NOT EXISTS
        (SELECT 1 FROM branch b WHERE b.flow_run_id = r.id AND b.state <> 'done')""",
    ),
    (
        5,
        "runs count their branches wrongly",
        """SELECT r.id, r.active FROM flow_run r WHERE r.active <> (SELECT count(*)
        FROM branch b WHERE b.flow_run_id = r.id AND b.state <> 'done')""",
    ),
    (
        5,
        "rows have no run",
        """SELECT b.id FROM branch b LEFT JOIN flow_run r ON r.id = b.flow_run_id
        WHERE r.id IS NULL UNION ALL
        SELECT t.id FROM task_run t LEFT JOIN flow_run r ON r.id = t.flow_run_id
        WHERE r.id IS NULL""",
    ),
)
