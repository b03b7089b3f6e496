"""What happens when, by the clock of a simulation."""

import heapq
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from shared.errors import LimitExceeded
from shared.simulation.values import Answer, SentSignal
from shared.simulation.visits import Visit

_LAST = datetime(9999, 12, 31, tzinfo=UTC)
"""The end of what can be written as a date."""


class Event(NamedTuple):
    """Something on the agenda. Compared by its time, then by when it was put there."""

    at: float
    """Seconds from the start of the run."""
    number: int
    visit: Visit
    answer: Answer | None = None
    """What an attempt has come to by then; None where one begins."""
    is_wake: bool = False
    signal: SentSignal | None = None


class Agenda:
    """The clock of one run, and what is still to come."""

    def __init__(self, start: datetime) -> None:
        self._start = start
        self._latest = (_LAST - start).total_seconds()
        self._events: list[Event] = []
        self._put = 0
        self.now = 0.0
        """Seconds from the start of the run."""

    @property
    def time(self) -> datetime:
        """What the clock shows."""
        return self._start + timedelta(seconds=self.now)

    def seconds_at(self, time: datetime) -> float:
        """The seconds from the start of the run until ``time``."""
        return (time - self._start).total_seconds()

    def put(
        self,
        visit: Visit,
        answer: Answer | None = None,
        *,
        delay: float = 0.0,
        is_wake: bool = False,
        signal: SentSignal | None = None,
    ) -> None:
        """Let something happen ``delay`` seconds from now; at once where that is past.

        Raises:
            LimitExceeded: no date is that far away.
        """
        at = self.now + max(delay, 0.0)
        if at > self._latest:
            raise LimitExceeded("the clock of the simulation passes the year 9999")
        self._put += 1
        heapq.heappush(self._events, Event(at, self._put, visit, answer, is_wake, signal))

    def next(self, until: float | None) -> Event | None:
        """What happens next, not later than ``until``, the clock being set to it."""
        while self._events:
            event = heapq.heappop(self._events)
            if event.visit.is_over:
                # It was stopped meanwhile.
                continue
            if until is not None and event.at > until:
                return None
            self.now = event.at
            return event
        return None
