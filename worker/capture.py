"""Keeps what a task logs with its attempt.

One handler on the root logger serves all attempts of the process; a context variable tells
which attempt a record belongs to. So every library's lines are kept, not only those of
``context.log``, also from threads and subtasks that the task starts with its context.
"""

import logging
import traceback
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime

from shared.settings import Settings
from shared.tasks import LOGGER_NAME


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line that was logged while an attempt ran."""

    at: datetime
    level: str
    """In lower case: ``debug``, ``info``, ``warning``, ``error``, ``critical``."""
    message: str


class Capture:
    """The lines of one attempt: the first so many are kept, the rest is counted."""

    __slots__ = ("_closed", "_lines", "_max_characters", "_max_lines", "_omitted", "handler")

    def __init__(
        self, max_lines: int, max_characters: int, handler: "CaptureHandler | None" = None
    ) -> None:
        self.handler = handler
        self._max_lines = max_lines
        self._max_characters = max_characters
        self._lines: list[LogLine] = []
        self._omitted = 0
        self._closed = False

    def add(self, record: logging.LogRecord) -> None:
        """Keep ``record``, unless the attempt is over (an abandoned thread may still log)."""
        if self._closed:
            return
        if len(self._lines) >= self._max_lines:
            self._omitted += 1
            return
        at = datetime.fromtimestamp(record.created, UTC)
        level = record.levelname.lower()
        self._lines.append(LogLine(at, level, _cut(_text(record), self._max_characters)))

    def close(self) -> list[LogLine]:
        """All lines, with a last one that says how many were not kept. Nothing is added
        after it."""
        self._closed = True
        if self._omitted:
            note = f"{self._omitted} more lines were not kept (max_log_lines {self._max_lines})"
            self._lines.append(LogLine(datetime.now(UTC), "warning", note))
        return self._lines


CURRENT: ContextVar[Capture | None] = ContextVar("flow_manager_capture", default=None)
"""Where the records of the code that now runs are kept."""


class CaptureHandler(logging.Handler):
    """Hands each record to the attempt in whose context it was made."""

    def __init__(self, settings: Settings) -> None:
        level = logging.getLevelNamesMapping().get(settings.log_level.upper(), logging.INFO)
        super().__init__(level)
        self._max_lines = settings.max_log_lines
        self._max_characters = settings.max_log_line_characters

    def start(self) -> Capture:
        """The capture of a new attempt. It only takes what comes through this handler, since
        several executors of one process (as tests have them) all see every record."""
        return Capture(self._max_lines, self._max_characters, self)

    def emit(self, record: logging.LogRecord) -> None:
        """Called by logging, on any thread."""
        capture = CURRENT.get()
        if capture is not None and capture.handler is self:
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
