"""Answers that the simulation gives itself, and what an answer means."""

from shared.durations import format_duration
from shared.errors import ExpressionError
from shared.evaluation import told
from shared.simulation.values import Answer, Result
from shared.status import Outcome, Reason


def broken_off(error: ExpressionError, before: Answer | None = None) -> Answer:
    """An attempt whose expressions cannot be evaluated; ``before`` is what its task came to,
    where it had run."""
    content = None if before is None else before.content
    return Answer("error", content, told(error), Reason.EXPRESSION_FAILED)


def timed_out(seconds: float) -> Answer:
    """An attempt that takes longer than it may."""
    message = f"the attempt ran longer than its timeout of {format_duration(seconds)}"
    error = {"type": "TaskTimeout", "message": message, "traceback": None}
    return Answer("error", None, error, Reason.TIMED_OUT, seconds=seconds)


def is_success(answer: Answer) -> bool:
    """Whether it is a success, of an item also where it would have ended the run."""
    return answer.kind in ("success", "finish")


def result_of(answer: Answer, iteration: int) -> Result:
    """What later expressions see of a visit."""
    success = None if answer.error is not None else is_success(answer)
    return Result(success, answer.content, answer.error, iteration)


def outcome_of(answer: Answer) -> Outcome:
    """What the conditions are asked with."""
    match answer.kind:
        case "failure":
            return Outcome.FAILURE
        case "error":
            return Outcome.ERROR
        case _:
            return Outcome.SUCCESS
