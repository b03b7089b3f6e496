"""Whether an attempt that went wrong is followed by another one, and when.

Pure: the caller tells the attempt, the time that has passed and a random number, and gets a
decision as a value. Delays grow exponentially and are drawn at random between nothing and the
full delay ("full jitter"), which spreads clients that failed together; the AWS Architecture Blog
("Exponential Backoff And Jitter", 2015) measured it against the alternatives.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.durations import Duration, format_duration, parse_duration
from shared.errors import InvalidDuration

MAX_ATTEMPTS = 1_000
"""Every attempt is a row that stays; who wants more wants a loop."""

DEFAULT_MAX_DELAY_SECONDS = 60.0

FailureKind = Literal["error", "timeout", "failure"]


class RetryPolicy(BaseModel):
    """How often, and how far apart, a task is tried."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    max_attempts: Annotated[int, Field(ge=1, le=MAX_ATTEMPTS)] = 3
    """Attempts in all, the first one included."""
    delay: Duration = 1.0
    """Seconds before the second attempt."""
    backoff: Annotated[float, Field(ge=1, le=100, strict=False)] = 2.0
    """What the delay is multiplied by after each attempt."""
    max_delay: Duration = DEFAULT_MAX_DELAY_SECONDS
    """Seconds that the delay grows to; by default never less than ``delay``."""
    jitter: bool = True
    """Whether to draw the delay at random between 0 and its full length."""
    budget: Duration | None = None
    """Seconds from the first attempt's begin within which a last one may begin."""
    on: Annotated[tuple[FailureKind, ...], Field(strict=False, min_length=1)] = ("error", "timeout")
    """What is tried again. A failure is an answer, and not asked again unless told."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, value: object) -> object:
        """A plain number is ``max_attempts``; ``{"delay": "5m"}`` means five minutes, not the
        minute that would be the limit without being asked for."""
        if isinstance(value, int) and not isinstance(value, bool):
            return {"max_attempts": value}
        if not isinstance(value, dict) or "delay" not in value or "max_delay" in value:
            return value
        try:
            delay = parse_duration(value["delay"])
        except InvalidDuration:
            # Told by the field itself.
            return value
        return {**value, "max_delay": max(delay, DEFAULT_MAX_DELAY_SECONDS)}


@dataclass(frozen=True, slots=True)
class TryAgain:
    """Another attempt, after a while."""

    delay_seconds: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No further attempt."""

    why: str
    """A part of a sentence; empty where there was no policy to use up."""


def decide_retry(
    policy: RetryPolicy | None,
    *,
    failed_attempts: int,
    kind: FailureKind,
    elapsed_seconds: float,
    draw: float,
) -> TryAgain | GiveUp:
    """What follows an attempt that went wrong.

    ``failed_attempts`` counts it, ``elapsed_seconds`` is the time since the first attempt
    began, ``draw`` a random number from 0 up to 1.
    """
    if policy is None or policy.max_attempts == 1:
        return GiveUp("")
    if kind not in policy.on:
        return GiveUp(f"a {kind} is not tried again")
    if failed_attempts >= policy.max_attempts:
        return GiveUp(f"all {policy.max_attempts} attempts are used up")
    delay = _delay(policy, failed_attempts) * (draw if policy.jitter else 1.0)
    if policy.budget is not None and elapsed_seconds + delay > policy.budget:
        return GiveUp(f"its time for attempts ({format_duration(policy.budget)}) is used up")
    return TryAgain(delay)


def _delay(policy: RetryPolicy, failed_attempts: int) -> float:
    """Seconds of the full delay: ``min(max_delay, delay * backoff ** (failed_attempts - 1))``."""
    if policy.delay == 0:
        return 0.0
    try:
        grown = policy.delay * policy.backoff ** (failed_attempts - 1)
    except OverflowError:
        # Too large for a float is larger than any limit.
        return policy.max_delay
    return min(grown, policy.max_delay)
