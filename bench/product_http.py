"""The product's works through HTTP, against a running API."""

import asyncio
import itertools
import json
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from bench import product_flows
from bench.http_load import Answer, Connection, connections, get, post
from bench.measuring import Measurement, WorkNotDone, sample
from bench.works import Shape, Work

CONNECTIONS = 64
WAIT_SECONDS = 30
WARM_UPS = 20
POLL_SECONDS = 0.005
"""How often it is asked whether all runs are finished."""

RUNNING = get("/flows?status=running&limit=1")


@dataclass(frozen=True, slots=True)
class HttpSide:
    """The client. Every call is one sample."""

    runner: asyncio.Runner
    port: int

    def measure(self, work: Work) -> Measurement:
        """One round of one of the works through HTTP."""
        try:
            match work.shape:
                case Shape.HTTP_SEQUENTIAL:
                    request = post(
                        f"/run-flow?wait={WAIT_SECONDS}", product_flows.sequential(work.size)
                    )
                    return self._exchanges(work, [request], HTTPStatus.OK)
                case Shape.HTTP_POST:
                    return self._posts(work)
                case Shape.HTTP_THROUGHPUT:
                    return self._throughput(work)
                case _:
                    raise ValueError(f"{work.name} is no work through HTTP")
        except TimeoutError:
            reason = f"not done within {work.budget_seconds:.0f} s"
        except (WorkNotDone, ConnectionError) as error:
            reason = str(error)
        return Measurement(work.name, reason=reason)

    def gets(self, work: Work, flow_run_ids: Sequence[str]) -> Measurement:
        """GET stored runs, chosen at random, one after another."""
        chosen = random.Random(work.size).choices(flow_run_ids, k=work.repetitions + WARM_UPS)
        return self._exchanges(work, [get(f"/flows/{each}") for each in chosen], HTTPStatus.OK)

    def _posts(self, work: Work) -> Measurement:
        request = post("/run-flow", product_flows.sequential(work.size))
        measurement = self._exchanges(work, [request], HTTPStatus.ACCEPTED)
        self._with_connections(1, lambda opened: _all_finished(opened[0]), work.budget_seconds)
        return measurement

    def _exchanges(self, work: Work, requests: Sequence[bytes], expected: int) -> Measurement:
        """One request after another on one connection, each a sample."""

        async def open_one() -> Connection:
            return await Connection.open(self.port)

        connection = self.runner.run(open_one())

        following = itertools.cycle(requests)

        def exchange(timeout_seconds: float) -> None:
            self.runner.run(_expect(connection, next(following), expected, timeout_seconds))

        try:
            for _ in range(WARM_UPS):
                exchange(work.budget_seconds)
            return Measurement(work.name, list(sample(work, exchange)))
        finally:
            connection.close()

    def _throughput(self, work: Work) -> Measurement:
        request = post("/run-flow", product_flows.sequential(work.size))

        def submit(flows: int, timeout_seconds: float) -> None:
            self._with_connections(
                CONNECTIONS,
                lambda opened: _submit_all(opened, request, flows),
                timeout_seconds,
            )

        submit(CONNECTIONS, work.budget_seconds)
        seconds = sample(work, lambda timeout_seconds: submit(work.flows, timeout_seconds))
        return Measurement(work.name, [work.flows / each for each in seconds])

    def _with_connections(
        self,
        count: int,
        use: Callable[[list[Connection]], Awaitable[None]],
        timeout_seconds: float,
    ) -> None:
        async def run() -> None:
            async with asyncio.timeout(timeout_seconds), connections(self.port, count) as opened:
                await use(opened)

        self.runner.run(run())


async def _submit_all(opened: list[Connection], request: bytes, flows: int) -> None:
    """Submit so many runs on all connections, and wait until none is running any more."""
    numbers = iter(range(flows))

    async def submit(connection: Connection) -> None:
        for _ in numbers:
            _check(await connection.exchange(request), HTTPStatus.ACCEPTED)

    await asyncio.gather(*(submit(connection) for connection in opened))
    await _all_finished(opened[0])


async def _all_finished(connection: Connection) -> None:
    while True:
        answer = await connection.exchange(RUNNING)
        _check(answer, HTTPStatus.OK)
        if not has_rows(answer):
            return
        await asyncio.sleep(POLL_SECONDS)


def has_rows(answer: Answer) -> bool:
    """Whether a page of a list holds anything."""
    document = json.loads(answer.body)
    rows = (
        document
        if isinstance(document, list)
        else next(value for value in document.values() if isinstance(value, list))
    )
    return bool(rows)


async def _expect(
    connection: Connection, request: bytes, expected: int, timeout_seconds: float
) -> None:
    async with asyncio.timeout(timeout_seconds):
        _check(await connection.exchange(request), expected)


def _check(answer: Answer, expected: int) -> None:
    if answer.status != expected:
        text = answer.body[:200].decode("utf-8", errors="replace")
        raise WorkNotDone(f"answered {answer.status} instead of {expected}: {text}")
