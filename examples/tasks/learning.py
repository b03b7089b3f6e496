"""Tasks of ``ml-batch.json``: a nearest-centre classifier, small enough to be read.

Where a real one would load a framework, import it inside ``run`` or the function: the module is
imported by every process that must know its task types, and only the workers of the pool need it.
"""

from collections import defaultdict
from math import dist
from typing import Any

from pydantic import BaseModel

from flow_manager import task

Point = list[float]


class Example(BaseModel):
    """A point whose label is known."""

    label: str
    point: Point


@task("train")
def train(examples: list[Example]) -> dict[str, Any]:
    """Finds the centre of each label."""
    points: defaultdict[str, list[Point]] = defaultdict(list)
    for example in examples:
        points[example.label].append(example.point)
    centres = {
        label: [sum(axis) / len(axis) for axis in zip(*of_label, strict=True)]
        for label, of_label in points.items()
    }
    return {"success": bool(centres), "data": {"centres": centres}}


@task("cut")
async def cut(samples: list[Point], size: int) -> dict[str, Any]:
    """Cuts the samples into batches."""
    batches = [samples[start : start + size] for start in range(0, len(samples), size)]
    return {"success": True, "data": {"batches": batches}}


@task("predict")
def predict(centres: dict[str, Point], batch: list[Point]) -> dict[str, Any]:
    """Gives each sample the label of the nearest centre."""
    labels = [min(centres, key=lambda label: dist(centres[label], sample)) for sample in batch]
    return {"success": True, "data": {"labels": labels}}
