"""What both clients do about a call: headers, answers, waits. Nothing here opens a connection."""

import time
from typing import TypeVar

import httpx2
from pydantic import ValidationError

from flow_manager import calls
from flow_manager.calls import Call, ServiceUnreachable

T = TypeVar("T")

DEFAULT_URL = "http://127.0.0.1:8000"
WATCH_SECONDS = 0.2
"""How often a watched run is looked at; an unchanged one costs the service a version check."""
WAIT_SECONDS = 20.0
"""What one request of a longer wait asks for: short enough for any proxy between."""


def headers_with(api_key: str | None) -> dict[str, str]:
    """What every request carries."""
    headers = {"Accept": "application/json"}
    if api_key:
        headers["Authorization"] = f"Bearer {api_key}"
    return headers


def unreachable(url: httpx2.URL, error: Exception) -> str:
    """What is told where nobody answers."""
    # Without what stands before an @: it may be a password.
    address = f"{url.scheme}://{url.host}" + (f":{url.port}" if url.port else "")
    reason = str(error) or type(error).__name__
    return (
        f"no answer from {address} ({reason}); start a service with `flow-manager dev`, "
        "or say where it is with --url or FLOW_URL"
    )


def read_answer(call: Call[T], response: httpx2.Response) -> T:
    """What an answer to a call says; raises for a refusal."""
    calls.check(response)
    try:
        return call.read(response)
    except ValidationError as error:
        raise ServiceUnreachable(
            f"what answers at {response.url.host} is no Flow Manager service"
        ) from error


def deadline_in(timeout_seconds: float | None) -> float | None:
    """When a wait is over, on the monotonic clock."""
    return None if timeout_seconds is None else time.monotonic() + timeout_seconds


def next_wait(flow_run_id: str, deadline: float | None) -> float:
    """How long the next request of a wait may wait, in seconds."""
    if deadline is None:
        return WAIT_SECONDS
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError(f"run {flow_run_id} was not over in time")
    return min(WAIT_SECONDS, left)
