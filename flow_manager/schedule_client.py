"""Schedules, from Python: ``client.schedules`` of both clients."""

from collections.abc import Awaitable, Mapping
from typing import Protocol, TypeVar

from pydantic import JsonValue

from flow_manager import schedule_calls as calls
from flow_manager.calls import Call
from flow_manager.results import Schedule, SchedulePage, Submitted

T = TypeVar("T")


class Send(Protocol):
    """Sends a call and reads its answer."""

    def __call__(self, call: Call[T]) -> T: ...


class AsyncSend(Protocol):
    """The same, to be awaited."""

    def __call__(self, call: Call[T]) -> Awaitable[T]: ...


class Schedules:
    """The schedules of a service. The methods raise what those of the client do."""

    def __init__(self, send: Send) -> None:
        self._send = send

    def create(self, schedule: Mapping[str, JsonValue]) -> Schedule:
        """Make a schedule; without an ``id`` it gets one.

        Its fields are those of ``POST /schedules``.
        """
        return self._send(calls.create_schedule(schedule))

    def put(self, schedule_id: str, schedule: Mapping[str, JsonValue]) -> Schedule:
        """Make the schedule of that id, or change it."""
        return self._send(calls.put_schedule(schedule_id, schedule))

    def get(self, schedule_id: str) -> Schedule:
        """A schedule with its next ticks and its last start."""
        return self._send(calls.get_schedule(schedule_id))

    def list(
        self,
        *,
        flow_id: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> SchedulePage:
        """A page of schedules by their ids, of one flow or of all."""
        return self._send(calls.list_schedules(flow_id, limit, cursor))

    def pause(self, schedule_id: str) -> Schedule:
        """Start nothing until it is resumed."""
        return self._send(calls.pause_schedule(schedule_id, paused=True))

    def resume(self, schedule_id: str) -> Schedule:
        """Go on with the first tick from now on."""
        return self._send(calls.pause_schedule(schedule_id, paused=False))

    def trigger(self, schedule_id: str, *, idempotency_key: str | None = None) -> Submitted:
        """Start a run of it now."""
        return self._send(calls.trigger_schedule(schedule_id, idempotency_key))

    def delete(self, schedule_id: str) -> None:
        """Delete it; runs that it started go on."""
        self._send(calls.delete_schedule(schedule_id))


class AsyncSchedules:
    """The same methods as :class:`Schedules`, to be awaited."""

    def __init__(self, send: AsyncSend) -> None:
        self._send = send

    async def create(self, schedule: Mapping[str, JsonValue]) -> Schedule:
        """Make a schedule; without an ``id`` it gets one.

        Its fields are those of ``POST /schedules``.
        """
        return await self._send(calls.create_schedule(schedule))

    async def put(self, schedule_id: str, schedule: Mapping[str, JsonValue]) -> Schedule:
        """Make the schedule of that id, or change it."""
        return await self._send(calls.put_schedule(schedule_id, schedule))

    async def get(self, schedule_id: str) -> Schedule:
        """A schedule with its next ticks and its last start."""
        return await self._send(calls.get_schedule(schedule_id))

    async def list(
        self,
        *,
        flow_id: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> SchedulePage:
        """A page of schedules by their ids, of one flow or of all."""
        return await self._send(calls.list_schedules(flow_id, limit, cursor))

    async def pause(self, schedule_id: str) -> Schedule:
        """Start nothing until it is resumed."""
        return await self._send(calls.pause_schedule(schedule_id, paused=True))

    async def resume(self, schedule_id: str) -> Schedule:
        """Go on with the first tick from now on."""
        return await self._send(calls.pause_schedule(schedule_id, paused=False))

    async def trigger(self, schedule_id: str, *, idempotency_key: str | None = None) -> Submitted:
        """Start a run of it now."""
        return await self._send(calls.trigger_schedule(schedule_id, idempotency_key))

    async def delete(self, schedule_id: str) -> None:
        """Delete it; runs that it started go on."""
        await self._send(calls.delete_schedule(schedule_id))
