"""Whether an attempt that went wrong is followed by another: policies, and every decision."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.definition import TaskDefinition
from shared.retry import (
    MAX_ATTEMPTS,
    FailureKind,
    GiveUp,
    RetryPolicy,
    TryAgain,
    decide_retry,
)

KINDS = st.sampled_from(["error", "timeout", "failure"])
DRAWS = st.floats(0, 1, exclude_max=True)
POLICIES = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, MAX_ATTEMPTS),
    delay=st.floats(0, 100_000),
    backoff=st.floats(1, 100),
    max_delay=st.floats(0, 100_000),
    jitter=st.booleans(),
    budget=st.none() | st.floats(0, 100_000),
    on=st.lists(KINDS, min_size=1).map(tuple),
)


def _decide(
    policy: RetryPolicy | None,
    failed_attempts: int = 1,
    kind: FailureKind = "error",
    elapsed_seconds: float = 0.0,
    draw: float = 0.5,
) -> TryAgain | GiveUp:
    return decide_retry(
        policy,
        failed_attempts=failed_attempts,
        kind=kind,
        elapsed_seconds=elapsed_seconds,
        draw=draw,
    )


def test_a_number_is_the_attempts() -> None:
    assert RetryPolicy.model_validate(5) == RetryPolicy(max_attempts=5)


def test_an_object_is_read_with_durations_as_text() -> None:
    policy = RetryPolicy.model_validate(
        {
            "max_attempts": 5,
            "delay": "500ms",
            "backoff": 3,
            "max_delay": "1m",
            "jitter": False,
            "budget": "10m",
            "on": ["error", "failure"],
        }
    )
    assert policy == RetryPolicy(
        max_attempts=5,
        delay=0.5,
        backoff=3.0,
        max_delay=60.0,
        jitter=False,
        budget=600.0,
        on=("error", "failure"),
    )


def test_a_task_holds_its_policy_or_none() -> None:
    task = TaskDefinition.model_validate({"name": "a", "retry": 2})
    assert task.retry == RetryPolicy(max_attempts=2)
    assert TaskDefinition.model_validate({"name": "a"}).retry is None


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (0, "max_attempts"),
        (-1, "max_attempts"),
        (MAX_ATTEMPTS + 1, "max_attempts"),
        ({"max_attempts": 1.5}, "max_attempts"),
        ({"max_attempts": "3"}, "max_attempts"),
        ({"max_attempts": True}, "max_attempts"),
        ({"delay": -1}, "delay"),
        ({"delay": "soon"}, "delay"),
        ({"delay": math.nan}, "delay"),
        ({"max_delay": "11y"}, "max_delay"),
        ({"backoff": 0.5}, "backoff"),
        ({"backoff": 101}, "backoff"),
        ({"backoff": math.nan}, "backoff"),
        ({"jitter": "yes"}, "jitter"),
        ({"budget": -1}, "budget"),
        ({"on": []}, "on"),
        ({"on": ["panic"]}, "on"),
        ({"max_atempts": 3}, "max_atempts"),
    ],
)
def test_what_is_no_policy_is_refused_at_its_place(value: Any, place: str) -> None:
    with pytest.raises(ValidationError) as refused:
        RetryPolicy.model_validate(value)
    assert {error["loc"][0] for error in refused.value.errors()} == {place}


@pytest.mark.parametrize("value", [True, False, 2.0, "3", [], None])
def test_only_a_number_or_an_object_is_a_policy(value: object) -> None:
    with pytest.raises(ValidationError):
        RetryPolicy.model_validate(value)


@pytest.mark.parametrize(("delay", "longest"), [(1, 60.0), ("5m", 300.0)])
def test_a_first_delay_is_never_cut_by_a_limit_that_nobody_gave(
    delay: float | str, longest: float
) -> None:
    policy = RetryPolicy.model_validate({"delay": delay, "jitter": False})
    assert policy.max_delay == longest
    assert RetryPolicy.model_validate(policy.model_dump()) == policy


def test_delays_grow_to_their_limit() -> None:
    policy = RetryPolicy(max_attempts=9, delay=1.0, backoff=2.0, max_delay=10.0, jitter=False)
    delays = [_decide(policy, attempt) for attempt in range(1, 7)]
    assert delays == [TryAgain(seconds) for seconds in (1.0, 2.0, 4.0, 8.0, 10.0, 10.0)]


def test_a_slow_growth_goes_on_to_the_last_attempt() -> None:
    policy = RetryPolicy(max_attempts=1000, delay=1.0, backoff=1.001, jitter=False)
    decision = _decide(policy, 999)
    assert isinstance(decision, TryAgain)
    assert decision.delay_seconds == pytest.approx(1.001**998)


@pytest.mark.parametrize(
    ("policy", "kind", "failed_attempts", "why"),
    [
        (None, "error", 1, ""),
        (RetryPolicy(max_attempts=1), "error", 1, ""),
        (RetryPolicy(max_attempts=3), "error", 3, "all 3 attempts are used up"),
        (RetryPolicy(max_attempts=3), "error", 10**9, "all 3 attempts are used up"),
        (RetryPolicy(max_attempts=3), "failure", 1, "a failure is not tried again"),
        (
            RetryPolicy(max_attempts=3, budget=90.0),
            "timeout",
            1,
            "its time for attempts (1 min 30 s) is used up",
        ),
    ],
)
def test_giving_up_says_why(
    policy: RetryPolicy | None, kind: FailureKind, failed_attempts: int, why: str
) -> None:
    assert _decide(policy, failed_attempts, kind, elapsed_seconds=90.0) == GiveUp(why)


def test_an_attempt_that_would_begin_after_the_budget_is_not_waited_for() -> None:
    policy = RetryPolicy(max_attempts=9, delay=10.0, budget=60.0, jitter=False)
    assert _decide(policy, elapsed_seconds=50.0) == TryAgain(10.0)
    assert isinstance(_decide(policy, elapsed_seconds=50.1), GiveUp)


@given(POLICIES, st.integers(1, 10**6), KINDS, st.floats(0, 10**9), DRAWS)
def test_every_decision_keeps_to_the_policy(
    policy: RetryPolicy, failed_attempts: int, kind: FailureKind, elapsed: float, draw: float
) -> None:
    decision = _decide(policy, failed_attempts, kind, elapsed, draw)
    if isinstance(decision, GiveUp):
        assert bool(decision.why) is (policy.max_attempts > 1)
        return
    assert failed_attempts < policy.max_attempts
    assert kind in policy.on
    assert 0 <= decision.delay_seconds <= policy.max_delay
    assert policy.budget is None or elapsed + decision.delay_seconds <= policy.budget


@given(POLICIES, st.integers(1, MAX_ATTEMPTS), DRAWS)
def test_full_delays_never_shrink_and_a_draw_takes_its_part_of_them(
    policy: RetryPolicy, failed_attempts: int, draw: float
) -> None:
    free = policy.model_copy(update={"max_attempts": 2000, "budget": None, "on": ("error",)})
    certain = free.model_copy(update={"jitter": False})
    full = [_decide(certain, failed_attempts + more) for more in (0, 1)]
    assert isinstance(full[0], TryAgain)
    assert isinstance(full[1], TryAgain)
    assert full[0].delay_seconds <= full[1].delay_seconds
    drawn = _decide(free.model_copy(update={"jitter": True}), failed_attempts, draw=draw)
    assert drawn == TryAgain(full[0].delay_seconds * draw)
