"""The examples of the OpenAPI document: one flow from its submit to its end."""

from http import HTTPStatus
from typing import Any

_Object = dict[str, Any]

RUN_ID = "01980f2e-8a00-7000-8000-3f1b5d7a9c24"
_TASK_RUN_ID = "01980f2e-8a05-7000-8000-5b1c9e0d7f33"
_WORKER_ID = "01980f2e-0000-7000-8000-6a2d0c4e8b11"

FLOW: _Object = {
    "id": "data-intake",
    "name": "Data processing flow",
    "start_task": "fetch_data",
    "tasks": [
        {"name": "fetch_data", "description": "Fetch data"},
        {"name": "process_data", "description": "Process data"},
    ],
    "conditions": [
        {
            "source_task": "fetch_data",
            "outcome": "success",
            "target_task_success": "process_data",
            "target_task_failure": "end",
        }
    ],
}
BODIES: dict[str, _Object] = {
    "wrapped": {"flow": FLOW, "input": {"day": "2026-01-02"}},
    "bare": FLOW,
    "stored": {"flow_id": "data-intake", "input": {"day": "2026-01-02"}},
}
BODIES["simulation"] = {
    "flow": FLOW,
    "input": {"day": "2026-01-02"},
    "outcomes": {
        "fetch_data": [{"error": "no answer"}, {"data": {"rows": 3}}],
        "process_data": False,
    },
}
FLOW_ID = "data-intake"
_VERSION: _Object = {
    "flow_id": FLOW_ID,
    "version": 3,
    "hash": "9f2c4e1d5b7a6038c1d2e3f4a5b6c7d8e9f00112233445566778899aabbccdde",
    "created_at": "2026-01-02T03:04:05.678901Z",
    "links": {
        "self": "/definitions/data-intake?version=3",
        "versions": "/definitions/data-intake/versions",
    },
}
STORED_VERSION: _Object = _VERSION | {"warnings": []}
STORED_DEFINITION: _Object = _VERSION | {"definition": FLOW}
DEFINITION_PAGE: _Object = {"definitions": [_VERSION], "next_cursor": None}
VERSION_PAGE: _Object = {"versions": [_VERSION], "next_cursor": "3"}
_LINKS = {
    "self": f"/flows/{RUN_ID}",
    "tasks": f"/flows/{RUN_ID}/tasks",
    "cancel": f"/flows/{RUN_ID}/cancel",
}
ACCEPTED: _Object = {
    "flow_run_id": RUN_ID,
    "flow_id": "data-intake",
    "status": "running",
    "links": _LINKS,
}
RERUN: _Object = {"from": "failed", "definition": "same"}
CANCELLED: _Object = ACCEPTED | {"status": "cancelled"}
_STANDING = "Branch main/split:scan waits for attempt 2 of 3 of scan, in 4 s."
EXPLANATION: _Object = {
    "flow_run_id": RUN_ID,
    "status": "running",
    "summary": _STANDING,
    "reasons": [
        {
            "code": "waits_for_attempt",
            "branch": "main/split:scan",
            "task": "scan",
            "message": _STANDING,
            "data": {
                "wake_at": "2026-01-02T03:04:09.681000Z",
                "seconds": 4.0,
                "attempt": 2,
                "max_attempts": 3,
            },
        }
    ],
    "more": 0,
}
_TASK_RUN: _Object = {
    "task_run_id": _TASK_RUN_ID,
    "name": "fetch_data",
    "type": "fetch_data",
    "branch": "main",
    "iteration": 1,
    "index": None,
    "attempt": 1,
    "status": "failed",
    "success": None,
    "reason": "raised",
    "data": None,
    "error": {
        "type": "ConnectionRefusedError",
        "message": "the source does not answer",
        "traceback": "Traceback (most recent call last): ...",
    },
    "started_at": "2026-01-02T03:04:05.681000Z",
    "finished_at": "2026-01-02T03:04:05.683100Z",
    "duration_ms": 2.1,
    "worker": _WORKER_ID,
    "child_flow_run_id": None,
}
_SUMMARY: _Object = {
    "flow_run_id": RUN_ID,
    "flow_id": "data-intake",
    "name": "Data processing flow",
    "status": "failed",
    "outcome": None,
    "tags": [],
    "created_at": "2026-01-02T03:04:05.678901Z",
    "started_at": "2026-01-02T03:04:05.681000Z",
    "finished_at": "2026-01-02T03:04:05.683100Z",
    "duration_ms": 2.1,
    "error": {
        "task": "fetch_data",
        "type": "ConnectionRefusedError",
        "message": "the source does not answer",
    },
    "rerun_of": None,
    "schedule_id": None,
    "links": _LINKS,
}
RUN: _Object = _SUMMARY | {
    "input": {"day": "2026-01-02"},
    "output": None,
    "ending": None,
    "error": {"task": "fetch_data"} | _TASK_RUN["error"],
    "path": ["fetch_data"],
    "tasks": [_TASK_RUN],
    "tasks_truncated": False,
    "logs": [
        {
            "at": "2026-01-02T03:04:05.682000Z",
            "level": "info",
            "task": "fetch_data",
            "message": "asking the source",
        }
    ],
    "logs_truncated": False,
    "definition": FLOW,
    "parent_flow_run_id": None,
}
RUN_PAGE: _Object = {"flows": [_SUMMARY], "next_cursor": None}
TASK_RUN_PAGE: _Object = {"tasks": [_TASK_RUN], "next_cursor": _TASK_RUN_ID}
_FINDING: _Object = {
    "pointer": "/flow/conditions/0/target_task_success",
    "code": "unknown_task",
    "message": "There is no task 'proces_data'.",
    "suggestion": "process_data",
}
_SIMULATED: _Object = {
    "name": "fetch_data",
    "type": "fetch_data",
    "branch": "main",
    "iteration": 1,
    "index": None,
    "attempt": 1,
    "status": "failed",
    "success": None,
    "reason": "raised",
    "params": None,
    "data": None,
    "error": {"type": "Exception", "message": "no answer", "traceback": None},
    "waits_for": None,
    "started_seconds": 0.0,
    "finished_seconds": 0.0,
}
SIMULATED_RUN: _Object = {
    "flow_id": "data-intake",
    "status": "failed",
    "outcome": None,
    "input": {"day": "2026-01-02"},
    "output": None,
    "error": {"task": "fetch_data"} | _SIMULATED["error"],
    "path": ["fetch_data"],
    "tasks": [_SIMULATED],
    "seconds": 0.0,
    "assumed": [],
    "warnings": [],
}
VERDICT: _Object = {"valid": False, "errors": [_FINDING], "warnings": [], "graph": None}
TASK_TYPES: _Object = {
    "tasks": [
        {
            "name": "noop",
            "description": "Do nothing and succeed.",
            "params_schema": None,
            "source": "flow-manager 0.1.0 (worker.builtin:Noop)",
            "workers": 2,
        }
    ]
}
WORKERS: _Object = {
    "workers": [
        {
            "worker_id": _WORKER_ID,
            "host": "host-1",
            "pid": 4711,
            "version": "0.1.0",
            "queues": ["default"],
            "state": "live",
            "running": 3,
            "concurrency": 100,
            "started_at": "2026-01-02T03:00:00Z",
            "seen_at": "2026-01-02T03:04:05.500000Z",
            "stopped_at": None,
        }
    ]
}
STATS: _Object = {
    "runs": {"running": 3, "completed": 1200, "failed": 4, "cancelled": 1},
    "branches": {"ready": 0, "running": 3, "waiting": 1},
    "queues": [{"queue": "default", "depth": 0}],
    "oldest_ready_seconds": None,
    "workers": {"live": 2, "stopping": 0},
    "throughput": {"window_seconds": 60.0, "finished": 600, "finished_per_second": 10.0},
    "duration_ms": {"p50": 7.1, "p95": 11.9, "p99": 19.4},
}
WEBHOOKS: _Object = {
    "webhooks": [
        {
            "webhook_id": "01980f2e-9c00-7000-8000-2c4d6e8f0a1b",
            "type": "flow_manager.run.failed",
            "flow_run_id": "01980f2e-8a00-7000-8000-3f1b5d7a9c24",
            "host": "hooks.example.com",
            "state": "dead",
            "attempts": 1,
            "status_code": 404,
            "error": "the receiver answered 404",
            "created_at": "2026-01-02T03:04:06Z",
            "next_at": None,
            "ended_at": "2026-01-02T03:04:06.200000Z",
        }
    ],
    "next_cursor": None,
}
READY: _Object = {"status": "ready", "checks": {"database": "ok", "redis": "ok"}}

_DETAILS: dict[HTTPStatus, tuple[str, str, str]] = {
    HTTPStatus.BAD_REQUEST: (
        "invalid-json",
        "The body is not usable JSON",
        "expected a value",
    ),
    HTTPStatus.NOT_FOUND: (
        "not-found",
        "There is nothing at this address",
        "There is no run of that id.",
    ),
    HTTPStatus.REQUEST_TIMEOUT: (
        "body-too-slow",
        "The body did not come in time",
        "The body was not there 30 s after the request.",
    ),
    HTTPStatus.CONFLICT: (
        "run-is-over",
        "The run is over",
        "The run had its final status before it could be cancelled.",
    ),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: (
        "body-too-large",
        "The body is too large",
        "The body is longer than FLOW_MAX_BODY_BYTES, 10000000 bytes.",
    ),
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: (
        "unsupported-media-type",
        "The body is of a type that is not read",
        "The body must be application/json, in UTF-8.",
    ),
    HTTPStatus.UNPROCESSABLE_ENTITY: (
        "invalid-definition",
        "The flow definition cannot run",
        "The definition has an error.",
    ),
    HTTPStatus.SERVICE_UNAVAILABLE: (
        "unavailable",
        "Not available at the moment",
        "The database does not answer at the moment.",
    ),
}


def problem(status: HTTPStatus) -> _Object:
    """A problem of that status, as the service tells it."""
    name, title, detail = _DETAILS[status]
    document: _Object = {
        "type": f"urn:flow-manager:problem:{name}",
        "title": title,
        "status": int(status),
        "detail": detail,
        "errors": [],
    }
    match status:
        case HTTPStatus.BAD_REQUEST:
            finding = {"pointer": "", "code": "invalid_json", "message": detail}
            return document | {
                "line": 3,
                "column": 14,
                "errors": [finding | {"suggestion": None}],
            }
        case HTTPStatus.UNPROCESSABLE_ENTITY:
            return document | {"errors": [_FINDING]}
        case _:
            return document
