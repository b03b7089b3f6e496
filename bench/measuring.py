"""How a side takes its samples, and how it hands them over.

A *side* is the product or a peer: it knows how to do each shape of work, and this module
calls it, keeps the budgets and writes one JSON document a line to standard output. A line is
written as soon as its work is measured, so that a side which has to be stopped loses only the
work at hand. Only the standard library is imported: the peers' interpreters run this file.
"""

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Protocol, Self

from bench.works import WORKS, Shape, Unit, Work, quick

WARM_UPS = 2
PROBE_FLOWS = 100
"""Runs in flight when a side is warmed up for its throughput, and at least when measured."""


class WorkNotDone(Exception):
    """The side cannot do this work; the message says why, for the table."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a side is asked to do. It comes as JSON on its command line."""

    works: tuple[str, ...]
    directory: str
    """Where the side may write; deleted afterwards."""
    redis_url: str | None = None
    """A Redis of its own, where the side needs one."""
    is_quick: bool = False

    def to_json(self) -> str:
        """The plan as it goes on the command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_arguments(cls) -> Self:
        """The plan that this process was started with."""
        document = json.loads(sys.argv[1])
        return cls(**{**document, "works": tuple(document["works"])})

    @property
    def path(self) -> Path:
        """The directory, for joining."""
        return Path(self.directory)

    def wanted(self) -> list[Work]:
        """The works to do, in the order of their list."""
        works = [WORKS[name] for name in WORKS if name in self.works]
        return [quick(work) for work in works] if self.is_quick else works


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one round gave for one work: samples, or the reason why there are none."""

    work: str
    samples: list[float] = field(default_factory=list)
    """In the base of the work's unit: seconds, a second, percent, bytes."""
    reason: str | None = None


def write_versions(versions: dict[str, str]) -> None:
    """Tell what is measured, before anything is."""
    print(json.dumps({"versions": versions}), flush=True)


def write_measurement(measurement: Measurement) -> None:
    """Hand over one measured work."""
    print(json.dumps(asdict(measurement)), flush=True)


def read_lines(lines: Iterable[str]) -> tuple[dict[str, str], list[Measurement]]:
    """What a side wrote; a last line that was cut off is left out."""
    versions: dict[str, str] = {}
    measurements: list[Measurement] = []
    for line in lines:
        try:
            document = json.loads(line)
        except json.JSONDecodeError:
            continue
        if "versions" in document:
            versions.update(document["versions"])
        else:
            measurements.append(Measurement(**document))
    return versions, measurements


class Side(Protocol):
    """Who does the common works. Every call returns when its result is known.

    A call that takes longer than ``timeout_seconds`` raises ``TimeoutError``, a work that
    this side cannot do at all raises :class:`WorkNotDone`.
    """

    def run_sequential(self, steps: int, timeout_seconds: float) -> None:
        """One run of ``steps`` steps, one after another."""

    def run_parallel(self, width: int, timeout_seconds: float) -> None:
        """One run of ``width`` steps at the same time and a join."""

    def run_many(self, flows: int, steps: int, timeout_seconds: float) -> None:
        """``flows`` runs of ``steps`` steps, submitted as fast as possible."""


def measure(side: Side, works: Iterable[Work]) -> Iterator[Measurement]:
    """Do each work as often as its budget allows."""
    pace: dict[Shape, float] = {}
    for work in works:
        seconds_each = pace.get(work.shape)
        if seconds_each is None:
            seconds_each = _warm_up(side, work)
        measurement = _measure_one(side, work, seconds_each)
        if measurement.samples and work.unit is Unit.SECONDS:
            pace[work.shape] = min(measurement.samples) / work.size
        yield measurement


def sample(work: Work, call: Callable[[float], None]) -> Iterator[float]:
    """The seconds of each call, at least one, as many as the budget of ``work`` allows."""
    deadline = time.monotonic() + work.budget_seconds
    for repetition in range(work.repetitions):
        left = deadline - time.monotonic()
        if repetition and left <= 0:
            return
        before = time.perf_counter()
        try:
            call(left)
        except TimeoutError:
            if repetition:
                return
            raise
        yield time.perf_counter() - before


def _warm_up(side: Side, work: Work) -> float | None:
    """Connections, caches, compiled code; the seconds of one unit of the work's size.

    What fails here fails again where it is measured, and is reported there.
    """
    probe = replace(work, flows=min(work.flows, PROBE_FLOWS), repetitions=WARM_UPS)
    try:
        seconds = list(sample(probe, _call(side, probe)))
    except (TimeoutError, WorkNotDone):
        return None
    return min(seconds) / (probe.flows if work.shape is Shape.THROUGHPUT else probe.size)


def _measure_one(side: Side, work: Work, seconds_each: float | None) -> Measurement:
    if work.shape is Shape.THROUGHPUT:
        work = _fit_flows(work, seconds_each)
    elif seconds_each and seconds_each * work.size > work.budget_seconds:
        reason = (
            f"would need some {seconds_each * work.size:,.0f} s at the pace of the smaller "
            f"work; its budget is {work.budget_seconds:.0f} s"
        )
        return Measurement(work.name, reason=reason)
    try:
        seconds = list(sample(work, _call(side, work)))
    except TimeoutError:
        return Measurement(work.name, reason=f"not done within {work.budget_seconds:.0f} s")
    except WorkNotDone as error:
        return Measurement(work.name, reason=str(error))
    if work.unit is Unit.PER_SECOND:
        return Measurement(work.name, [work.flows / each for each in seconds])
    return Measurement(work.name, seconds)


def _fit_flows(work: Work, seconds_each: float | None) -> Work:
    """The work with fewer runs, where a slow side could not do all of them in its budget.

    A rate needs enough runs in flight, not a certain number of them.
    """
    if not seconds_each:
        return work
    budget_each = work.budget_seconds / work.repetitions
    return replace(work, flows=max(PROBE_FLOWS, min(work.flows, int(budget_each / seconds_each))))


def _call(side: Side, work: Work) -> Callable[[float], None]:
    match work.shape:
        case Shape.SEQUENTIAL:
            return lambda timeout_seconds: side.run_sequential(work.size, timeout_seconds)
        case Shape.PARALLEL:
            return lambda timeout_seconds: side.run_parallel(work.size, timeout_seconds)
        case Shape.THROUGHPUT:
            return lambda timeout_seconds: side.run_many(work.flows, work.size, timeout_seconds)
        case _:
            raise ValueError(f"{work.name} is no common work")
