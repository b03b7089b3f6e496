"""Tasks that would wait, because no worker takes their queue."""

from collections.abc import Collection

from shared.findings import Findings, nearest_names, quoted
from shared.pools import EVERY_QUEUE, serves
from shared.shape import Shape, text_of

_MOST_TOLD = 20
"""Queues that are told, each at the first task that names it."""


def check_queues(
    shape: Shape, prefix: str, served: Collection[str] | None, findings: Findings
) -> None:
    """Warn of tasks whose queue is none of those that workers take; None where nothing is known
    of them. A warning, because such a worker may come at any moment."""
    if served is None:
        return
    known = sorted(queue for queue in served if queue != EVERY_QUEUE)
    told: set[str] = set()
    for index, task in enumerate(shape.tasks or ()):
        queue = text_of(task, "queue")
        if queue is None or queue in told or serves(served, queue):
            continue
        if len(told) >= _MOST_TOLD:
            return
        told.add(queue)
        nearest = nearest_names(queue, known)
        findings.warning(
            f"{prefix}/tasks/{index}/queue",
            "queue_not_served",
            f"no live worker takes queue {quoted(queue)}: the task would wait for one",
            suggestion=f"did you mean {quoted(nearest[0])}?" if nearest else None,
        )
