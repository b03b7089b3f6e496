"""What an attempt's result means for its branch: over, or tried again, and where it leads.

The rules are the core's (``shared.judging``, ``shared.routing``); here they are asked with what
only a worker knows: the time, a random number, and what the conditions' expressions say.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from shared.decider import Targets
from shared.flow import Flow
from shared.judging import delay_before_next
from shared.routing import Applies
from shared.status import Outcome
from shared.store.branches import Visit
from shared.store.runs import NewRun
from worker.execution import AttemptResult

Kind = Literal["success", "failure", "error", "suspended", "retry", "mapped", "finish"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is recorded of an attempt beside its result."""

    kind: Kind
    targets: Targets | None = None
    wake_at: datetime | None = None
    items: Sequence[bytes] = ()
    signal: str | None = None
    sub_flow: NewRun | None = None
    """The run that a suspended attempt waits for."""


def judge(
    flow: Flow,
    visit: Visit,
    result: AttemptResult,
    *,
    elapsed_seconds: float,
    may_retry: bool = True,
    applies: Applies | None = None,
) -> Judgement:
    """Judge ``result``; ``elapsed_seconds`` have passed since the visit's first attempt began."""
    assert result.kind != "cancelled", "an attempt that was cancelled is not recorded"
    match result.kind:
        case "suspended":
            return Judgement("suspended", wake_at=result.wake_at, signal=result.signal)
        case "finish":
            # An item of a list has only its own end to decide about, and a run in its ending
            # ends by itself.
            if visit.is_ending:
                return Judgement("success", ())
            return Judgement("success" if visit.parent_id is not None else "finish")
        case "success":
            return Judgement("success", flow.decider.choose(visit.task, Outcome.SUCCESS, applies))
        case "failure" | "error" as kind:
            delay = None
            if may_retry:
                delay = delay_before_next(
                    flow.tasks[visit.task],
                    kind,
                    result.reason,
                    failed_attempts=visit.failed_attempts + 1,
                    elapsed_seconds=elapsed_seconds,
                    draw=random.random(),
                )
            if delay is not None:
                return Judgement("retry", wake_at=datetime.now(UTC) + timedelta(seconds=delay))
            outcome = Outcome.FAILURE if kind == "failure" else Outcome.ERROR
            if visit.is_ending:
                # No condition is asked: whatever it came to, the ending goes on.
                return Judgement(kind, ())
            return Judgement(kind, flow.decider.choose(visit.task, outcome, applies))
