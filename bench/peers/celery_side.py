"""Celery's side: chains, and chords of a group, with Redis as broker and result backend.

A sequential run is a ``chain``, a parallel one a ``chord`` whose body is the join, and the
submitter waits for the last result as the documentation shows (``AsyncResult.get``, which
listens and does not poll). One worker with two prefork processes, which is how Celery is
scaled on two cores; gossip, mingle and events are off, as is usual for speed. Results are
kept as Celery ships it: every step's result is stored. There is no database, and the Redis
writes no file, so nothing here survives a crash of Redis; tasks are acknowledged early, so a
killed worker loses the steps it had.
"""

import os
import sys
import time
from importlib.metadata import version
from typing import Any

from celery import Celery, chain, chord, group
from celery.exceptions import TimeoutError as CeleryTimeoutError
from celery.result import AsyncResult

from bench.measuring import Plan, measure, write_measurement, write_versions
from bench.processes import end_on_sigterm, running, wait_until

PROCESSES = 2
REDIS_URL = os.environ.get("BENCH_REDIS_URL", "")

app = Celery("bench", broker=REDIS_URL, backend=REDIS_URL)
app.conf.update(broker_connection_retry_on_startup=True, worker_hijack_root_logger=False)


@app.task(name="step")
def step() -> dict[str, Any]:
    """The step that does nothing."""
    return {"success": True, "data": {}}


@app.task(name="join")
def join(results: list[dict[str, Any]]) -> dict[str, Any]:
    """The body of a chord, which gets the results of its header."""
    assert results
    return {"success": True, "data": {}}


class CelerySide:
    """The submitter."""

    def run_sequential(self, steps: int, timeout_seconds: float) -> None:
        """One chain."""
        _wait(_chain(steps).apply_async(), timeout_seconds)

    def run_parallel(self, width: int, timeout_seconds: float) -> None:
        """One chord; publishing its header is part of the submit."""
        header = group(step.si() for _ in range(width))
        _wait(chord(header)(join.s()), timeout_seconds)

    def run_many(self, flows: int, steps: int, timeout_seconds: float) -> None:
        """All chains are published, then all results are waited for."""
        deadline = time.monotonic() + timeout_seconds
        signature = _chain(steps)
        results = [signature.clone().apply_async() for _ in range(flows)]
        for result in results:
            _wait(result, deadline - time.monotonic())


def _chain(steps: int) -> Any:
    return chain(*(step.si() for _ in range(steps)))


def _wait(result: AsyncResult, timeout_seconds: float) -> None:
    try:
        result.get(timeout=max(timeout_seconds, 0.001))
    except CeleryTimeoutError as error:
        raise TimeoutError from error


def main() -> None:
    """Start the worker and measure."""
    end_on_sigterm()
    plan = Plan.from_arguments()
    assert plan.redis_url
    app.conf.update(broker_url=plan.redis_url, result_backend=plan.redis_url)
    write_versions({name: version(name) for name in ("celery", "kombu", "redis", "hiredis")})
    command = [sys.executable, "-m", "celery", "--app", __spec__.name, "worker"]
    command += ["--pool", "prefork", "--concurrency", str(PROCESSES), "--loglevel", "WARNING"]
    command += ["--without-gossip", "--without-mingle"]
    environment = {"BENCH_REDIS_URL": plan.redis_url}
    with running(command, log=plan.path / "celery.log", environment=environment):
        wait_until(lambda: bool(app.control.ping(timeout=0.5)), "Celery's worker")
        for measurement in measure(CelerySide(), plan.wanted()):
            write_measurement(measurement)


if __name__ == "__main__":
    main()
