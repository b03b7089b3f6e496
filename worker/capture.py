"""Keeps what a task logs with its attempt.

One handler on the root logger serves all attempts of the process; a context variable tells
which attempt a record belongs to. So every library's lines are kept, not only those of
``context.log``, also from threads and subtasks that the task starts with its context.
"""

import logging
import time
import traceback
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime

from shared.ids import new_id
from shared.settings import Settings
from shared.store.logs import LoggedLine
from shared.task_context import LOGGER_NAME


class Capture:
    """The lines of one attempt: the first so many are kept, the rest is counted.

    Records come from any thread, one at a time: logging locks the handler that hands them on.
    Lines are taken on the event loop, at any moment in between.
    """

    __slots__ = (
        "_added",
        "_closed",
        "_flow_run_id",
        "_handler",
        "_lines",
        "_omitted",
        "_task",
        "_task_run_id",
        "redact",
        "waiting_since",
    )

    def __init__(
        self, handler: "CaptureHandler", flow_run_id: str, task_run_id: str, task: str
    ) -> None:
        self.redact: Callable[[str], str] | None = None
        """Takes out of a line what must not be kept of it."""
        self.waiting_since = 0.0
        """When the oldest line was added that nobody has taken yet; monotonic."""
        self._handler = handler
        self._flow_run_id = flow_run_id
        self._task_run_id = task_run_id
        self._task = task
        self._lines: list[LoggedLine] = []
        self._added = 0
        self._omitted = 0
        self._closed = False

    def add(self, record: logging.LogRecord) -> None:
        """Keep ``record``, unless the attempt is over (an abandoned thread may still log)."""
        if self._closed:
            return
        if self._added >= self._handler.max_lines:
            self._omitted += 1
            return
        self._added += 1
        at = datetime.fromtimestamp(record.created, UTC)
        text = _text(record) if self.redact is None else self.redact(_text(record))
        message = _cut(text, self._handler.max_characters)
        if not self._lines:
            self.waiting_since = time.monotonic()
        self._lines.append(self._line(at, clean_text(record.levelname.lower()), message))
        # Each time: the line before may have been taken in this very moment.
        self._handler.waiting.add(self)

    def take(self, most: int) -> list[LoggedLine]:
        """The first ``most`` lines, which from now on are the caller's to store."""
        self._handler.waiting.discard(self)
        taken = self._lines[:most]
        # In place: a thread that adds a line now adds it to this list.
        del self._lines[: len(taken)]
        if self._lines:
            self._handler.waiting.add(self)
        return taken

    def close(self) -> list[LoggedLine]:
        """The lines that were not taken, with a last one that says how many were not kept.
        Nothing is added after it."""
        self._closed = True
        if not self._added and not self._omitted:
            return []
        lines = self.take(len(self._lines))
        if self._omitted:
            limit = self._handler.max_lines
            note = f"{self._omitted} more lines were not kept (max_log_lines {limit})"
            lines.append(self._line(datetime.now(UTC), "warning", note))
        return lines

    def belongs_to(self, handler: "CaptureHandler") -> bool:
        """Whether what comes through ``handler`` is for it."""
        return self._handler is handler

    def _line(self, at: datetime, level: str, message: str) -> LoggedLine:
        return LoggedLine(
            new_id(), self._flow_run_id, self._task_run_id, self._task, at, level, message
        )


CURRENT: ContextVar[Capture | None] = ContextVar("flow_manager_capture", default=None)
"""Where the records of the code that now runs are kept."""


class CaptureHandler(logging.Handler):
    """Hands each record to the attempt in whose context it was made."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings.log_level)
        self.max_lines = settings.max_log_lines
        self.max_characters = settings.max_log_line_characters
        self.waiting: set[Capture] = set()
        """The attempts that run and have logged what nobody has taken yet. An attempt that
        logs nothing is never in it."""

    def start(self, flow_run_id: str = "", task_run_id: str = "", task: str = "") -> Capture:
        """The capture of a new attempt. It only takes what comes through this handler, since
        several executors of one process (as tests have them) all see every record."""
        return Capture(self, flow_run_id, task_run_id, task)

    def take(self, before: float, most: int) -> list[LoggedLine]:
        """The lines of attempts that run, at most so many: of each attempt whose oldest line
        has waited since ``before`` (monotonic), all, in their order."""
        taken: list[LoggedLine] = []
        # A copy, made in one step: threads may log meanwhile.
        for capture in list(self.waiting):
            if len(taken) >= most:
                break
            if capture.waiting_since <= before:
                taken += capture.take(most - len(taken))
        return taken

    def emit(self, record: logging.LogRecord) -> None:
        """Called by logging, on any thread."""
        capture = CURRENT.get()
        if capture is not None and capture.belongs_to(self):
            capture.add(record)

    def install(self) -> None:
        """Start to capture. Tasks' own loggers let pass what the settings' level lets pass."""
        logging.getLogger(LOGGER_NAME).setLevel(self.level)
        logging.getLogger().addHandler(self)

    def remove(self) -> None:
        """Stop to capture."""
        logging.getLogger().removeHandler(self)


def clean_text(text: str) -> str:
    """``text`` without what no database takes: NUL and halves of surrogate pairs."""
    if text.isascii() and "\x00" not in text:
        return text
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


def _text(record: logging.LogRecord) -> str:
    try:
        message = record.getMessage()
    except Exception as error:  # noqa: BLE001  # a bad log line must not break the task
        message = f"{record.msg!s:.200} (its arguments do not fit: {type(error).__name__})"
    if record.exc_info and record.exc_info[1] is not None:
        lines = "".join(traceback.format_exception(record.exc_info[1]))
        message = f"{message}\n{lines.rstrip()}"
    return clean_text(message)


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    note = f" ... ({len(text)} characters)"
    return text[: limit - len(note)] + note
