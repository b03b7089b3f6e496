"""Puts the results of the items of a list together into the result of their visit."""

from collections.abc import Sequence

import orjson

from shared.definition import TaskDefinition, allowed_failures
from shared.queries.results import ItemResult
from shared.status import Reason
from shared.store.branches import Visit
from worker.execution import AttemptResult

MAX_BYTES = 50_000_000
"""Of the list that a visit gives: it is read whole by whoever names it."""


def collect(task: TaskDefinition, visit: Visit, items: Sequence[ItemResult]) -> AttemptResult:
    """What a visit came to whose items are over, or stopped because too many failed.

    Its data is the list of the items' data, in the items' order; null stands for an item
    without a result.
    """
    data = [b"null"] * visit.item_count
    for item in items:
        data[item.index] = item.data or b"null"
    size = sum(map(len, data)) + len(data) + 1
    if size > MAX_BYTES:
        return _too_large(size)
    together = b"[" + b",".join(data) + b"]"
    if visit.items_failed <= allowed_failures(task.tolerate, visit.item_count):
        return AttemptResult("success", data=together)
    reason = f"{Reason.ITEMS_FAILED}:{visit.items_failed}"
    broken = next((item for item in items if item.error is not None), None)
    if broken is None:
        return AttemptResult("failure", data=together, reason=reason)
    error = orjson.loads(broken.error or b"{}")
    error["message"] = f"item {broken.index}: {error.get('message', '')}"
    return AttemptResult("error", data=together, error=orjson.dumps(error), reason=reason)


def _too_large(size: int) -> AttemptResult:
    message = f"the items gave {size} bytes of JSON together, over {MAX_BYTES}"
    error = {"type": "LimitExceeded", "message": message, "traceback": None}
    return AttemptResult("error", error=orjson.dumps(error), reason=Reason.LIMIT_PASSED)
