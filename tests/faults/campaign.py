"""``python -m tests.faults.campaign``: faults at random under load, then the six invariants.

Seeded and bounded in time. Workers and the API are killed (kill -9) and replaced, workers are
stopped (SIGTERM), paused and resumed, Redis is flushed and restarted, and on PostgreSQL every
connection is cut.
The result, with the command and the seed, goes to ``docs/chaos.md``.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from shared.errors import DatabaseUnavailable
from shared.ids import FlowRunId, new_id
from tests.faults.flows import chain, diamond, in_turn, mapped, saga
from tests.faults.harness import Cluster, Process
from tests.faults.report import Result, write_report
from tests.faults.restartable import Restartable, restartable_server
from tests.servers import Valkey

UNDER_WAY = 40
"""Runs that are kept going."""
SHAPES = (
    chain(5, 0.05),
    chain(2, 0.5),
    diamond(5, 0.1),
    diamond(20),
    saga(0.1),
    mapped(6, 0.1),
    in_turn(0.05),
)
FAULTS = {
    "kill worker": 60,
    "stop worker": 10,
    "pause worker": 15,
    "kill API": 10,
    "flush Redis": 10,
    "restart Redis": 5,
    "cut connections": 5,
}
QUIET_SECONDS = 60.0
"""What the last runs are given to end once the faults are over."""


@dataclass(slots=True)
class Campaign:
    """One campaign on one database."""

    cluster: Cluster
    valkey: Valkey
    dice: random.Random
    server: Restartable | None
    """Where the database is on PostgreSQL."""
    workers: list[Process] = field(default_factory=list)
    api: Process | None = None
    counts: Counter[str] = field(default_factory=Counter)
    killed_at: dict[int, float] = field(default_factory=dict)
    resumes: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self, seconds: float, workers: int) -> None:
        """Hurt everything for so long, then let it come to rest."""
        self.workers = await self.cluster.start_workers(workers)
        self.api = await self.cluster.start_api()
        until = time.monotonic() + seconds
        load = [asyncio.create_task(self._post_until(until)) for _ in range(UNDER_WAY // 4)]
        while time.monotonic() < until:
            await asyncio.sleep(self.dice.uniform(0.5, 2.5))
            with suppress(DatabaseUnavailable):
                self.cluster.look_closely()
            await self._hurt()
        await asyncio.gather(*load, *self.resumes)
        await self.cluster.all_ended(QUIET_SECONDS)

    async def _hurt(self) -> None:
        names = [name for name in FAULTS if name != "cut connections" or self.server]
        fault = self.dice.choices(names, [FAULTS[name] for name in names])[0]
        self.counts[fault] += 1
        match fault:
            case "kill worker":
                number = self.dice.randrange(len(self.workers))
                victim = self.workers[number]
                self.killed_at[victim.pid] = victim.kill()
                self.workers[number] = self.cluster.start_worker()
            case "stop worker":
                number = self.dice.randrange(len(self.workers))
                self.workers[number].terminate()
                self.workers[number] = self.cluster.start_worker()
            case "pause worker":
                await self._pause(self.dice.choice(self.workers))
            case "kill API":
                assert self.api is not None
                self.api.kill()
                self.api = self.cluster.launch_api()
            case "flush Redis":
                self.valkey.flush()
            case "restart Redis":
                self.valkey.restart()
            case "cut connections":
                assert self.server is not None
                await asyncio.to_thread(self.server.cut_connections)

    async def _pause(self, worker: Process) -> None:
        lease = self.cluster.settings.lease_seconds
        seconds = self.dice.uniform(0.0, 2 * lease)

        async def resume() -> None:
            await asyncio.sleep(seconds)
            if worker.is_alive:
                worker.resume()

        await self.cluster.pause(worker)
        task = asyncio.create_task(resume())
        self.resumes.add(task)
        task.add_done_callback(self.resumes.discard)

    async def _post_until(self, until: float) -> None:
        """One client: submit, four runs at a time, each as often as it takes."""
        async with httpx2.AsyncClient(trust_env=False, timeout=10) as client:
            while time.monotonic() < until:
                flow = self.dice.choice(SHAPES)
                await asyncio.gather(*(self._post(client, flow) for _ in range(4)))
                await asyncio.sleep(0.5)

    async def _post(self, client: httpx2.AsyncClient, flow: object) -> None:
        key = new_id()
        while True:
            assert self.api is not None
            with suppress(httpx2.TransportError):
                url = f"{self.api.url}/run-flow"
                answer = await client.post(url, json=flow, headers={"Idempotency-Key": key})
                self.counts[f"HTTP {answer.status_code}"] += 1
                if answer.is_success:
                    run = FlowRunId(answer.json()["flow_run_id"])
                    self.cluster.acknowledged.append(run)
                    return
            await asyncio.sleep(0.2)

    def recoveries(self) -> list[float]:
        """From the kill of a worker to the next attempt at each task that it ran, in seconds."""
        by_attempt = {(*e.visit, e.attempt): e for e in self.cluster.journal.entries("start")}
        found = []
        for (*visit, attempt), entry in by_attempt.items():
            following = by_attempt.get((*visit, attempt + 1))  # type: ignore[arg-type]
            killed_at = self.killed_at.get(entry.pid)
            if following is not None and killed_at is not None and entry.at <= killed_at:
                found.append(following.at - killed_at)
        return sorted(found)


async def run_campaign(kind: str, arguments: argparse.Namespace) -> Result:
    """One campaign on SQLite or PostgreSQL."""
    with tempfile.TemporaryDirectory(prefix="flow-chaos-") as name, _servers(kind) as servers:
        folder = Path(name)
        valkey, server = servers
        cluster = Cluster(
            folder,
            server.url if server else f"sqlite:///{folder / 'flow.db'}",
            valkey.url,
            lease_seconds=arguments.lease,
        )
        await cluster.open()
        campaign = Campaign(cluster, valkey, random.Random(arguments.seed), server)
        try:
            try:
                await campaign.run(arguments.seconds, arguments.workers)
            except AssertionError as error:
                print(f"{kind}: {error}")
            return Result(
                database=kind,
                counts=campaign.counts,
                recoveries=campaign.recoveries(),
                runs=Counter(cluster.query("SELECT status FROM flow_run")),
                attempts=cluster.query("SELECT count(*) FROM task_run")[0],
                lost=cluster.query("SELECT count(*) FROM task_run WHERE reason = 'worker_lost'")[0],
                violations=cluster.violations(),
            )
        finally:
            await cluster.close()


@contextmanager
def _servers(kind: str) -> Iterator[tuple[Valkey, Restartable | None]]:
    with tempfile.TemporaryDirectory(prefix="flow-valkey-") as folder:
        valkey = Valkey(Path(folder))
        valkey.start()
        try:
            if kind == "sqlite":
                yield valkey, None
            else:
                with restartable_server() as server:
                    yield valkey, server
        finally:
            valkey.stop()


def main() -> int:
    """Run the campaigns; 1 where an invariant is broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.campaign", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of faults, a database")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--lease", type=float, default=4.0, help="seconds")
    parser.add_argument("--database", choices=["sqlite", "postgresql", "both"], default="both")
    parser.add_argument("--report", type=Path, default=Path("docs/chaos.md"))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}")
    both = arguments.database == "both"
    kinds = ("sqlite", "postgresql") if both else (arguments.database,)
    results = []
    for kind in kinds:
        result = asyncio.run(run_campaign(kind, arguments))
        print(f"{kind}: {result.sentence}")
        results.append(result)
    write_report(arguments, results)
    return 1 if any(result.violations for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
