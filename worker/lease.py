"""Keeps this worker's lease, from a thread and a connection of its own.

A task that blocks the event loop for a while must not cost the worker its lease. One that
never gives it back holds all that runs here: the heart asks the loop to answer, and ends the
process where it does not, so that others go on.

Every heartbeat also reads which branches the database says are ours: what runs here and is not
ours any more is dropped (it was rescued, or its run was cancelled), and what is ours and does
not run here (an answer got lost) is given back.
"""

import asyncio
import os
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import structlog

from shared.database import Database
from shared.errors import DatabaseUnavailable
from shared.ids import BranchId, WorkerId
from shared.lease_clock import LeaseClock
from shared.settings import Settings
from shared.store import workers

_log = structlog.get_logger(__name__)


BLOCKED_EXIT_STATUS = 70
"""As ``EX_SOFTWARE`` of sysexits.h: a task has broken the process."""


@dataclass(frozen=True, slots=True)
class Beat:
    """What one heartbeat found."""

    is_live: bool
    """False: we were declared lost, and nothing we held is ours."""
    held: dict[BranchId, int]
    """The branches that are ours, with their claims."""
    live_workers: int


class Heart:
    """Beats until it is stopped, and tells the event loop what it found."""

    def __init__(
        self,
        worker_id: WorkerId,
        database: Database,
        clock: LeaseClock,
        settings: Settings,
        tell: Callable[[Beat], None],
    ) -> None:
        self._worker_id = worker_id
        self._database = database
        self._clock = clock
        self._settings = settings
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._failures = 0
        self._unanswered_seconds = 0.0

    def start(self) -> None:
        """Start to beat."""
        self._thread.start()

    def stop(self) -> None:
        """Stop, after the beat at hand."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(self._settings.database_timeout_seconds)

    def _run(self) -> None:
        while not self._stopped.wait(self._settings.heartbeat_seconds):
            self._ask_loop()
            try:
                beat = self._beat()
            except DatabaseUnavailable as error:
                self._failures += 1
                if self._failures == 1:
                    _log.warning("heartbeat_failed", error=str(error))
                continue
            self._failures = 0
            try:
                self._loop.call_soon_threadsafe(self._tell, beat)
            except RuntimeError:  # the loop is closed: the process ends
                return

    def _ask_loop(self) -> None:
        """Ask the event loop for a sign of life, and end the process where it gave none.

        Counted in beats and not by a clock: a process that was paused as a whole has not been
        blocked by anybody.
        """
        limit = self._settings.max_blocked_seconds
        if self._unanswered_seconds > limit:
            _log.critical("event_loop_blocked", seconds=limit, at=_where())
            os._exit(BLOCKED_EXIT_STATUS)
        self._unanswered_seconds += self._settings.heartbeat_seconds
        # The loop may be closed by now: then nothing can be blocked any more.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._answer)

    def _answer(self) -> None:
        self._unanswered_seconds = 0.0

    def _beat(self) -> Beat:
        with self._database.write() as connection:
            now = self._clock.synchronise(connection)
            is_live = workers.beat(connection, self._worker_id, now)
            if not is_live:
                workers.revive(connection, self._worker_id, now)
            held = workers.held_branches(connection, self._worker_id)
            return Beat(is_live, held, workers.count_live(connection))


def _where() -> str:
    """The line that the main thread is at."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    return "?" if frame is None else "".join(traceback.format_stack(frame)[-3:])
