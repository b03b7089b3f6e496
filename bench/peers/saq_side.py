"""SAQ's side: a queue in Redis alone, the fastest one that was tried, and no flows.

What a user would write on top of it is written here with the fewest round trips: a step's job
enqueues the next one; a fork enqueues its steps' jobs and a counter in Redis, which each step
counts down, finds who starts the join; the last job pushes the run's id to a list on which
the submitter waits with a blocking pop (SAQ's own ``Queue.map`` and ``apply`` ask every half
a second). Nothing here is durable: Redis writes no file, and a killed worker loses its step
until SAQ's sweep.

Two worker processes of SAQ's own command line, with hiredis, and with uvloop, which SAQ does
not ask for and which gains it up to a third. Twenty jobs at a time each; 5, 10 (SAQ's default)
and 50 were no faster.
"""

import asyncio
import os
import sys
import uuid
from contextlib import ExitStack
from importlib.metadata import version
from typing import Any

import uvloop
from redis.asyncio import Redis
from saq import Queue

from bench.measuring import Plan, measure, write_measurement, write_versions
from bench.processes import end_on_sigterm, running, wait_until

REDIS_URL = os.environ.get("BENCH_REDIS_URL", "")
WORKERS = 2
CONCURRENCY = 20
DONE_SECONDS = 600
"""Redis forgets the keys of a run after it."""

Result = dict[str, Any]


def _no_operation() -> Result:
    return {"success": True, "data": {}}


async def step(context: dict[str, Any], *, run: str, done: str, left: int) -> Result:
    """One of several sequential steps: do it and enqueue the next, or tell the submitter."""
    queue = context["worker"].queue
    result = _no_operation()
    if left > 1:
        await queue.enqueue("step", run=run, done=done, left=left - 1)
    else:
        await queue.redis.rpush(done, run)
    return result


async def fork(context: dict[str, Any], *, run: str, done: str, width: int) -> Result:
    """Start the parallel steps."""
    queue = context["worker"].queue
    await queue.redis.set(f"left:{run}", width, ex=DONE_SECONDS)
    await asyncio.gather(
        *(queue.enqueue("parallel_step", run=run, done=done) for _ in range(width))
    )
    return _no_operation()


async def parallel_step(context: dict[str, Any], *, run: str, done: str) -> Result:
    """One of the parallel steps; the last one enqueues the join."""
    queue = context["worker"].queue
    result = _no_operation()
    if await queue.redis.decr(f"left:{run}") == 0:
        await queue.enqueue("join", run=run, done=done)
    return result


async def join(context: dict[str, Any], *, run: str, done: str) -> Result:
    """The step after the parallel ones."""
    await context["worker"].queue.redis.rpush(done, run)
    return _no_operation()


def settings() -> dict[str, Any]:
    """What ``python -m saq bench.peers.saq_side.settings`` runs."""
    # SAQ's command line makes its event loop after it has called this function.
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    return {
        "queue": Queue.from_url(REDIS_URL),
        "functions": [step, fork, parallel_step, join],
        "concurrency": CONCURRENCY,
    }


class SaqSide:
    """The submitter."""

    def __init__(self, runner: asyncio.Runner, redis_url: str) -> None:
        self._runner = runner
        self._redis = Redis.from_url(redis_url)
        self._queue = Queue.from_url(redis_url)

    def run_sequential(self, steps: int, timeout_seconds: float) -> None:
        """One run of ``steps`` steps."""
        self._runner.run(self._run("step", timeout_seconds, left=steps))

    def run_parallel(self, width: int, timeout_seconds: float) -> None:
        """One run with a fork of ``width``."""
        self._runner.run(self._run("fork", timeout_seconds, width=width))

    def run_many(self, flows: int, steps: int, timeout_seconds: float) -> None:
        """Enqueue the first steps of all runs, as many at a time as SAQ lets (20)."""
        self._runner.run(self._run_many(flows, steps, timeout_seconds))

    async def _run(self, function: str, timeout_seconds: float, **arguments: int) -> None:
        run = uuid.uuid4().hex
        async with asyncio.timeout(timeout_seconds):
            await self._queue.enqueue(function, run=run, done=f"done:{run}", **arguments)
            await self._redis.blpop([f"done:{run}"])

    async def _run_many(self, flows: int, steps: int, timeout_seconds: float) -> None:
        done = f"done:{uuid.uuid4().hex}"
        async with asyncio.timeout(timeout_seconds):
            submits = (
                self._queue.enqueue("step", run=str(number), done=done, left=steps)
                for number in range(flows)
            )
            await asyncio.gather(*submits)
            for _ in range(flows):
                await self._redis.blpop([done])

    def live_workers(self) -> int:
        """How many workers have reported themselves to the queue."""

        async def count() -> int:
            return len((await self._queue.info())["workers"])

        return self._runner.run(count())

    async def close(self) -> None:
        """Give the connections back."""
        await self._queue.disconnect()
        await self._redis.aclose()


def main() -> None:
    """Start the workers and measure."""
    end_on_sigterm()
    plan = Plan.from_arguments()
    assert plan.redis_url
    write_versions({name: version(name) for name in ("saq", "redis", "hiredis", "uvloop")})
    command = [sys.executable, "-m", "saq", f"{__spec__.name}.settings"]
    with ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
        for number in range(WORKERS):
            log = plan.path / f"saq-{number}.log"
            environment = {"BENCH_REDIS_URL": plan.redis_url}
            stack.enter_context(running(command, log=log, environment=environment))
        side = SaqSide(runner, plan.redis_url)
        wait_until(lambda: side.live_workers() == WORKERS, "SAQ's workers")
        for measurement in measure(side, plan.wanted()):
            write_measurement(measurement)
        runner.run(side.close())


if __name__ == "__main__":
    main()
