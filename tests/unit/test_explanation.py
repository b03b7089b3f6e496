"""The sentences of an explanation."""

from datetime import UTC, datetime

import pytest

from shared.durations import Rate
from shared.explanation import explain
from shared.standing import (
    AtJoin,
    Fact,
    ForItems,
    ForSignal,
    HeldBack,
    InEnding,
    InLine,
    JoinNotRun,
    Over,
    Place,
    Ready,
    Retrying,
    Running,
    Sleeping,
)
from shared.status import Outcome, RunStatus

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SCAN = Place("main/split:scan", "scan")


def _ready(**facts: int) -> Ready:
    known = {"ahead": 2, "queue_workers": 1, "queue_slots": 4, "able_workers": 1}
    known |= {"losses": 0, "max_losses": 3} | facts
    return Ready(place=SCAN, task_type="scanner", queue="default", **known)


def _running(*, silent: float, rescue: float, late: bool) -> Running:
    return Running(SCAN, "w1", "host", AT, silent, rescue, late)


@pytest.mark.parametrize(
    ("fact", "code", "told"),
    [
        (_ready(), "waits_for_slot", "behind 2 other branches on queue default"),
        (_ready(queue_workers=0), "no_worker", "no live worker serves queue default"),
        (_ready(able_workers=0), "no_worker_for_type", "runs task type scanner"),
        (_ready(losses=2), "tried_alone", "2 workers of at most 3 were lost"),
        (_running(silent=0, rescue=4, late=False), "running", "on worker w1 on host since"),
        (_running(silent=3, rescue=1, late=True), "worker_silent", "rescue is due in 1 s"),
        (_running(silent=9, rescue=-5, late=True), "worker_silent", "its rescue is due."),
        (Sleeping(SCAN, AT, 4.0), "sleeps", "in scan until 2026-01-02T03:04:05.000000Z, in 4 s"),
        (
            Retrying(SCAN, 2, 3, AT, 4.0),
            "waits_for_attempt",
            "Branch main/split:scan waits for attempt 2 of 3 of scan, in 4 s.",
        ),
        (ForSignal(SCAN, "yes", None, None), "waits_for_signal", "for signal yes."),
        (ForSignal(SCAN, "yes", AT, 0.0), "waits_for_signal", "until 2026"),
        (ForItems(SCAN, 5, 2, 1), "waits_for_items", "for 2 of 5 items; 1 failed."),
        (
            InLine(SCAN, "k", 1, 2, 2, None, None, ["r1", "r2"], is_run=False),
            "waits_for_limit",
            "waits to run scan under limit k: 2 of 2 places in use; 1 before it; held by runs r1, ",
        ),
        (
            InLine(SCAN, "", 0, 0, None, Rate(5, 60.0), 3.0, [], is_run=False),
            "waits_for_limit",
            "under limit (empty): at most 5 starts in 1 min, the next in 3 s; it is next.",
        ),
        (
            InLine(SCAN, "k", 0, 1, 1, None, None, ["r1"], is_run=True),
            "waits_for_run",
            "The run has not begun: it waits under concurrency key k: 1 of 1 place in use; it is "
            "next; held by run r1.",
        ),
        (HeldBack(SCAN, 2), "item_held_back", "at most 2 run at a time"),
        (AtJoin(SCAN, [SCAN], 1, 1, None), "waits_at_join", "for scan (branch main/split:scan);"),
        (AtJoin(SCAN, [SCAN] * 12, 1, 0, 2), "waits_at_join", "and 2 more."),
        (
            InEnding(RunStatus.COMPLETED, Outcome.FAILURE, None, 1, 0, "tidy"),
            "in_ending",
            "be completed with failure; 1 more compensation to run; tidy runs last.",
        ),
        (
            InEnding(RunStatus.FAILED, None, "CompensationFailed", 2, 1, None),
            "in_ending",
            "with CompensationFailed; 2 more compensations to run; 1 compensation failed.",
        ),
        (Over(RunStatus.COMPLETED, Outcome.SUCCESS, AT, None, None, None), "over", "success"),
        (Over(RunStatus.FAILED, None, AT, "scan", "E", "no"), "over", "at scan at 2026"),
        (Over(RunStatus.CANCELLED, None, AT, None, None, None), "over", "was cancelled"),
        (JoinNotRun("publish", 1, [SCAN], "missed"), "join_not_run", "missed by scan"),
        (JoinNotRun("publish", 1, [], "missed"), "join_not_run", "too few branches came"),
        (JoinNotRun("publish", 1, [], "stopped"), "join_not_run", "ended before it was decided"),
        (
            JoinNotRun("publish", 1, [SCAN], "unmet", 2),
            "join_not_run",
            "goes on with 2 arrivals, and nobody else could come; it was missed by scan",
        ),
    ],
)
def test_every_fact_has_its_sentence(fact: Fact, code: str, told: str) -> None:
    reason = explain(fact)
    assert reason.code == code
    assert told in reason.message
    assert reason.message.endswith(".")
