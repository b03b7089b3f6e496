"""Runs a task's coroutine inside the task that asks, with a time limit that always holds.

``asyncio.timeout`` and ``task.cancel()`` only *ask*: code that swallows ``CancelledError``
goes on for ever, and a second asyncio task for each attempt, to be able to let go of it,
would cost more than a short attempt itself. So the coroutine is stepped here by hand, which
is all an event loop does with it: what it awaits is passed on, what comes back is passed in.
That way nothing is set up for a coroutine that never waits, and one that was told to stop and
does not is closed after a grace.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from shared.errors import TaskTimeout

_logger = logging.getLogger("flow_manager.worker")

_UNCLOSABLE: list[Coroutine[Any, Any, Any]] = []
"""Tasks that went on even when they were closed."""


class Cancelled(BaseException):
    """Whoever runs this attempt was cancelled, and the task has had its time to clean up.

    Not ``CancelledError``, which a task may also raise by itself: that is only its error.
    """


class Drive:
    """``await Drive(coroutine, ...)`` gives what the coroutine returns.

    ``stop_seconds`` says what it is given to clean up, at the time when it is stopped.

    Raises:
        TaskTimeout: it took longer than ``timeout_seconds``, whatever it did about it.
        Cancelled: the awaiting task was cancelled, and the coroutine has had it.
    """

    __slots__ = (
        "_cancels_before",
        "_coroutine",
        "_grace",
        "_grace_passed",
        "_own_cancels",
        "_stop_seconds",
        "_task",
        "_timed_out",
        "_timeout_seconds",
        "_timer",
    )

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, Any],
        timeout_seconds: float | None,
        stop_seconds: Callable[[], float],
    ) -> None:
        self._coroutine = coroutine
        self._timeout_seconds = timeout_seconds
        self._stop_seconds = stop_seconds
        self._timed_out = False
        self._grace_passed = False
        self._own_cancels = 0
        self._timer: asyncio.TimerHandle | None = None
        self._grace: asyncio.TimerHandle | None = None

    def __await__(self) -> Generator[Any, Any, Any]:
        try:
            awaited = self._coroutine.send(None)
        except StopIteration as stop:
            return stop.value
        current = asyncio.current_task()
        assert current is not None
        self._task = current
        self._cancels_before = current.cancelling()
        if self._timeout_seconds is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._timeout_seconds, self._on_timeout)
        try:
            returned = yield from self._relay(awaited)
        except GeneratorExit:
            raise
        except BaseException as error:
            self._raise_if_stopped(error)
            raise
        else:
            self._raise_if_stopped(None)
            return returned
        finally:
            self._clear()

    def _relay(self, awaited: Any) -> Generator[Any, Any, Any]:
        """Step the coroutine to its end."""
        while True:
            thrown: BaseException | None = None
            try:
                yield awaited
            except GeneratorExit:
                self._coroutine.close()
                raise
            except BaseException as error:
                if self._grace_passed:
                    self._abandon()
                    raise
                # Without the line above, which is ours: the rest is what the task awaited.
                frames = error.__traceback__
                thrown = error.with_traceback(frames and frames.tb_next)
            try:
                awaited = self._step(thrown)
            except StopIteration as stop:
                return stop.value

    def _step(self, thrown: BaseException | None) -> Any:
        """Up to the next thing that it awaits."""
        if thrown is None:
            return self._coroutine.send(None)
        if isinstance(thrown, asyncio.CancelledError):
            self._start_grace()
        return self._coroutine.throw(thrown)

    # The loop calls these between two steps, so a cancel made here is always delivered.

    def _on_timeout(self) -> None:
        self._timed_out = True
        self._cancel()

    def _on_grace_passed(self) -> None:
        self._grace = None
        # A timeout or task group of the task's own cancels, too, and takes it back in time.
        if self._timed_out or self._is_cancelled_from_outside():
            self._grace_passed = True
            self._cancel()

    def _cancel(self) -> None:
        self._own_cancels += 1
        self._task.cancel()

    def _start_grace(self) -> None:
        if self._grace is None:
            loop = asyncio.get_running_loop()
            self._grace = loop.call_later(self._stop_seconds(), self._on_grace_passed)

    def _is_cancelled_from_outside(self) -> bool:
        return self._task.cancelling() - self._own_cancels > self._cancels_before

    def _raise_if_stopped(self, error: BaseException | None) -> None:
        """What it came to does not count once it was told to stop."""
        if self._is_cancelled_from_outside():
            raise Cancelled from error
        if self._timed_out:
            raise TaskTimeout(
                f"the attempt took longer than its timeout of {self._timeout_seconds:g} s"
            ) from error

    def _abandon(self) -> None:
        _logger.warning(
            "task_ignored_its_stop: it was told to stop and did not within %g s; it was closed",
            self._stop_seconds(),
        )
        try:
            self._coroutine.close()
        except BaseException as error:  # noqa: BLE001  # its last words change nothing any more
            _logger.warning("task_could_not_be_closed: %s", type(error).__name__)
            # Never collected: that would run it again, in whatever thread collects just then.
            _UNCLOSABLE.append(self._coroutine)

    def _clear(self) -> None:
        for timer in (self._timer, self._grace):
            if timer is not None:
                timer.cancel()
        for _ in range(self._own_cancels):
            self._task.uncancel()
