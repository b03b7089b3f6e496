"""Identifiers: UUIDv7, so that ids sort by the time they were made.

RFC 9562 section 5.7: 48 bits of Unix milliseconds, then random bits. Within one process ids
strictly increase, because the first random bits are used as a counter (method 1 of section
6.2): task runs of one run then sort in the order in which they were started.
"""

import os
import threading
import time
from collections.abc import Iterator
from typing import NewType

FlowRunId = NewType("FlowRunId", str)
BranchId = NewType("BranchId", str)
TaskRunId = NewType("TaskRunId", str)
WorkerId = NewType("WorkerId", str)

_lock = threading.Lock()
_last = 0
_noise: Iterator[str] = iter(())
_NOISE_IDS = 512
"""Ids whose random bits are drawn at once: a system call an id would cost more than the id."""


def _draw_noise() -> Iterator[str]:
    digits = os.urandom(6 * _NOISE_IDS).hex()
    return iter([digits[place : place + 12] for place in range(0, len(digits), 12)])


# A forked child must not draw the bits that its parent will draw.
os.register_at_fork(after_in_child=lambda: globals().update(_noise=iter(())))

_COUNTER_BITS = 26
"""Bits below the milliseconds that count upwards; 48 random bits follow them."""


def new_id() -> str:
    """A new UUIDv7 in its canonical 36 characters."""
    global _last, _noise
    now = (time.time_ns() // 1_000_000) << _COUNTER_BITS
    with _lock:
        # A clock that stands still or goes back must not make ids that sort before.
        _last = ticket = now if now > _last else _last + 1
        noise = next(_noise, None)
        if noise is None:
            _noise = _draw_noise()
            noise = next(_noise)
    milliseconds = f"{ticket >> _COUNTER_BITS:012x}"
    # 12 bits of the counter stand before the variant, 14 behind it.
    high, low = (ticket >> 14) & 0xFFF, ticket & 0x3FFF
    return f"{milliseconds[:8]}-{milliseconds[8:]}-{0x7000 | high:x}-{0x8000 | low:x}-{noise}"


def is_id(text: str) -> bool:
    """Whether ``text`` has the form of an id, so that anything else can be a plain 404."""
    if len(text) != 36 or text[8] + text[13] + text[18] + text[23] != "----":
        return False
    digits = text.replace("-", "")
    return len(digits) == 32 and all(digit in "0123456789abcdef" for digit in digits)
