"""Why a run stands still: facts in, one true sentence for each reason out.

One frozen dataclass of ``shared.standing`` holds the facts of one reason, one function here
makes its sentence. A further reason is a further pair of them, and a line in :func:`explain`.
Nothing here reads a clock or a database: ``shared.queries.explain`` brings the facts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias, assert_never

from shared.durations import format_duration
from shared.standing import (
    AtJoin,
    Fact,
    ForItems,
    ForRun,
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
from shared.status import RunStatus
from shared.times import iso_time

Plain: TypeAlias = str | int | float | bool | list[str] | list[dict[str, str]] | None

NAMED = 10
"""Branches that one sentence names; of more it tells the number."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something does not move."""

    code: str
    branch: str | None
    task: str | None
    message: str
    data: dict[str, Plain]


def explain(fact: Fact) -> Reason:  # noqa: C901 - one line for each kind of fact
    """The sentence for one fact."""
    match fact:
        case Ready():
            return ready(fact)
        case Running():
            return running(fact)
        case Sleeping():
            return sleeping(fact)
        case Retrying():
            return retrying(fact)
        case ForSignal():
            return for_signal(fact)
        case ForItems():
            return for_items(fact)
        case ForRun():
            return for_run(fact)
        case HeldBack():
            return held_back(fact)
        case InLine():
            return in_line(fact)
        case AtJoin():
            return at_join(fact)
        case InEnding():
            return in_ending(fact)
        case Over():
            return over(fact)
        case JoinNotRun():
            return join_not_run(fact)
    assert_never(fact)


def summary(status: RunStatus, reasons: Sequence[Reason], more: int) -> str:
    """One sentence for the whole run."""
    if status is not RunStatus.RUNNING or (len(reasons) == 1 and not more):
        return reasons[0].message if reasons else f"The run is {status}."
    if reasons and reasons[0].code == "in_ending":
        return reasons[0].message
    total = len(reasons) + more
    moving = sum(reason.code == "running" for reason in reasons)
    return (
        f"The run has {_count(total, 'open branch', 'open branches')}; of the "
        f"{len(reasons)} told here, {moving} {'is' if moving == 1 else 'are'} being run."
    )


def ready(fact: Ready) -> Reason:
    """It needs a worker: there is none, none that can, or all of them are busy."""
    here = f"Branch {fact.place.branch} is ready to run {fact.place.task}"
    if not fact.queue_workers:
        code, why = "no_worker", f"but no live worker serves queue {fact.queue}."
    elif not fact.able_workers:
        code = "no_worker_for_type"
        why = f"but no live worker of queue {fact.queue} runs task type {fact.task_type}."
    elif fact.losses and fact.losses >= fact.max_losses - 1:
        code = "tried_alone"
        why = (
            f"but {_count(fact.losses, 'worker')} of at most {fact.max_losses} were lost while "
            "they ran it: it is tried alone, by a worker that runs nothing else."
        )
    else:
        code = "waits_for_slot"
        why = (
            f"and waits for a slot behind {_count(fact.ahead, 'other branch', 'other branches')} "
            f"on queue {fact.queue}, which {_count(fact.queue_workers, 'live worker')} with "
            f"{_count(fact.queue_slots, 'slot')} in all "
            f"{'serves' if fact.queue_workers == 1 else 'serve'}."
        )
    data: dict[str, Plain] = {
        "queue": fact.queue,
        "task_type": fact.task_type,
        "ahead": fact.ahead,
        "workers": fact.queue_workers,
        "slots": fact.queue_slots,
        "workers_of_type": fact.able_workers,
        "losses": fact.losses,
        "max_losses": fact.max_losses,
    }
    joint = " " if code == "waits_for_slot" else ", "
    return _reason(code, fact.place, f"{here}{joint}{why}", data)


def running(fact: Running) -> Reason:
    """A worker runs it, or has fallen silent."""
    since = "" if fact.since is None else f" since {iso_time(fact.since)}"
    who = f"worker {fact.worker} on {fact.host}"
    data: dict[str, Plain] = {
        "worker": fact.worker,
        "host": fact.host,
        "since": None if fact.since is None else iso_time(fact.since),
        "silent_seconds": round(fact.silent_seconds, 3),
        "rescue_seconds": round(max(fact.rescue_seconds, 0.0), 3),
    }
    message = f"Branch {fact.place.branch} runs {fact.place.task} on {who}{since}."
    if not fact.is_late:
        return _reason("running", fact.place, message, data)
    due = "is due" if fact.rescue_seconds <= 0 else f"is due in {_seconds(fact.rescue_seconds)}"
    message = (
        f"Branch {fact.place.branch} is held at {fact.place.task} by {who}, which has been silent "
        f"for {_seconds(fact.silent_seconds)}; its rescue {due}."
    )
    return _reason("worker_silent", fact.place, message, data)


def sleeping(fact: Sleeping) -> Reason:
    """It asked for a pause."""
    message = (
        f"Branch {fact.place.branch} sleeps in {fact.place.task} until {iso_time(fact.wake_at)}, "
        f"{_ahead(fact.seconds)}."
    )
    data: dict[str, Plain] = _until(fact.wake_at, fact.seconds)
    return _reason("sleeps", fact.place, message, data)


def retrying(fact: Retrying) -> Reason:
    """An attempt went wrong, and the next one is not due."""
    message = (
        f"Branch {fact.place.branch} waits for attempt {fact.attempt} of {fact.max_attempts} of "
        f"{fact.place.task}, {_ahead(fact.seconds)}."
    )
    data = _until(fact.wake_at, fact.seconds)
    data |= {"attempt": fact.attempt, "max_attempts": fact.max_attempts}
    return _reason("waits_for_attempt", fact.place, message, data)


def for_signal(fact: ForSignal) -> Reason:
    """Somebody has to send a signal."""
    message = f"Branch {fact.place.branch} waits in {fact.place.task} for signal {fact.signal}"
    data: dict[str, Plain] = {"wake_at": None, "seconds": None}
    if fact.wake_at is not None and fact.seconds is not None:
        message += f" until {iso_time(fact.wake_at)}, {_ahead(fact.seconds)}"
        data = _until(fact.wake_at, fact.seconds)
    data["signal"] = fact.signal
    return _reason("waits_for_signal", fact.place, f"{message}.", data)


def for_items(fact: ForItems) -> Reason:
    """The items of its list are not all over."""
    failed = f"; {fact.failed} failed" if fact.failed else ""
    message = (
        f"Branch {fact.place.branch} waits in {fact.place.task} for {fact.left} of "
        f"{_count(fact.count, 'item')}{failed}."
    )
    data: dict[str, Plain] = {"items": fact.count, "left": fact.left, "failed": fact.failed}
    return _reason("waits_for_items", fact.place, message, data)


def for_run(fact: ForRun) -> Reason:
    """The run of its sub-flow is not over, or its end has just been told."""
    message = (
        f"Branch {fact.place.branch} waits in {fact.place.task} for run {fact.flow_run_id} of "
        f"flow {fact.flow_id}, which is {fact.status}."
    )
    data: dict[str, Plain] = {
        "flow_run_id": fact.flow_run_id,
        "flow_id": fact.flow_id,
        "status": fact.status.value,
    }
    return _reason("waits_for_run", fact.place, message, data)


def held_back(fact: HeldBack) -> Reason:
    """As many items of its list run as may at a time."""
    message = f"Branch {fact.place.branch} waits until another item of {fact.place.task} is over"
    if fact.concurrency is not None:
        message += f": at most {fact.concurrency} run at a time"
    data: dict[str, Plain] = {"concurrency": fact.concurrency}
    return _reason("item_held_back", fact.place, f"{message}.", data)


def in_line(fact: InLine) -> Reason:
    """Others have the places under its key, or its rate is used up."""
    if fact.is_run:
        code, what = "waits_for_run", "The run has not begun: it waits under concurrency key"
    else:
        code = "waits_for_limit"
        what = f"Branch {fact.place.branch} waits to run {fact.place.task} under limit"
    bounds = []
    if fact.concurrency is not None:
        bounds.append(f"{fact.in_use} of {_count(fact.concurrency, 'place')} in use")
    if fact.rate is not None:
        per = format_duration(fact.rate.per_seconds)
        ahead = "" if fact.next_seconds is None else f", the next {_ahead(fact.next_seconds)}"
        bounds.append(f"at most {_count(fact.rate.count, 'start')} in {per}{ahead}")
    message = f"{what} {fact.key or '(empty)'}: {', '.join(bounds)}; "
    message += "it is next" if not fact.ahead else f"{fact.ahead} before it"
    if fact.holders:
        held = ", ".join(fact.holders)
        message += f"; held by {'run' if len(fact.holders) == 1 else 'runs'} {held}"
    data: dict[str, Plain] = {
        "key": fact.key,
        "ahead": fact.ahead,
        "in_use": fact.in_use,
        "concurrency": fact.concurrency,
        "rate_count": None if fact.rate is None else fact.rate.count,
        "rate_seconds": None if fact.rate is None else fact.rate.per_seconds,
        "next_seconds": None if fact.next_seconds is None else round(max(fact.next_seconds, 0), 3),
        "held_by": list(fact.holders),
    }
    return _reason(code, fact.place, f"{message}.", data)


def at_join(fact: AtJoin) -> Reason:
    """Others can still come to the join."""
    message = f"Branch {fact.place.branch} waits at join {fact.place.task}"
    if fact.needed is not None:
        message += f", which goes on with {_count(fact.needed, 'arrival')},"
    message += f" for {_places(fact.waits_for)}" if fact.waits_for else " to be decided"
    if fact.missed:
        message += f"; {_count(fact.missed, 'branch', 'branches')} missed it"
    data: dict[str, Plain] = {
        "waits_for": _listed(fact.waits_for),
        "waits_for_count": len(fact.waits_for),
        "arrived": fact.arrived,
        "missed": fact.missed,
        "needed": fact.needed,
    }
    return _reason("waits_at_join", fact.place, f"{message}.", data)


def in_ending(fact: InEnding) -> Reason:
    """Something is done before the run is over."""
    message = f"The run is in its ending and will then be {fact.status}"
    if fact.outcome is not None:
        message += f" with {fact.outcome}"
    if fact.error_type is not None:
        message += f" with {fact.error_type}"
    if fact.left:
        message += f"; {_count(fact.left, 'more compensation')} to run"
    if fact.last is not None:
        message += f"; {fact.last} runs last"
    if fact.failed:
        message += f"; {_count(fact.failed, 'compensation')} failed"
    data: dict[str, Plain] = {
        "status": fact.status.value,
        "outcome": None if fact.outcome is None else fact.outcome.value,
        "left": fact.left,
        "failed": fact.failed,
        "last": fact.last,
    }
    return Reason("in_ending", None, None, f"{message}.", data)


def over(fact: Over) -> Reason:
    """Nothing of the run moves any more."""
    when = "" if fact.finished_at is None else f" at {iso_time(fact.finished_at)}"
    message = f"The run is over: it was {fact.status}{when}"
    if fact.status is RunStatus.COMPLETED:
        message = f"The run is over: it completed with {fact.outcome}{when}"
    elif fact.status is RunStatus.FAILED:
        place = "" if fact.task is None else f" at {fact.task}"
        message = f"The run is over: it failed{place}{when}"
        if fact.error_type is not None:
            message += f" with {fact.error_type}: {fact.error or ''}".rstrip(": ")
    data: dict[str, Plain] = {
        "status": fact.status.value,
        "outcome": None if fact.outcome is None else fact.outcome.value,
        "finished_at": None if fact.finished_at is None else iso_time(fact.finished_at),
        "error_type": fact.error_type,
    }
    return Reason("over", None, fact.task, f"{message.rstrip('.')}.", data)


def join_not_run(fact: JoinNotRun) -> Reason:
    """Why a join did not run, as far as the tables tell."""
    message = f"Join {fact.task} did not run: "
    missed = f"it was missed by {_places(fact.missed_by)}" if fact.missed_by else ""
    if fact.why == "stopped":
        message += "the run ended before it was decided"
    elif fact.why == "missed":
        message += f"{missed}, which did not succeed" if missed else "too few branches came to it"
    else:
        needed = "more arrivals" if fact.needed is None else _count(fact.needed, "arrival")
        message += f"it goes on with {needed}, and nobody else could come"
        message += f"; {missed}" if missed else ""
    if fact.arrived:
        message += f"; {_count(fact.arrived, 'branch', 'branches')} waited at it"
    data: dict[str, Plain] = {
        "why": fact.why,
        "arrived": fact.arrived,
        "missed_by": _listed(fact.missed_by),
        "needed": fact.needed,
    }
    return Reason("join_not_run", None, fact.task, f"{message}.", data)


def _reason(code: str, place: Place, message: str, data: dict[str, Plain]) -> Reason:
    return Reason(code, place.branch, place.task, message, data)


def _until(at: datetime, seconds: float) -> dict[str, Plain]:
    return {"wake_at": iso_time(at), "seconds": round(max(seconds, 0.0), 3)}


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _seconds(seconds: float) -> str:
    return format_duration(round(seconds, 1))


def _ahead(seconds: float) -> str:
    return "due now" if seconds < 0.05 else f"in {_seconds(seconds)}"


def _listed(places: Sequence[Place]) -> list[dict[str, str]]:
    return [{"branch": place.branch, "task": place.task} for place in places[:NAMED]]


def _places(places: Sequence[Place]) -> str:
    named = [f"{place.task} (branch {place.branch})" for place in places[:NAMED]]
    if len(places) > NAMED:
        named.append(f"{len(places) - NAMED} more")
    if len(named) == 1:
        return named[0]
    return f"{', '.join(named[:-1])} and {named[-1]}"
