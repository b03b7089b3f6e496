"""What a whole run of the benchmark has found, and how it is summed up.

One value stands for a side's work: in each round the chosen quantile of its samples, over the
rounds the median. The rounds of all sides alternate, so that a machine that is slower for a
while is so for everybody.
"""

import json
import os
import platform
import statistics
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from bench.measuring import Measurement
from bench.works import Unit, Work


@dataclass(frozen=True, slots=True)
class Value:
    """A side's figure for a work, as it is shown, with the least and greatest round."""

    middle: float
    least: float
    greatest: float


def _machine() -> list[str]:
    """What the figures depend on. No name of a host and no path: the table is published."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return [
        datetime.now(UTC).date().isoformat(),
        f"{os.cpu_count()} cores",
        f"{memory / 2**30:.0f} GiB of memory",
        f"{platform.system()} {platform.machine()}",
        f"Python {platform.python_version()}",
    ]


@dataclass(slots=True)
class Results:
    """All samples of one run of the benchmark."""

    is_quick: bool = False
    machine: list[str] = field(default_factory=_machine)
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    """By side and package."""
    rounds: dict[str, dict[str, list[Measurement]]] = field(default_factory=dict)
    """By side and work, one entry a round."""

    def add(self, side: str, versions: dict[str, str], measurements: list[Measurement]) -> None:
        """Take up one round of one side."""
        self.versions.setdefault(side, {}).update(versions)
        works = self.rounds.setdefault(side, {})
        for measurement in measurements:
            works.setdefault(measurement.work, []).append(measurement)

    def value(self, side: str, work: Work) -> Value | None:
        """The side's figure, or ``None`` where no round gave one."""
        measured = self.rounds.get(side, {}).get(work.name, [])
        values = [_quantile(m.samples, work.quantile) for m in measured if m.samples]
        if not values:
            return None
        factor = work.unit.factor
        middle = statistics.median(values)
        return Value(middle * factor, min(values) * factor, max(values) * factor)

    def reason(self, side: str, work: Work) -> str | None:
        """Why there is no figure; ``None`` where there is one or where none was asked for."""
        measured = self.rounds.get(side, {}).get(work.name, [])
        if any(measurement.samples for measurement in measured):
            return None
        return next((m.reason for m in measured if m.reason), None)

    def ratio(self, side: str, reference: str, work: Work) -> float | None:
        """How many times the reference is better than the side: over 1 means it is."""
        mine, theirs = self.value(reference, work), self.value(side, work)
        if mine is None or theirs is None or not mine.middle or not theirs.middle:
            return None
        if work.unit is Unit.PER_SECOND:
            return mine.middle / theirs.middle
        return theirs.middle / mine.middle

    def save(self, path: Path) -> None:
        """Keep the raw samples."""
        path.write_text(json.dumps(asdict(self)), "utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        """The samples that were kept."""
        document = json.loads(path.read_text("utf-8"))
        rounds = {
            side: {work: [Measurement(**m) for m in found] for work, found in works.items()}
            for side, works in document.pop("rounds").items()
        }
        return cls(**document, rounds=rounds)


def _quantile(samples: list[float], quantile: float) -> float:
    """The sample below which that share of them lies; between two, the straight line."""
    ordered = sorted(samples)
    place = quantile * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
