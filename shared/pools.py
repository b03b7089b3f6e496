"""Pools of workers: each takes the branches whose task names one of its queues."""

import re
from collections.abc import Collection
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

DEFAULT_QUEUE = "default"
"""The pool of workers that takes what names no other."""
EVERY_QUEUE = "*"
"""Among the queues of a worker: it takes whatever there is."""
MAX_QUEUE_LENGTH = 100

# Queues stand in Redis keys, in lists with commas and on command lines.
_QUEUE = r"[A-Za-z0-9][A-Za-z0-9_.-]*"


def checked_queue(queue: str) -> str:
    """``queue``, where it can be the name of one.

    Raises:
        ValueError: it cannot.
    """
    if len(queue) > MAX_QUEUE_LENGTH or re.fullmatch(_QUEUE, queue) is None:
        raise ValueError("must be letters, digits, '_', '.' and '-', with a letter or digit first")
    return queue


QueueName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=MAX_QUEUE_LENGTH),
    AfterValidator(checked_queue),
    Field(json_schema_extra={"pattern": f"^{_QUEUE}$"}),
]


def serves(queues: Collection[str], queue: str) -> bool:
    """Whether a worker with these queues takes what waits in ``queue``."""
    return queue in queues or EVERY_QUEUE in queues
