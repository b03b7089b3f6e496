"""What an attempt's result means for its branch: over, or tried again, and where it leads.

The rules are the core's (``shared.retry``, ``shared.routing``); here they are asked with what
only a worker knows: the time, a random number, and what the conditions' expressions say.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from shared.decider import Targets
from shared.flow import Flow
from shared.retry import FailureKind, TryAgain, decide_retry
from shared.routing import Applies
from shared.status import Outcome, Reason
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
            is_own = visit.parent_id is not None or visit.is_ending
            return Judgement("success", ()) if is_own else Judgement("finish")
        case "success":
            return Judgement("success", flow.decider.choose(visit.task, Outcome.SUCCESS, applies))
        case "failure" | "error" as kind:
            delay = None
            if may_retry:
                delay = _delay_before_next(flow, visit, kind, result.reason, elapsed_seconds)
            if delay is not None:
                return Judgement("retry", wake_at=datetime.now(UTC) + timedelta(seconds=delay))
            outcome = Outcome.FAILURE if kind == "failure" else Outcome.ERROR
            if visit.is_ending:
                # No condition is asked: whatever it came to, the ending goes on.
                return Judgement(kind, ())
            return Judgement(kind, flow.decider.choose(visit.task, outcome, applies))


def _delay_before_next(
    flow: Flow,
    visit: Visit,
    kind: Literal["failure", "error"],
    reason: str | None,
    elapsed_seconds: float,
) -> float | None:
    """Seconds until the next attempt; None where there is none."""
    policy = flow.tasks[visit.task].retry
    if policy is None or reason == Reason.EXPRESSION_FAILED:
        # The same expression says the same again.
        return None
    what: FailureKind = "timeout" if reason == Reason.TIMED_OUT else kind
    decision = decide_retry(
        policy,
        failed_attempts=visit.failed_attempts + 1,
        kind=what,
        elapsed_seconds=elapsed_seconds,
        draw=random.random(),
    )
    return decision.delay_seconds if isinstance(decision, TryAgain) else None
