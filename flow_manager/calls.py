"""The service's calls as values: what to send and how to read the answer.

The synchronous and the asynchronous client send the same values, so that they cannot differ.
Nothing here opens a connection.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Generic, TypeVar
from urllib.parse import quote

import httpx2
import orjson
from pydantic import JsonValue, TypeAdapter, ValidationError

from flow_manager.results import Explanation, Problem, Run, RunSummary, Submitted
from shared.errors import FlowManagerError, Unavailable

T = TypeVar("T")

_JSON: TypeAdapter[JsonValue] = TypeAdapter(JsonValue)


class RequestRefused(FlowManagerError):
    """The service answered that it will not; :attr:`problem` says why."""

    def __init__(self, status: int, problem: Problem) -> None:
        super().__init__(problem.detail or problem.title or f"The service answered {status}.")
        self.status = status
        self.problem = problem


class ServiceUnreachable(Unavailable):
    """Nobody answers at the service's address, or not as the service would."""


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request, and what its answer becomes."""

    method: str
    path: str
    read: Callable[[httpx2.Response], T]
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    wait_seconds: float = 0
    """What the service was asked to wait before it answers."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the runs, newest first, and where the rest begins."""

    runs: list[RunSummary]
    next_cursor: str | None


def run_flow(
    definition: JsonValue, input: JsonValue, *, idempotency_key: str | None
) -> Call[Submitted]:
    """Submit a run, without waiting for it."""
    headers = {"Content-Type": "application/json"}
    if idempotency_key is not None:
        headers["Idempotency-Key"] = idempotency_key
    body = orjson.dumps(_submission(definition, input))
    return Call("POST", "/run-flow", _read_submitted, headers=headers, body=body)


def run_stored(
    flow_id: str, version: int | None, input: JsonValue, *, idempotency_key: str | None
) -> Call[Submitted]:
    """Submit a run of a stored definition."""
    named: dict[str, JsonValue] = {"flow_id": flow_id}
    if version is not None:
        named["version"] = version
    return run_flow(named, input, idempotency_key=idempotency_key)


def get_run(flow_run_id: str, *, wait_seconds: float = 0) -> Call[Run]:
    """One run; with ``wait_seconds``, as soon as it is over or the time has passed."""
    query = {"wait": f"{wait_seconds:g}"} if wait_seconds > 0 else {}
    path = f"/flows/{segment(flow_run_id)}"
    return Call("GET", path, _read_run, query=query, wait_seconds=wait_seconds)


def get_run_if_changed(
    flow_run_id: str, version: str | None
) -> Call[tuple[Run | None, str | None]]:
    """One run and its version; no run where it still is at ``version``."""
    headers = {"If-None-Match": version} if version else {}
    return Call("GET", f"/flows/{segment(flow_run_id)}", _read_change, headers=headers)


def explain_run(flow_run_id: str) -> Call[Explanation]:
    """Why a run stands where it does."""
    return Call("GET", f"/flows/{segment(flow_run_id)}/explain", _read_explanation)


def list_runs(query: Mapping[str, str | int | None]) -> Call[Page]:
    """A page of runs. ``query`` holds the filters; those that are None are left out."""
    given = {name: str(value) for name, value in query.items() if value is not None}
    return Call("GET", "/flows", _read_page, query=given)


def cancel_run(flow_run_id: str) -> Call[Submitted]:
    """Ask for a run to be cancelled."""
    return Call("POST", f"/flows/{segment(flow_run_id)}/cancel", _read_submitted)


def rerun_run(
    flow_run_id: str,
    *,
    start: str,
    input: JsonValue,
    definition: JsonValue,
    idempotency_key: str | None,
) -> Call[Submitted]:
    """Run a run again; ``input`` and ``definition`` are those of the run where they are None."""
    headers = {"Content-Type": "application/json"}
    if idempotency_key is not None:
        headers["Idempotency-Key"] = idempotency_key
    body: dict[str, JsonValue] = {"from": start}
    if input is not None:
        body["input"] = input
    if isinstance(definition, dict) and "flow" in definition:
        definition = definition["flow"]
    if definition is not None:
        body["definition"] = definition
    path = f"/flows/{segment(flow_run_id)}/rerun"
    return Call("POST", path, _read_submitted, headers=headers, body=orjson.dumps(body))


def send_signal(
    flow_run_id: str, signal: str, data: JsonValue, *, idempotency_key: str | None
) -> Call[JsonValue]:
    """Send a signal to a run."""
    headers = {"Content-Type": "application/json"}
    if idempotency_key is not None:
        headers["Idempotency-Key"] = idempotency_key
    path = f"/flows/{segment(flow_run_id)}/signals/{segment(signal)}"
    return Call("POST", path, _read_json, headers=headers, body=orjson.dumps(data))


def get_json(path: str) -> Call[JsonValue]:
    """Whatever a path answers."""
    return Call("GET", path, _read_json)


def check(response: httpx2.Response) -> None:
    """Raise what a refusal means.

    Raises:
        RequestRefused: for an answer that is none of success.
    """
    if response.status_code < HTTPStatus.BAD_REQUEST:
        return
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        problem = Problem(title=response.reason_phrase, status=response.status_code)
    raise RequestRefused(response.status_code, problem)


def _submission(definition: JsonValue, input: JsonValue) -> JsonValue:
    """The body of a submit; a definition may come wrapped already, with an input of its own."""
    if isinstance(definition, dict) and ("flow" in definition or "flow_id" in definition):
        return definition if input is None else {**definition, "input": input}
    wrapped: dict[str, JsonValue] = {"flow": definition}
    if input is not None:
        wrapped["input"] = input
    return wrapped


def segment(text: str) -> str:
    """``text`` as one part of a path."""
    return quote(text, safe="")


def _read_submitted(response: httpx2.Response) -> Submitted:
    return Submitted.model_validate_json(response.content)


def _read_run(response: httpx2.Response) -> Run:
    return Run.model_validate_json(response.content)


def _read_explanation(response: httpx2.Response) -> Explanation:
    return Explanation.model_validate_json(response.content)


def _read_change(response: httpx2.Response) -> tuple[Run | None, str | None]:
    version = response.headers.get("ETag")
    if response.status_code == HTTPStatus.NOT_MODIFIED:
        return None, version
    return _read_run(response), version


def _read_json(response: httpx2.Response) -> JsonValue:
    return _JSON.validate_json(response.content) if response.content else None


def _read_page(response: httpx2.Response) -> Page:
    document = _read_json(response)
    if not isinstance(document, dict):
        raise ServiceUnreachable("what answers there is no Flow Manager service")
    rows = next((value for value in document.values() if isinstance(value, list)), [])
    cursor = document.get("next_cursor")
    runs = [RunSummary.model_validate(row) for row in rows]
    return Page(runs, cursor if isinstance(cursor, str) else None)
