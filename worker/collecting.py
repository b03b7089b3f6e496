"""The result of a visit whose items are over, or stopped because too many failed."""

from collections.abc import Sequence

from shared.collecting import collect_items
from shared.definition import TaskDefinition
from shared.queries.results import ItemResult
from shared.store.branches import Visit
from worker.execution import AttemptResult


def collect(task: TaskDefinition, visit: Visit, items: Sequence[ItemResult]) -> AttemptResult:
    """What a visit with items came to."""
    found = collect_items(
        items, count=visit.item_count, failed=visit.items_failed, tolerate=task.tolerate
    )
    return AttemptResult(found.kind, data=found.data, error=found.error, reason=found.reason)
