"""Clients of the service, for programs: :class:`FlowClient` and :class:`AsyncFlowClient`.

.. code-block:: python

    with FlowClient("http://127.0.0.1:8000") as client:
        run = client.run_and_wait(definition, {"customer": 7})
        print(run.status, run.output)

Both send the same calls. They do not repeat a request by themselves: give
``idempotency_key`` to submit again safely after a lost connection.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Self, TypeVar

import httpx2
from pydantic import JsonValue, ValidationError

from flow_manager import calls
from flow_manager.calls import Call, Page, RequestRefused, ServiceUnreachable
from flow_manager.results import Explanation, Run, RunSummary, Submitted
from flow_manager.schedule_client import AsyncSchedules, Schedules
from flow_manager.stored import AsyncDefinitions, Definitions

__all__ = [
    "AsyncFlowClient",
    "Explanation",
    "FlowClient",
    "Page",
    "RequestRefused",
    "Run",
    "RunSummary",
    "ServiceUnreachable",
    "Submitted",
]

T = TypeVar("T")

DEFAULT_URL = "http://127.0.0.1:8000"
WATCH_SECONDS = 0.2
"""How often a watched run is looked at; an unchanged one costs the service a version check."""
WAIT_SECONDS = 20.0
"""What one request of a longer wait asks for: short enough for any proxy between."""


class FlowClient:
    """The service, from synchronous code. One instance may be used by several threads.

    Every method raises :class:`RequestRefused` for what the service refuses, and
    :class:`ServiceUnreachable` where it does not answer.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        timeout_seconds: float = 30.0,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self._timeout_seconds = timeout_seconds
        self._http = httpx2.Client(
            base_url=url, headers=_headers(api_key), trust_env=False, transport=transport
        )
        self.definitions = Definitions(self._send)
        """The stored definitions."""
        self.schedules = Schedules(self._send)
        """What starts them by the clock."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def run(
        self,
        definition: JsonValue,
        input: JsonValue = None,
        *,
        idempotency_key: str | None = None,
    ) -> Submitted:
        """Start a run and come back as soon as it is accepted."""
        return self._send(calls.run_flow(definition, input, idempotency_key=idempotency_key))

    def run_stored(
        self,
        flow_id: str,
        input: JsonValue = None,
        *,
        version: int | None = None,
        idempotency_key: str | None = None,
    ) -> Submitted:
        """Start a run of a stored definition, of its newest version where none is named."""
        call = calls.run_stored(flow_id, version, input, idempotency_key=idempotency_key)
        return self._send(call)

    def run_and_wait(
        self,
        definition: JsonValue,
        input: JsonValue = None,
        *,
        idempotency_key: str | None = None,
        timeout_seconds: float | None = None,
    ) -> Run:
        """Start a run and wait until it is over; raises TimeoutError where that takes longer."""
        submitted = self.run(definition, input, idempotency_key=idempotency_key)
        return self.wait(submitted.flow_run_id, timeout_seconds=timeout_seconds)

    def wait(self, flow_run_id: str, *, timeout_seconds: float | None = None) -> Run:
        """The run once it is over; raises TimeoutError where that takes longer."""
        deadline = _deadline(timeout_seconds)
        while True:
            seconds = _next_wait(flow_run_id, deadline)
            run = self._send(calls.get_run(flow_run_id, wait_seconds=seconds))
            if run.is_over:
                return run

    def get(self, flow_run_id: str) -> Run:
        """The run as it is now."""
        return self._send(calls.get_run(flow_run_id))

    def explain(self, flow_run_id: str) -> Explanation:
        """Why the run stands where it does."""
        return self._send(calls.explain_run(flow_run_id))

    def list(
        self,
        *,
        status: str | None = None,
        flow_id: str | None = None,
        schedule_id: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page:
        """A page of runs, newest first."""
        filters = {"status": status, "flow_id": flow_id, "schedule_id": schedule_id}
        query = {**filters, "limit": limit, "cursor": cursor}
        return self._send(calls.list_runs(query))

    def watch(self, flow_run_id: str, *, timeout_seconds: float | None = None) -> Iterator[Run]:
        """The run as it is now and after each change, until it is over.

        Raises TimeoutError where that takes longer than the time given.
        """
        version: str | None = None
        deadline = _deadline(timeout_seconds)
        while True:
            run, version = self._send(calls.get_run_if_changed(flow_run_id, version))
            if run is not None:
                yield run
                if run.is_over:
                    return
            time.sleep(min(WATCH_SECONDS, _next_wait(flow_run_id, deadline)))

    def cancel(self, flow_run_id: str) -> Submitted:
        """Ask for the run to be cancelled. It still is running where it has something to undo
        before."""
        return self._send(calls.cancel_run(flow_run_id))

    def rerun(
        self,
        flow_run_id: str,
        *,
        start: str = "failed",
        input: JsonValue = None,
        definition: JsonValue = None,
        idempotency_key: str | None = None,
    ) -> Submitted:
        """Run a run that is over again, and come back as soon as the new one is accepted.

        ``start`` says from where on: ``"start"``, ``"failed"`` or a task. ``definition`` is
        ``"latest"`` or a corrected one. What is None is as it was.
        """
        call = calls.rerun_run(
            flow_run_id,
            start=start,
            input=input,
            definition=definition,
            idempotency_key=idempotency_key,
        )
        return self._send(call)

    def signal(
        self,
        flow_run_id: str,
        signal: str,
        data: JsonValue = None,
        *,
        idempotency_key: str | None = None,
    ) -> None:
        """Send a signal; ``data`` becomes the data of the task that waits for it."""
        call = calls.send_signal(flow_run_id, signal, data, idempotency_key=idempotency_key)
        self._send(call)

    def get_json(self, path: str) -> JsonValue:
        """What a path of the service answers, such as ``/tasks`` or ``/workers``."""
        return self._send(calls.get_json(path))

    def _send(self, call: Call[T]) -> T:
        try:
            response = self._http.request(
                call.method,
                call.path,
                params=dict(call.query),
                headers=dict(call.headers),
                content=call.body,
                timeout=self._timeout_seconds + call.wait_seconds,
            )
        except (httpx2.TransportError, httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
            raise ServiceUnreachable(_unreachable(self._http.base_url, error)) from error
        return _read(call, response)


class AsyncFlowClient:
    """The service, from asynchronous code; the same methods as :class:`FlowClient`."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        timeout_seconds: float = 30.0,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._timeout_seconds = timeout_seconds
        self._http = httpx2.AsyncClient(
            base_url=url, headers=_headers(api_key), trust_env=False, transport=transport
        )
        self.definitions = AsyncDefinitions(self._send)
        """The stored definitions."""
        self.schedules = AsyncSchedules(self._send)
        """What starts them by the clock."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def run(
        self,
        definition: JsonValue,
        input: JsonValue = None,
        *,
        idempotency_key: str | None = None,
    ) -> Submitted:
        """Start a run and come back as soon as it is accepted."""
        return await self._send(calls.run_flow(definition, input, idempotency_key=idempotency_key))

    async def run_stored(
        self,
        flow_id: str,
        input: JsonValue = None,
        *,
        version: int | None = None,
        idempotency_key: str | None = None,
    ) -> Submitted:
        """Start a run of a stored definition, of its newest version where none is named."""
        call = calls.run_stored(flow_id, version, input, idempotency_key=idempotency_key)
        return await self._send(call)

    async def run_and_wait(
        self,
        definition: JsonValue,
        input: JsonValue = None,
        *,
        idempotency_key: str | None = None,
        timeout_seconds: float | None = None,
    ) -> Run:
        """Start a run and wait until it is over; raises TimeoutError where that takes longer."""
        submitted = await self.run(definition, input, idempotency_key=idempotency_key)
        return await self.wait(submitted.flow_run_id, timeout_seconds=timeout_seconds)

    async def wait(self, flow_run_id: str, *, timeout_seconds: float | None = None) -> Run:
        """The run once it is over; raises TimeoutError where that takes longer."""
        deadline = _deadline(timeout_seconds)
        while True:
            seconds = _next_wait(flow_run_id, deadline)
            run = await self._send(calls.get_run(flow_run_id, wait_seconds=seconds))
            if run.is_over:
                return run

    async def get(self, flow_run_id: str) -> Run:
        """The run as it is now."""
        return await self._send(calls.get_run(flow_run_id))

    async def explain(self, flow_run_id: str) -> Explanation:
        """Why the run stands where it does."""
        return await self._send(calls.explain_run(flow_run_id))

    async def list(
        self,
        *,
        status: str | None = None,
        flow_id: str | None = None,
        schedule_id: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page:
        """A page of runs, newest first."""
        filters = {"status": status, "flow_id": flow_id, "schedule_id": schedule_id}
        query = {**filters, "limit": limit, "cursor": cursor}
        return await self._send(calls.list_runs(query))

    async def watch(
        self, flow_run_id: str, *, timeout_seconds: float | None = None
    ) -> AsyncIterator[Run]:
        """The run as it is now and after each change, until it is over.

        Raises TimeoutError where that takes longer than the time given.
        """
        version: str | None = None
        deadline = _deadline(timeout_seconds)
        while True:
            run, version = await self._send(calls.get_run_if_changed(flow_run_id, version))
            if run is not None:
                yield run
                if run.is_over:
                    return
            await asyncio.sleep(min(WATCH_SECONDS, _next_wait(flow_run_id, deadline)))

    async def cancel(self, flow_run_id: str) -> Submitted:
        """Ask for the run to be cancelled. It still is running where it has something to undo
        before."""
        return await self._send(calls.cancel_run(flow_run_id))

    async def rerun(
        self,
        flow_run_id: str,
        *,
        start: str = "failed",
        input: JsonValue = None,
        definition: JsonValue = None,
        idempotency_key: str | None = None,
    ) -> Submitted:
        """Run a run that is over again, and come back as soon as the new one is accepted.

        ``start`` says from where on: ``"start"``, ``"failed"`` or a task. ``definition`` is
        ``"latest"`` or a corrected one. What is None is as it was.
        """
        call = calls.rerun_run(
            flow_run_id,
            start=start,
            input=input,
            definition=definition,
            idempotency_key=idempotency_key,
        )
        return await self._send(call)

    async def signal(
        self,
        flow_run_id: str,
        signal: str,
        data: JsonValue = None,
        *,
        idempotency_key: str | None = None,
    ) -> None:
        """Send a signal; ``data`` becomes the data of the task that waits for it."""
        call = calls.send_signal(flow_run_id, signal, data, idempotency_key=idempotency_key)
        await self._send(call)

    async def get_json(self, path: str) -> JsonValue:
        """What a path of the service answers, such as ``/tasks`` or ``/workers``."""
        return await self._send(calls.get_json(path))

    async def _send(self, call: Call[T]) -> T:
        try:
            response = await self._http.request(
                call.method,
                call.path,
                params=dict(call.query),
                headers=dict(call.headers),
                content=call.body,
                timeout=self._timeout_seconds + call.wait_seconds,
            )
        except (httpx2.TransportError, httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
            raise ServiceUnreachable(_unreachable(self._http.base_url, error)) from error
        return _read(call, response)


def _headers(api_key: str | None) -> dict[str, str]:
    headers = {"Accept": "application/json"}
    if api_key:
        headers["Authorization"] = f"Bearer {api_key}"
    return headers


def _unreachable(url: httpx2.URL, error: Exception) -> str:
    # Without what stands before an @: it may be a password.
    address = f"{url.scheme}://{url.host}" + (f":{url.port}" if url.port else "")
    reason = str(error) or type(error).__name__
    return f"no answer from {address}: {reason}"


def _read(call: Call[T], response: httpx2.Response) -> T:
    calls.check(response)
    try:
        return call.read(response)
    except ValidationError as error:
        raise ServiceUnreachable(
            f"what answers at {response.url.host} is no Flow Manager service"
        ) from error


def _deadline(timeout_seconds: float | None) -> float | None:
    return None if timeout_seconds is None else time.monotonic() + timeout_seconds


def _next_wait(flow_run_id: str, deadline: float | None) -> float:
    if deadline is None:
        return WAIT_SECONDS
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError(f"run {flow_run_id} was not over in time")
    return min(WAIT_SECONDS, left)
