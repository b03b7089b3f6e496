"""Puts the results of the items of a list together into the result of their visit. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import orjson

from shared.definition import Tolerance, allowed_failures
from shared.status import Reason

MAX_BYTES = 50_000_000
"""Of the list that a visit gives: it is read whole by whoever names it."""


class ItemResult(Protocol):
    """What the last attempt at one item came to."""

    @property
    def index(self) -> int:
        """Its place in the list."""

    @property
    def data(self) -> bytes | None:
        """JSON."""

    @property
    def error(self) -> bytes | None:
        """JSON, where it raised."""


@dataclass(frozen=True, slots=True)
class Collected:
    """What a visit came to whose items are over."""

    kind: Literal["success", "failure", "error"]
    data: bytes | None = None
    error: bytes | None = None
    reason: str | None = None


def collect_items(
    items: Sequence[ItemResult], *, count: int, failed: int, tolerate: Tolerance
) -> Collected:
    """What a visit of ``count`` items came to, of which ``failed`` failed.

    Its data is the list of the items' data, in the items' order; null stands for an item
    without a result.
    """
    data = [b"null"] * count
    for item in items:
        data[item.index] = item.data or b"null"
    size = sum(map(len, data)) + len(data) + 1
    if size > MAX_BYTES:
        return _too_large(size)
    together = b"[" + b",".join(data) + b"]"
    if failed <= allowed_failures(tolerate, count):
        return Collected("success", data=together)
    reason = f"{Reason.ITEMS_FAILED}:{failed}"
    broken = next((item for item in items if item.error is not None), None)
    if broken is None:
        return Collected("failure", data=together, reason=reason)
    error = orjson.loads(broken.error or b"{}")
    error["message"] = f"item {broken.index}: {error.get('message', '')}"
    return Collected("error", data=together, error=orjson.dumps(error), reason=reason)


def _too_large(size: int) -> Collected:
    message = f"the items gave {size} bytes of JSON together, over {MAX_BYTES}"
    error = {"type": "LimitExceeded", "message": message, "traceback": None}
    return Collected("error", error=orjson.dumps(error), reason=Reason.LIMIT_PASSED)
