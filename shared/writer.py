"""The group-commit writer: what many callers want written at one moment is one transaction.

A thread of its own takes all that waits, groups it by the store function that is to write it,
runs every function once with its list, and commits. Under load a commit then serves hundreds
of callers; alone, a caller waits for one commit.

A group needs a way out for one: where a group fails, every caller's item is run again in a
transaction of its own, so that one caller's mistake is one caller's error.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from shared.afterwards import Ready, finish
from shared.database import Database
from shared.errors import DatabaseUnavailable
from shared.ids import BranchId
from shared.settings import Settings

T = TypeVar("T")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])

BatchFunction = Callable[[Connection, Sequence[T]], Sequence[R]]
"""Writes all items and returns a result for each, in order. Never commits."""

_APART: set[BatchFunction[Any, Any]] = set()

_log = structlog.get_logger(__name__)

_MAX_BATCH = 1_000
"""Items of one transaction: bounds how long others wait for the lock."""
_DEADLOCK_TRIES = 5


def apart(function: F) -> F:
    """Have the writer give a function's calls a transaction of their own.

    For one that locks more than runs and branches before its end: in one transaction with others
    it would lock them before their runs.
    """
    _APART.add(function)
    return function


@dataclass(slots=True, eq=False)
class _Call:
    function: BatchFunction[Any, Any]
    item: Any
    future: "asyncio.Future[Any]"
    loop: asyncio.AbstractEventLoop
    is_begun: bool = False
    """Whether it is in a transaction, so that nobody can say any more that it was not written."""
    is_given_up: bool = False
    result: Any = None
    error: BaseException | None = None


class Writer:
    """Writes for one process. Calls come from event loops; one thread writes."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._limit = settings.writer_queue_size
        self._timeout_seconds = settings.database_timeout_seconds
        self._pending: deque[_Call] = deque()
        self._has_work = threading.Event()
        self._taking = threading.Lock()
        """Held to begin calls, or to give one up. Not to add one: callers are many and never
        wait for each other, because adding to a deque is atomic."""
        self._closing = False
        self.on_ready: Callable[[Ready], None] | None = None
        """Told, on a caller's loop, of branches that a commit made ready beside what its
        callers asked for."""
        self._ready: dict[BranchId, str] = {}
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Write what waits, then end the thread. Blocks for as long as that takes.

        A thread that gets no turn is left behind once all its callers were told so: a process
        that somebody stopped in the middle of a commit may hold SQLite's lock for hours.
        """
        self._closing = True
        self._has_work.set()
        if self._thread.is_alive():
            self._thread.join(2 * self._timeout_seconds)
            if self._thread.is_alive():
                _log.warning("writer_left_behind", waiting=self.waiting)

    @property
    def waiting(self) -> int:
        """How many calls wait to be written."""
        return len(self._pending)

    async def call(self, function: BatchFunction[T, R], item: T) -> R:
        """Have ``function`` write ``item``, and return its result once that is committed.

        A caller that is cancelled before its item was taken has written nothing.

        Raises:
            DatabaseUnavailable: nothing of it was written, as far as the database said.
        """
        loop = asyncio.get_running_loop()
        if self._closing:
            raise DatabaseUnavailable("the process is stopping")
        if len(self._pending) >= self._limit:
            raise DatabaseUnavailable(f"more than {self._limit} writes are waiting")
        call = _Call(function, item, loop.create_future(), loop)
        self._pending.append(call)
        if not self._has_work.is_set():
            self._has_work.set()
        timer = loop.call_later(self._timeout_seconds, self._give_up, call)
        try:
            result: R = await call.future
            return result
        finally:
            timer.cancel()

    def _give_up(self, call: _Call) -> None:
        """End the wait of a call that nobody has begun to write."""
        with self._taking:
            if call.is_begun:
                return
            call.is_given_up = True
        if not call.future.done():
            call.future.set_exception(
                DatabaseUnavailable(f"no turn to write within {self._timeout_seconds} s")
            )

    def _run(self) -> None:
        while True:
            # Cleared before looking: who adds a call after the look sets it again.
            self._has_work.clear()
            if self._pending:
                live = self._take()
                if live:
                    self._write(live)
                    self._answer(live)
            elif self._closing:
                return
            else:
                self._has_work.wait()

    def _take(self) -> list[_Call]:
        """The calls that go next, as far as anybody waits for them still."""
        count = min(len(self._pending), _MAX_BATCH)
        calls = [self._pending.popleft() for _ in range(count)]
        return [call for call in calls if not _is_over(call)]

    def _begin(self, calls: list[_Call]) -> list[_Call]:
        """Those of ``calls`` that are written now that there is a turn. The others gave up."""
        with self._taking:
            live = [call for call in calls if not _is_over(call)]
            for call in live:
                call.is_begun = True
        return live

    def _write(self, calls: list[_Call]) -> None:
        for together in _transactions(calls):
            self._write_together(together)

    def _write_together(self, calls: list[_Call]) -> None:
        try:
            self._write_group(calls)
        except DatabaseUnavailable as error:
            # Nothing of a group that failed was committed; a deadlock's victim may try again.
            if not _may_succeed_alone(error):
                for call in calls:
                    call.error = error
                return
            self._write_singly(calls)
        except BaseException as error:  # noqa: BLE001  # handed to the caller
            if len(calls) == 1:
                calls[0].error = error
                return
            self._write_singly(calls)

    def _write_singly(self, calls: list[_Call]) -> None:
        for call in calls:
            for attempt in range(_DEADLOCK_TRIES):
                try:
                    self._write_group([call])
                except DatabaseUnavailable as error:
                    call.error = error
                    if _may_succeed_alone(error) and attempt + 1 < _DEADLOCK_TRIES:
                        continue
                except BaseException as error:  # noqa: BLE001  # handed to the caller
                    call.error = error
                else:
                    call.error = None
                break

    def _write_group(self, calls: list[_Call]) -> None:
        groups: dict[BatchFunction[Any, Any], list[_Call]] = {}
        with self._database.write() as connection:
            for call in self._begin(calls):
                groups.setdefault(call.function, []).append(call)
            for function, members in groups.items():
                results = function(connection, [call.item for call in members])
                for call, result in zip(members, results, strict=True):
                    call.result = result
            ready = finish(connection)
        self._ready |= ready

    def _answer(self, calls: list[_Call]) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, list[_Call]] = {}
        for call in calls:
            by_loop.setdefault(call.loop, []).append(call)
        for loop, members in by_loop.items():
            try:
                loop.call_soon_threadsafe(_resolve, members)
            except RuntimeError:
                # The loop is closed; what was committed is found by whoever comes next.
                _log.warning("writer_answer_lost", calls=len(members))
        if self._ready and self.on_ready is not None:
            with suppress(RuntimeError):
                calls[0].loop.call_soon_threadsafe(self.on_ready, self._ready)
        self._ready = {}


def _is_over(call: _Call) -> bool:
    """Whether nobody waits for it any more."""
    return call.is_given_up or call.future.cancelled()


def _resolve(calls: list[_Call]) -> None:
    for call in calls:
        if call.future.done():
            continue
        if call.error is not None:
            call.future.set_exception(call.error)
        else:
            call.future.set_result(call.result)


def _transactions(calls: list[_Call]) -> list[list[_Call]]:
    """Which calls share a transaction: all of them, but for those that stay apart."""
    if _APART.isdisjoint([call.function for call in calls]):
        return [calls]
    others = [call for call in calls if call.function not in _APART]
    parted: dict[BatchFunction[Any, Any], list[_Call]] = {}
    for call in calls:
        if call.function in _APART:
            parted.setdefault(call.function, []).append(call)
    return [others, *parted.values()] if others else list(parted.values())


def _may_succeed_alone(error: DatabaseUnavailable) -> bool:
    """Whether the database picked us as the victim of a deadlock."""
    cause = error.__cause__
    driver_error = cause.orig if isinstance(cause, DBAPIError) else cause
    return getattr(driver_error, "sqlstate", None) in {"40P01", "40001"}
