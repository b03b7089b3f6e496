"""A database that is away for longer than a lease costs nobody a run, on both databases."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection
from structlog.testing import capture_logs

from shared.database import Database
from shared.errors import DatabaseUnavailable
from shared.models_workers import WorkerRow
from tests.integration.engine_rig import MODULE, Rig, open_rig
from tests.waiting import wait_until


class _Outage:
    """Lets every write fail while it lasts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_on = False
        self.refused = 0
        write = Database.write

        @contextmanager
        def maybe(database: Database) -> Iterator[Connection]:
            if self.is_on:
                self.refused += 1
                raise DatabaseUnavailable("away")
            with write(database) as connection:
                yield connection

        monkeypatch.setattr(Database, "write", maybe)


def _attempts(rig: Rig, run_id: Any) -> list[int]:
    return [row.attempt for row in rig.tasks(run_id).values()]


async def test_after_an_outage_nobody_counts_as_lost_who_could_not_beat(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    outage = _Outage(monkeypatch)
    slow = {"id": "slow", "start_task": "slow", "tasks": [{"name": "slow", "type": "hangs"}]}
    async with open_rig(database_url, redis_url, (MODULE,), lease_seconds=0.6) as rig:
        run_id = await rig.submit(slow)
        await wait_until(lambda: "slow" in rig.tasks(run_id), description="the task has begun")
        heard = rig.engine.clock.now()
        outage.is_on = True
        await wait_until(
            lambda: rig.engine.clock.now() > heard + 2 * 0.6,
            description="two leases have passed",
        )
        assert outage.refused
        outage.is_on = False
        again = rig.engine.clock.now()
        await wait_until(
            lambda: _heartbeat(rig) > again + 2 * 0.6, description="it has been heard for long"
        )
        assert _attempts(rig, run_id) == [1]
        assert list(rig.engine.runner.claims.values()) == [1]
        await rig.cancel(run_id)


async def test_an_outage_is_told_once_at_its_begin_and_once_at_its_end(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    outage = _Outage(monkeypatch)
    async with open_rig(database_url, redis_url, (MODULE,)) as rig:
        await wait_until(lambda: rig.engine._leader.is_leading, description="it leads")
        with capture_logs() as told:
            outage.is_on = True
            await wait_until(lambda: outage.refused > 30, description="much was tried in vain")
            outage.is_on = False
            await wait_until(
                lambda: {"claims_again", "upkeep_again"} <= {one["event"] for one in told},
                description="both go on",
            )
    events = [one["event"] for one in told if one["event"].startswith(("claim", "upkeep"))]
    assert sorted(events) == ["claim_failed", "claims_again", "upkeep_again", "upkeep_failed"]
    failed = [one["failed"] for one in told if one["event"] in ("claims_again", "upkeep_again")]
    assert min(failed) > 1


def _heartbeat(rig: Rig) -> float:
    with rig.engine.database.read() as connection:
        return float(connection.execute(WorkerRow.__table__.select()).one().heartbeat)


async def test_who_dies_in_an_outage_is_found_a_lease_after_it(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    outage = _Outage(monkeypatch)
    async with open_rig(database_url, redis_url, (MODULE,), lease_seconds=0.6) as rig:
        dead = open_rig(database_url, redis_url, (MODULE,), lease_seconds=0.6)
        other = await dead.__aenter__()
        rig.engine.runner._is_stopping = True
        plain = {"id": "p", "start_task": "p", "tasks": [{"name": "p", "type": "plain"}]}
        outage_until = rig.engine.clock.now() + 1.0
        run_id = await rig.submit(plain)
        outage.is_on = True
        other.engine._heart._stopped.set()
        await asyncio.to_thread(other.engine._heart._thread.join)
        await wait_until(
            lambda: rig.engine.clock.now() > outage_until, description="a lease has passed"
        )
        outage.is_on = False
        rig.engine.runner._is_stopping = False
        await rig.ended(run_id)
        await wait_until(lambda: _is_lost(rig, other), description="the dead one is declared lost")
        await dead.__aexit__(None, None, None)


def _is_lost(rig: Rig, other: Rig) -> bool:
    rows = WorkerRow.__table__
    with rig.engine.database.read() as connection:
        query = rows.select().where(rows.c.id == other.engine.worker_id)
        return bool(connection.execute(query).one().state == "lost")
