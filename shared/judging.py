"""When an attempt that went wrong is followed by another one.

Pure: the time that has passed and a random number come in as arguments. Workers and the
simulation ask the same.
"""

from typing import Literal

from shared.definition import TaskDefinition
from shared.retry import FailureKind, TryAgain, decide_retry
from shared.status import Reason


def delay_before_next(
    task: TaskDefinition,
    kind: Literal["failure", "error"],
    reason: str | None,
    *,
    failed_attempts: int,
    elapsed_seconds: float,
    draw: float,
) -> float | None:
    """Seconds until the next attempt; None where there is none.

    ``failed_attempts`` counts the one that went wrong, ``elapsed_seconds`` is the time since
    the visit's first attempt began, ``draw`` a random number from 0 up to 1.
    """
    if task.retry is None or reason == Reason.EXPRESSION_FAILED:
        # The same expression says the same again.
        return None
    what: FailureKind = "timeout" if reason == Reason.TIMED_OUT else kind
    decision = decide_retry(
        task.retry,
        failed_attempts=failed_attempts,
        kind=what,
        elapsed_seconds=elapsed_seconds,
        draw=draw,
    )
    return decision.delay_seconds if isinstance(decision, TryAgain) else None
