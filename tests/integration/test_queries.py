"""What is read from the database, on SQLite and on PostgreSQL."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest
from sqlalchemy import text

from shared.database import Database, create_database
from shared.ids import BranchId, FlowRunId, TaskRunId, WorkerId, new_id
from shared.models import LogLine, TaskRun
from shared.models_workers import WorkerRow
from shared.queries import runs, workers
from shared.queries.runs import RunFilters
from shared.settings import load_settings
from shared.status import RunStatus, TaskRunStatus
from shared.store.runs import NewRun, create_runs
from shared.store.stopping import Cancel, cancel_runs
from shared.store.workers import AdvertisedType, Registration, register_workers

NOW = datetime(2026, 5, 4, 3, 2, 1, 123456, tzinfo=UTC)


@pytest.fixture
def database(database_url: str, tmp_path: Path) -> Iterator[Database]:
    settings = load_settings(database_url=database_url)
    database = create_database(settings)
    yield database
    database.close()


def _create(database: Database, **changes: object) -> FlowRunId:
    values: dict[str, object] = {
        "flow_run_id": FlowRunId(new_id()),
        "branch_id": BranchId(new_id()),
        "flow_id": "intake",
        "name": "Take in",
        "definition_hash": "0" * 64,
        "definition_json": b'{"id":"intake"}',
        "input_json": b'{"a":1}',
        "tags_json": b"[]",
        "start_task": "first",
        "start_type": "noop",
        "created_at": datetime.now(UTC),
        "ready_at": 1.0,
    }
    new_run = NewRun(**(values | changes))  # type: ignore[arg-type]  # named by the test
    with database.write() as connection:
        create_runs(connection, [new_run])
    return new_run.flow_run_id


def _add_task_run(
    database: Database, run: FlowRunId, number: int, started_at: datetime = NOW
) -> TaskRunId:
    task_run = TaskRunId(new_id())
    row = {
        "id": task_run,
        "flow_run_id": run,
        "branch_id": new_id(),
        "branch": "main",
        "task": f"task-{number}",
        "task_type": "noop",
        "iteration": 1,
        "item_index": -1,
        "attempt": 1,
        "status": TaskRunStatus.SUCCESS,
        "data": b'{"n":1}',
        "started_at": started_at,
        "finished_at": started_at + timedelta(milliseconds=2),
    }
    with database.write() as connection:
        connection.execute(TaskRun.__table__.insert(), row)
    return task_run


def _listed(database: Database, filters: RunFilters) -> list[str]:
    with database.read() as connection:
        return [row.id for row in runs.list_runs(connection, filters, None, 50).rows]


def _register(database: Database, *types: str) -> WorkerId:
    worker = WorkerId(new_id())
    told = tuple(AdvertisedType(name, f"by {worker}", b"{}", "test") for name in types)
    registration = Registration(worker, "host", 1, "1", ("default",), 10, told, 1.0)
    with database.write() as connection:
        register_workers(connection, [registration])
    return worker


def _set_state(database: Database, worker: WorkerId, state: str) -> None:
    table = WorkerRow.__table__
    with database.write() as connection:
        connection.execute(table.update().where(table.c.id == worker).values(state=state))


def test_run_comes_with_its_definition_and_its_bytes_unchanged(database: Database) -> None:
    run = _create(database, input_json=b'{"b":1,"a":[1.50]}')
    with database.read() as connection:
        stored = runs.get_run(connection, run)
    assert stored is not None
    assert stored.run.definition == b'{"id":"intake"}'
    assert stored.run.input == b'{"b":1,"a":[1.50]}'
    assert (list(stored.tasks), stored.is_truncated) == ([], False)


def test_unknown_run_is_none_everywhere(database: Database) -> None:
    unknown = FlowRunId(new_id())
    with database.read() as connection:
        assert runs.get_run(connection, unknown) is None
        assert runs.run_version(connection, unknown) is None
        assert runs.list_task_runs(connection, unknown, None, 10) is None
        assert runs.run_statuses(connection, [unknown]) == {}
        assert runs.flow_of_run(connection, unknown) is None


def test_task_runs_come_in_the_order_of_their_start_whatever_their_ids(database: Database) -> None:
    run = _create(database)
    late = _add_task_run(database, run, 1, NOW + timedelta(seconds=1))
    early = _add_task_run(database, run, 2)
    with database.read() as connection:
        stored = runs.get_run(connection, run)
    assert stored is not None
    assert [task.id for task in stored.tasks] == [early, late]


def test_run_is_truncated_and_its_pages_hold_every_task_run_once(database: Database) -> None:
    run = _create(database)
    # Several start in the same microsecond: then the id orders them.
    ids = [_add_task_run(database, run, n, NOW + timedelta(seconds=n // 3)) for n in range(8)]
    with database.read() as connection:
        stored = runs.get_run(connection, run, max_tasks=5)
        assert stored is not None
        assert ([task.id for task in stored.tasks], stored.is_truncated) == (ids[:5], True)
        found: list[str] = []
        cursor: TaskRunId | None = None
        while True:
            page = runs.list_task_runs(connection, run, cursor, 3)
            assert page is not None
            found += [row.id for row in page.rows]
            if page.next_cursor is None:
                break
            cursor = TaskRunId(page.next_cursor)
    assert found == ids


def test_cursor_of_another_run_is_refused(database: Database) -> None:
    run, other = _create(database), _create(database)
    cursor = _add_task_run(database, other, 1)
    with database.read() as connection:
        assert runs.list_task_runs(connection, run, cursor, 3) is None


def test_last_log_lines_come_in_their_order(database: Database) -> None:
    run = _create(database)
    task_run = _add_task_run(database, run, 1)
    lines = [
        {
            "id": new_id(),
            "flow_run_id": run,
            "task_run_id": task_run,
            "task": "first",
            "at": NOW,
            "level": "info",
            "message": str(number),
        }
        for number in range(runs.MAX_LOG_LINES + 2)
    ]
    with database.write() as connection:
        connection.execute(LogLine.__table__.insert(), lines)
    with database.read() as connection:
        stored = runs.get_run(connection, run)
    assert stored is not None
    assert stored.are_logs_truncated
    messages = [line.message for line in stored.logs]
    assert messages == [str(number) for number in range(2, runs.MAX_LOG_LINES + 2)]


def test_runs_are_listed_newest_first_and_paged_without_gaps(database: Database) -> None:
    ids = [_create(database) for _ in range(5)]
    with database.read() as connection:
        first = runs.list_runs(connection, RunFilters(), None, 3)
        assert first.next_cursor is not None
        second = runs.list_runs(connection, RunFilters(), FlowRunId(first.next_cursor), 3)
    assert [row.id for row in (*first.rows, *second.rows)] == ids[::-1]
    assert second.next_cursor is None


def test_filters_choose_exactly(database: Database) -> None:
    plain = _create(database, name="100% Pure_Name", created_at=NOW)
    tagged = _create(database, flow_id="other", tags_json=orjson.dumps(['a"b', "c"]))
    with database.write() as connection:
        cancel_runs(connection, [Cancel(tagged, NOW)])
    after = datetime.now(UTC) - timedelta(minutes=1)
    for filters, expected in [
        (RunFilters(status=RunStatus.RUNNING), [plain]),
        (RunFilters(status=RunStatus.CANCELLED), [tagged]),
        (RunFilters(flow_id="other"), [tagged]),
        (RunFilters(tag='a"b'), [tagged]),
        (RunFilters(tag="C"), []),
        (RunFilters(tag="b"), []),
        (RunFilters(text="pure_n"), [plain]),
        (RunFilters(text="0% P"), [plain]),
        (RunFilters(text="pure%n"), []),
        (RunFilters(text="OTHER"), [tagged]),
        (RunFilters(text=tagged[:36].upper()), [tagged]),
        (RunFilters(created_after=after), [tagged]),
    ]:
        assert _listed(database, filters) == expected, filters


def test_times_are_exact_and_bound_what_is_looked_at(database: Database) -> None:
    at = datetime.now(UTC)
    run = _create(database, created_at=at)
    instant = timedelta(microseconds=1)
    assert _listed(database, RunFilters(created_after=at)) == [run]
    assert _listed(database, RunFilters(created_after=at + instant)) == []
    assert _listed(database, RunFilters(created_before=at)) == []
    assert _listed(database, RunFilters(created_before=at + instant)) == [run]
    extremes = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))
    assert _listed(database, RunFilters(created_after=extremes[0])) == [run]
    assert _listed(database, RunFilters(created_before=extremes[1])) == [run]


def test_version_changes_with_every_change_that_is_shown(database: Database) -> None:
    run = _create(database)
    seen: list[str | None] = []

    def look() -> None:
        with database.read() as connection:
            seen.append(runs.run_version(connection, run))

    look()
    look()
    assert seen[0] == seen.pop()
    task_run = _add_task_run(database, run, 1)
    look()
    table = TaskRun.__table__
    with database.write() as connection:
        connection.execute(
            table.update()
            .where(table.c.id == task_run)
            .values(status=TaskRunStatus.WAITING, finished_at=None)
        )
    look()
    with database.write() as connection:
        cancel_runs(connection, [Cancel(run, NOW)])
    look()
    assert len(set(seen)) == len(seen) == 4


@pytest.mark.parametrize(
    ("filters", "index"),
    [
        (RunFilters(status=RunStatus.RUNNING), "flow_run_by_status"),
        (RunFilters(flow_id="intake"), "flow_run_by_flow"),
    ],
)
def test_lists_are_read_from_an_index_without_sorting(
    sqlite_url: str, filters: RunFilters, index: str
) -> None:
    settings = load_settings(database_url=sqlite_url)
    database = create_database(settings)
    statement = runs.runs_statement("sqlite", filters, FlowRunId(new_id()), 10)
    with database.read() as connection:
        compiled = statement.compile(connection, compile_kwargs={"literal_binds": True})
        plan = connection.execute(text(f"EXPLAIN QUERY PLAN {compiled}")).all()
    database.close()
    told = " / ".join(str(row.detail) for row in plan)
    assert index in told
    assert "TEMP B-TREE" not in told


def test_types_are_those_of_live_workers_and_the_newest_tells_about_them(
    database: Database,
) -> None:
    _register(database, "a", "b")
    newest = _register(database, "b")
    gone = _register(database, "c")
    _set_state(database, gone, "lost")
    with database.read() as connection:
        rows = workers.task_types(connection)
        assert workers.advertised_types(connection).keys() == {"a", "b"}
    assert [(row.name, row.workers) for row in rows] == [("a", 1), ("b", 2)]
    assert rows[1].description == f"by {newest}"


def test_types_of_the_last_workers_serve_while_none_lives(database: Database) -> None:
    _set_state(database, _register(database, "a"), "stopped")
    with database.read() as connection:
        assert [(row.name, row.workers) for row in workers.task_types(connection)] == [("a", 0)]


def test_workers_are_listed_by_state(database: Database) -> None:
    lives, gone = _register(database), _register(database)
    _set_state(database, gone, "lost")
    with database.read() as connection:
        live = workers.list_workers(connection)
        lost = workers.list_workers(connection, ["lost"])
    assert [(row.id, row.running) for row in live] == [(lives, 0)]
    assert [row.id for row in lost] == [gone]


def test_stats_count_runs_queues_and_what_ended_lately(database: Database) -> None:
    _create(database)
    ended = _create(database, created_at=NOW)
    with database.write() as connection:
        cancel_runs(connection, [Cancel(ended, NOW + timedelta(milliseconds=8))])
    _register(database)
    with database.read() as connection:
        stats = workers.stats(connection, NOW)
        none_lately = workers.stats(connection, NOW + timedelta(days=1))
    assert stats.runs == {"running": 1, "cancelled": 1}
    assert stats.queues == {"default": 1}
    assert stats.branches == {"ready": 1, "running": 0, "waiting": 0}
    assert stats.oldest_ready_since == 1.0
    assert stats.workers == {"live": 1}
    assert stats.finished == 1
    assert stats.durations == workers.Durations(8.0, 8.0, 8.0)
    assert (none_lately.finished, none_lately.durations) == (0, None)
