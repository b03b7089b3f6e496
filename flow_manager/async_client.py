"""The client of the service for asynchronous code; see :mod:`flow_manager.client`."""

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self, TypeVar

import httpx2
from pydantic import JsonValue

from flow_manager import calls
from flow_manager.calls import Call, Page, ServiceUnreachable
from flow_manager.exchange import (
    DEFAULT_URL,
    WATCH_SECONDS,
    deadline_in,
    headers_with,
    next_wait,
    read_answer,
    unreachable,
)
from flow_manager.results import Explanation, Run, Submitted
from flow_manager.schedule_client import AsyncSchedules
from flow_manager.stored import AsyncDefinitions

T = TypeVar("T")


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
            base_url=url, headers=headers_with(api_key), trust_env=False, transport=transport
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
        deadline = deadline_in(timeout_seconds)
        while True:
            seconds = next_wait(flow_run_id, deadline)
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
        deadline = deadline_in(timeout_seconds)
        while True:
            run, version = await self._send(calls.get_run_if_changed(flow_run_id, version))
            if run is not None:
                yield run
                if run.is_over:
                    return
            await asyncio.sleep(min(WATCH_SECONDS, next_wait(flow_run_id, deadline)))

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
            raise ServiceUnreachable(unreachable(self._http.base_url, error)) from error
        return read_answer(call, response)
