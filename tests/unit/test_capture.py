"""Which log lines are kept with an attempt."""

import asyncio
import contextvars
import logging
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime

import pytest

from shared.settings import Settings
from shared.store.logs import LoggedLine
from worker.capture import CURRENT, Capture, CaptureHandler, clean_text

logger = logging.getLogger("someone.elses.library")


@pytest.fixture
def handler() -> Iterator[CaptureHandler]:
    handler = CaptureHandler(
        Settings(log_level="info", max_log_lines=3, max_log_line_characters=100)
    )
    handler.install()
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.setLevel(logging.NOTSET)
    handler.remove()


@pytest.fixture
def capture(handler: CaptureHandler) -> Iterator[Capture]:
    capture = handler.start()
    token = CURRENT.set(capture)
    yield capture
    CURRENT.reset(token)


def test_any_logger_is_captured_from_the_level_of_the_settings_on(capture: Capture) -> None:
    logger.debug("left out")
    logger.info("kept %s", 1)
    logging.getLogger("flow_manager.tasks.x").error("kept too")
    lines = capture.close()
    assert [(line.level, line.message) for line in lines] == [
        ("info", "kept 1"),
        ("error", "kept too"),
    ]
    assert lines[0].at.utcoffset() is not None


@pytest.mark.usefixtures("handler")
def test_nothing_is_captured_outside_an_attempt() -> None:
    logger.info("nobody's")
    assert CURRENT.get() is None


def test_second_executor_of_the_process_does_not_double_the_lines(capture: Capture) -> None:
    other = CaptureHandler(Settings())
    other.install()
    logger.info("once")
    other.remove()
    assert [line.message for line in capture.close()] == ["once"]


async def test_threads_and_subtasks_belong_to_the_attempt(capture: Capture) -> None:
    await asyncio.to_thread(logger.info, "thread")
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.to_thread(logger.info, "subtask"))
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(logger.info, "copied"))
    thread.start()
    thread.join()
    assert [line.message for line in capture.close()] == ["thread", "subtask", "copied"]


def test_lines_over_the_limit_are_counted(capture: Capture) -> None:
    for i in range(10):
        logger.info("line %d", i)
    lines = [line.message for line in capture.close()]
    assert lines[:3] == ["line 0", "line 1", "line 2"]
    assert lines[3:] == ["7 more lines were not kept (max_log_lines 3)"]


def test_long_line_is_cut_and_says_so(capture: Capture) -> None:
    logger.info("x" * 5_000)
    (line,) = capture.close()
    assert len(line.message) == 100
    assert line.message.endswith("... (5000 characters)")


def test_nothing_is_added_after_the_end(capture: Capture) -> None:
    logger.info("in time")
    lines = capture.close()
    logger.info("late")
    assert len(lines) == 1


def test_line_says_whose_it_is_and_its_id_sorts_as_it_was_logged(handler: CaptureHandler) -> None:
    capture = handler.start("run", "task run", "resize")
    token = CURRENT.set(capture)
    for i in range(3):
        logger.info("line %d", i)
    CURRENT.reset(token)
    lines = capture.close()
    owners = {(line.flow_run_id, line.task_run_id, line.task) for line in lines}
    assert owners == {("run", "task run", "resize")}
    assert [line.message for line in sorted(lines, key=lambda line: line.id)] == [
        "line 0",
        "line 1",
        "line 2",
    ]


def test_what_was_taken_while_it_runs_does_not_come_again_at_the_end(
    handler: CaptureHandler, capture: Capture
) -> None:
    logger.info("before")
    taken = handler.take(time.monotonic(), 10)
    assert handler.take(time.monotonic(), 10) == []
    logger.info("after")
    assert [line.message for line in taken] == ["before"]
    assert [line.message for line in capture.close()] == ["after"]
    assert handler.take(time.monotonic(), 10) == []


def test_line_is_not_taken_before_it_has_waited(handler: CaptureHandler, capture: Capture) -> None:
    before = time.monotonic()
    logger.info("young")
    assert handler.take(before - 0.001, 10) == []
    assert [line.message for line in handler.take(time.monotonic(), 10)] == ["young"]


def test_no_more_is_taken_than_asked_for_and_the_rest_waits(
    handler: CaptureHandler, capture: Capture
) -> None:
    for i in range(3):
        logger.info("line %d", i)
    now = time.monotonic()
    taken = [[line.message for line in handler.take(now, 2)] for _ in range(3)]
    assert taken == [["line 0", "line 1"], ["line 2"], []]
    assert capture.close() == []


@pytest.mark.usefixtures("capture")
def test_attempt_that_logs_nothing_is_not_looked_at(handler: CaptureHandler) -> None:
    assert handler.waiting == set()


def test_lines_that_were_taken_count_towards_the_limit(
    handler: CaptureHandler, capture: Capture
) -> None:
    for i in range(5):
        logger.info("line %d", i)
        handler.take(time.monotonic(), 10)
    assert [line.message for line in capture.close()] == [
        "2 more lines were not kept (max_log_lines 3)"
    ]


def test_line_that_is_made_while_others_are_taken_is_not_lost(handler: CaptureHandler) -> None:
    taken: list[LoggedLine] = []

    class Interrupted(Capture):
        """Its lines are taken whenever a thread is just about to add one."""

        def _line(self, at: datetime, level: str, message: str) -> LoggedLine:
            taken.extend(handler.take(time.monotonic(), 10))
            return super()._line(at, level, message)

    capture = Interrupted(handler, "run", "task run", "talk")
    token = CURRENT.set(capture)
    for i in range(3):
        logger.info("line %d", i)
    CURRENT.reset(token)
    messages = [line.message for line in taken + capture.close()]
    assert messages == ["line 0", "line 1", "line 2"]


@pytest.fixture
def _nervous_interpreter() -> Iterator[None]:
    """Threads take turns as often as they can, so that they meet in the middle of things."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_nervous_interpreter")
def test_nothing_is_lost_or_doubled_while_threads_log(
    handler: CaptureHandler, capture: Capture
) -> None:
    handler.max_lines = 10_000

    def log(name: str) -> None:
        for i in range(1_000):
            logger.info("%s %d", name, i)

    threads = [
        threading.Thread(target=contextvars.copy_context().run, args=(log, name)) for name in "ab"
    ]
    taken = []
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        taken += handler.take(time.monotonic(), 7)
    messages = [line.message for line in taken + capture.close()]
    for name in "ab":
        assert [m for m in messages if m[0] == name] == [f"{name} {i}" for i in range(1_000)]


def test_traceback_of_a_logged_error_is_kept(handler: CaptureHandler) -> None:
    handler.max_characters = 2_000
    capture = handler.start()
    token = CURRENT.set(capture)
    try:
        raise ValueError("inner")
    except ValueError:
        logger.exception("it broke")
    CURRENT.reset(token)
    (line,) = capture.close()
    assert line.message.startswith("it broke\nTraceback")
    assert line.message.endswith("ValueError: inner")


def test_line_that_cannot_be_formatted_does_not_break_the_task(capture: Capture) -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError("no text")

    # pytest's own handlers would let the error through.
    record = logging.LogRecord("x", logging.INFO, __file__, 1, "%d", ("three",), None)
    capture.add(record)
    capture.add(logging.LogRecord("x", logging.INFO, __file__, 1, "%s", (Broken(),), None))
    lines = [line.message for line in capture.close()]
    assert lines == [
        "%d (its arguments do not fit: TypeError)",
        "%s (its arguments do not fit: RuntimeError)",
    ]


def test_what_no_database_takes_is_replaced() -> None:
    assert clean_text("plain") == "plain"
    assert clean_text("a\x00b\ud800c") == "a\ufffdb?c"
    assert clean_text("Größe") == "Größe"
