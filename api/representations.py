"""How runs, task runs, workers and types look as JSON.

What tasks and clients gave is put in as the bytes that were stored: it was checked when it
came, and is never parsed on its way out.
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from urllib.parse import quote

import orjson

from shared.errors import Finding
from shared.ids import FlowRunId
from shared.models import NO_INDEX
from shared.queries.rows import AnyRow
from shared.queries.runs import Page, StoredRun
from shared.queries.workers import Stats
from shared.status import RunStatus, TaskRunStatus
from shared.undoing import parse_ending

_OPTIONS = orjson.OPT_UTC_Z

Document = dict[str, object]


def dump(document: object) -> bytes:
    """``document`` as JSON, times in UTC with ``Z``."""
    return orjson.dumps(document, option=_OPTIONS)


def entity_tag(version: str) -> str:
    """The ETag of what :func:`shared.queries.runs.run_version` says.

    Weak: it stands for the state of the run, not for these very bytes.
    """
    return f'W/"{hashlib.blake2b(version.encode(), digest_size=12).hexdigest()}"'


def is_current(tag: str, if_none_match: str | None) -> bool:
    """Whether the caller has this state already."""
    if if_none_match is None:
        return False
    opaque = tag.removeprefix("W/")
    given = {one.strip().removeprefix("W/") for one in if_none_match.split(",")}
    return opaque in given or "*" in given


def accepted(flow_run_id: FlowRunId, flow_id: str, status: RunStatus) -> bytes:
    """A run that was accepted, or one that a call changed."""
    return dump(
        {
            "flow_run_id": flow_run_id,
            "flow_id": flow_id,
            "status": status,
            "links": links(flow_run_id),
        }
    )


def links(flow_run_id: str) -> dict[str, str]:
    """Where to go on from a run. Paths, because only the caller knows our address."""
    place = f"/flows/{flow_run_id}"
    return {"self": place, "tasks": f"{place}/tasks", "cancel": f"{place}/cancel"}


def run(stored: StoredRun) -> bytes:
    """A run with everything that belongs to it."""
    row = stored.run
    document = _run_head(row)
    document |= {
        "input": _raw(row.input),
        # Of a run in its ending it is known already, and may yet come to nothing.
        "output": None if row.finished_at is None else _raw(row.output),
        "error": _raw(row.error),
        "ending": None if row.ending is None else _ending(row.ending),
        # Visits: no further attempts at one, and no items of a list.
        "path": [
            task.task for task in stored.tasks if task.attempt == 1 and task.item_index == NO_INDEX
        ],
        "tasks": [task_run(task, stored.children.get(task.id)) for task in stored.tasks],
        "tasks_truncated": stored.is_truncated,
        "logs": [
            {"at": line.at, "level": line.level, "task": line.task, "message": line.message}
            for line in stored.logs
        ],
        "logs_truncated": stored.are_logs_truncated,
        "definition": _raw(row.definition),
        "parent_flow_run_id": row.parent_flow_run_id,
        "links": links(row.id),
    }
    return dump(document)


def run_list(page: Page) -> bytes:
    """A page of runs, each without its input, tasks and tracebacks."""
    return dump(
        {
            "flows": [
                {
                    **_run_head(row),
                    "error": _without_traceback(row.error),
                    "links": links(row.id),
                }
                for row in page.rows
            ],
            "next_cursor": page.next_cursor,
        }
    )


def task_run_list(page: Page) -> bytes:
    """A page of a run's task runs."""
    tasks = [task_run(row, page.children.get(row.id)) for row in page.rows]
    return dump({"tasks": tasks, "next_cursor": page.next_cursor})


def task_run(row: AnyRow, child: str | None = None) -> Document:
    """One attempt at one visit of a task; ``child`` is the run that it waited for."""
    return {
        "task_run_id": row.id,
        "name": row.task,
        "type": row.task_type,
        "branch": row.branch,
        "iteration": row.iteration,
        "index": None if row.item_index == NO_INDEX else row.item_index,
        "attempt": row.attempt,
        "status": row.status,
        "success": _success(row.status, row.error),
        "reason": row.reason,
        "data": _raw(row.data),
        "error": _raw(row.error),
        "started_at": row.started_at,
        "finished_at": row.finished_at,
        "duration_ms": _milliseconds(row.started_at, row.finished_at),
        "worker": row.worker_id,
        "child_flow_run_id": child,
    }


def version_path(flow_id: str, version: int) -> str:
    """Where a version of a stored definition is looked at."""
    return f"/definitions/{quote(flow_id)}?version={version}"


def version(flow_id: str, version: int, content_hash: str, created_at: datetime) -> Document:
    """One version of a stored definition, without what it says."""
    return {
        "flow_id": flow_id,
        "version": version,
        "hash": content_hash,
        "created_at": created_at,
        "links": {
            "self": version_path(flow_id, version),
            "versions": f"/definitions/{quote(flow_id)}/versions",
        },
    }


def _version(row: AnyRow) -> Document:
    return version(row.flow_id, row.version, row.hash, row.created_at)


def finding(found: Finding) -> Document:
    """One thing wrong, or doubtful, with a definition."""
    told: Document = {
        "pointer": found.pointer,
        "code": found.code,
        "message": found.message,
        "suggestion": found.suggestion,
    }
    if found.offset is not None:
        told["offset"] = found.offset
    return told


def stored_definition(row: AnyRow) -> bytes:
    """A stored definition."""
    return dump(_version(row) | {"definition": _raw(row.definition)})


def version_list(field: str, page: Page) -> bytes:
    """A page of versions, under ``field``."""
    return dump({field: [_version(row) for row in page.rows], "next_cursor": page.next_cursor})


def task_type_list(rows: Sequence[AnyRow]) -> bytes:
    """The task types that can be used in a definition."""
    return dump(
        {
            "tasks": [
                {
                    "name": row.name,
                    "description": row.description,
                    "params_schema": _raw(row.params_schema),
                    "source": row.source,
                    "workers": row.workers,
                }
                for row in rows
            ]
        }
    )


def worker_list(rows: Sequence[AnyRow]) -> bytes:
    """The workers, and what each of them is about."""
    return dump(
        {
            "workers": [
                {
                    "worker_id": row.id,
                    "host": row.host,
                    "pid": row.pid,
                    "version": row.version,
                    "queues": _raw(row.queues),
                    "state": row.state,
                    "running": row.running,
                    "concurrency": row.concurrency,
                    "started_at": row.started_at,
                    "seen_at": row.seen_at,
                    "stopped_at": row.stopped_at,
                }
                for row in rows
            ]
        }
    )


def statistics(stats: Stats, window_seconds: float, lease_now: float) -> bytes:
    """Counts, depths, throughput and latencies."""
    waits = None
    if stats.oldest_ready_since is not None:
        waits = round(max(lease_now - stats.oldest_ready_since, 0.0), 3)
    durations = stats.durations
    return dump(
        {
            "runs": {status.value: stats.runs.get(status.value, 0) for status in RunStatus},
            "branches": stats.branches,
            "queues": [
                {"queue": queue, "depth": depth} for queue, depth in sorted(stats.queues.items())
            ],
            "oldest_ready_seconds": waits,
            "workers": {state: stats.workers.get(state, 0) for state in ("live", "stopping")},
            "throughput": {
                "window_seconds": window_seconds,
                "finished": stats.finished,
                "finished_per_second": round(stats.finished / window_seconds, 3),
            },
            "duration_ms": None
            if durations is None
            else {"p50": durations.p50, "p95": durations.p95, "p99": durations.p99},
        }
    )


def _run_head(row: AnyRow) -> Document:
    return {
        "flow_run_id": row.id,
        "flow_id": row.flow_id,
        "name": row.name,
        "status": row.status,
        "outcome": row.outcome,
        "tags": _raw(row.tags),
        "created_at": row.created_at,
        "started_at": row.started_at,
        "finished_at": row.finished_at,
        "duration_ms": _milliseconds(row.started_at or row.created_at, row.finished_at),
        "rerun_of": row.rerun_of,
        "schedule_id": row.schedule_id,
    }


def _ending(stored: bytes) -> Document:
    """What a run will have come to when its ending is over."""
    ending = parse_ending(stored).concluded()
    return {"status": ending.status, "outcome": ending.outcome, "error": ending.error}


def _raw(stored: bytes | None) -> orjson.Fragment | None:
    return None if stored is None else orjson.Fragment(stored)


def _success(status: str, error: bytes | None) -> bool | None:
    """What the task said; None where it said nothing, because it raised or was stopped."""
    match status:
        case TaskRunStatus.SUCCESS:
            return True
        case TaskRunStatus.FAILED if error is None:
            return False
        case _:
            return None


def _milliseconds(start: datetime, end: datetime | None) -> float | None:
    return None if end is None else round((end - start).total_seconds() * 1_000, 3)


def _without_traceback(error: bytes | None) -> Mapping[str, object] | None:
    if error is None:
        return None
    return {name: value for name, value in orjson.loads(error).items() if name != "traceback"}
