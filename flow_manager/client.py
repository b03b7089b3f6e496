"""The client of the service, for synchronous code.

.. code-block:: python

    with FlowClient("http://127.0.0.1:8000") as client:
        run = client.run_and_wait(definition, {"customer": 7})
        print(run.status, run.output)

It sends the same calls as :class:`flow_manager.async_client.AsyncFlowClient`. Neither repeats a
request by itself: give ``idempotency_key`` to submit again safely after a lost connection.
"""

import time
from collections.abc import Iterator
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
from flow_manager.schedule_client import Schedules
from flow_manager.stored import Definitions

T = TypeVar("T")


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
            base_url=url, headers=headers_with(api_key), trust_env=False, transport=transport
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
        deadline = deadline_in(timeout_seconds)
        while True:
            seconds = next_wait(flow_run_id, deadline)
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
        deadline = deadline_in(timeout_seconds)
        while True:
            run, version = self._send(calls.get_run_if_changed(flow_run_id, version))
            if run is not None:
                yield run
                if run.is_over:
                    return
            time.sleep(min(WATCH_SECONDS, next_wait(flow_run_id, deadline)))

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
            raise ServiceUnreachable(unreachable(self._http.base_url, error)) from error
        return read_answer(call, response)
