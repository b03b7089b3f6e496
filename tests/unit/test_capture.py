"""Which log lines are kept with an attempt."""

import asyncio
import contextvars
import logging
import threading
from collections.abc import Iterator

import pytest

from shared.settings import Settings
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


def test_traceback_of_a_logged_error_is_kept(handler: CaptureHandler) -> None:
    capture = Capture(max_lines=3, max_characters=2_000, handler=handler)
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


def test_unknown_level_falls_back_to_info() -> None:
    assert CaptureHandler(Settings(log_level="loud")).level == logging.INFO
