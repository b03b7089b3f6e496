"""Waiting for something to become true, in place of sleeping and hoping."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable

_PAUSE_SECONDS = 0.01


async def wait_until(
    predicate: Callable[[], object | Awaitable[object]],
    *,
    description: str,
    timeout: float = 5.0,  # noqa: ASYNC109  # the caller's own deadline is pytest's
) -> None:
    """Return as soon as ``predicate`` (sync or async) is true; fail with its description."""
    deadline = time.monotonic() + timeout
    while True:
        result = predicate()
        if inspect.isawaitable(result):
            result = await result
        if result:
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout} s in vain until {description}")
        await asyncio.sleep(_PAUSE_SECONDS)


def block_until(predicate: Callable[[], object], *, description: str, timeout: float = 5.0) -> None:
    """The same for a test without an event loop."""
    deadline = time.monotonic() + timeout
    while not predicate():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout} s in vain until {description}")
        time.sleep(_PAUSE_SECONDS)
