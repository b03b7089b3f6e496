"""What a task raised, as it is recorded: type, message and traceback.

A task's traceback is part of the product. It starts at the task's own frames, since ours
explain nothing to who wrote it, and is cut in its middle: both the way in and the place of
the breakage stand at the ends.
"""

import traceback
from pathlib import Path
from types import TracebackType

import orjson

import shared.task_context
import shared.task_params
import shared.task_results
import shared.tasks
from worker.capture import clean_text

_OUR_FILES = frozenset(
    {
        shared.task_context.__file__,
        shared.task_params.__file__,
        shared.task_results.__file__,
        shared.tasks.__file__,
        *(
            str(Path(__file__).with_name(f"{name}.py"))
            for name in (
                "driving",
                "execution",
                "failures",
                "threads",
            )
        ),
    }
)
_TAIL_SHARE = 2 / 3
"""Of what is kept of a long traceback: the place of the breakage says more than the way in."""


def encode_error(error: BaseException, max_characters: int) -> bytes:
    """``{"type", "message", "traceback"}`` as JSON, each bounded by ``max_characters``."""
    _leave_out_our_frames(error)
    return orjson.dumps(
        {
            "type": clean_text(type(error).__name__)[:200],
            "message": cut_middle(clean_text(_message(error)), max_characters),
            "traceback": cut_middle(clean_text(_traceback(error)), max_characters),
        }
    )


def cut_middle(text: str, limit: int) -> str:
    """``text``, with the middle left out where it is longer than ``limit``."""
    if len(text) <= limit:
        return text
    note = f"\n... {len(text) - limit} characters left out ...\n"
    kept = max(limit - len(note), 0)
    tail = int(kept * _TAIL_SHARE)
    return text[: kept - tail] + note + text[len(text) - tail :]


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001  # a task's own exception may break even here
        return "(the error's message cannot be read)"


def _traceback(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except Exception:  # noqa: BLE001  # a task's own exception may break even here
        return "".join(traceback.format_tb(error.__traceback__)) + type(error).__name__


def _leave_out_our_frames(error: BaseException) -> None:
    """From ``error`` and from all that it came from."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        current = waiting.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        current.__traceback__ = _own_frames(current.__traceback__)
        waiting += [current.__cause__, current.__context__]


def _own_frames(frames: TracebackType | None) -> TracebackType | None:
    """``frames`` from the first on that is not ours."""
    while frames is not None and frames.tb_frame.f_code.co_filename in _OUR_FILES:
        frames = frames.tb_next
    return frames
