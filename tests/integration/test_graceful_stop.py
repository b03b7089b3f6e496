"""A worker that stops leaves nothing behind, whatever was on its way, on both databases."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from sqlalchemy import select

from shared.models import Branch
from shared.status import BranchState, RunStatus
from tests.integration.engine_rig import MODULE, Rig, open_rig
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(60)


def _flow(**types: str) -> dict[str, Any]:
    """A fork of the first task into all others."""
    names = list(types)
    return {
        "id": "stop",
        "start_task": names[0],
        "tasks": [{"name": name, "type": kind} for name, kind in types.items()],
        "conditions": [{"source_task": names[0], "target_task_success": names[1:]}]
        if names[1:]
        else [],
    }


class _Held:
    """Holds the writer of an engine up once it has committed a group of calls, before anybody
    hears of it, until it is let go. (What was not begun yet is not written for who is gone.)"""

    def __init__(self, rig: Rig, wanted: Callable[[Any], bool]) -> None:
        self.reached = asyncio.Event()
        self._go = threading.Event()
        loop, write = asyncio.get_running_loop(), rig.engine.writer._write_group

        def held(calls: Sequence[Any]) -> None:
            write(list(calls))
            if any(wanted(call) for call in calls):
                loop.call_soon_threadsafe(self.reached.set)
                self._go.wait(10)

        rig.engine.writer._write_group = held  # type: ignore[method-assign]  # of this engine

    def let_go(self) -> None:
        self._go.set()


async def _stopped_while(database_url: str, redis_url: str, wanted: str, flow: Any) -> None:
    """Stop an engine while it writes what ``wanted`` names; another one must finish the run."""
    async with open_rig(database_url, redis_url, (MODULE,), worker_concurrency=10) as other:
        # It only looks on until the first one has gone.
        other.engine.runner._is_stopping = True
        first = open_rig(database_url, redis_url, (MODULE,), worker_concurrency=10)
        rig = await first.__aenter__()
        rig.engine.runner.peers = 1
        held = _Held(rig, lambda call: _is_wanted(call, wanted))
        submitting = asyncio.ensure_future(rig.submit(flow))
        await held.reached.wait()
        stopping = asyncio.ensure_future(first.__aexit__(None, None, None))
        await wait_until(lambda: rig.engine.runner._is_stopping, description="it is stopping")
        held.let_go()
        await stopping
        run_id = await submitting
        assert rig.engine.runner.claims == {}
        other.engine.runner._is_stopping = False
        await wait_until(
            lambda: other.run(run_id).status == RunStatus.COMPLETED,
            description="the other worker has finished the run",
            timeout=10,
        )


async def _left_alone(database_url: str, redis_url: str) -> Rig:
    """A worker that has stopped while it claimed a run, with nobody there to look after it."""
    only = open_rig(database_url, redis_url, (MODULE,))
    rig = await only.__aenter__()
    held = _Held(rig, lambda call: _is_wanted(call, "claim_branches"))
    submitting = asyncio.ensure_future(rig.submit(_flow(only="scripted")))
    await held.reached.wait()
    stopping = asyncio.ensure_future(only.__aexit__(None, None, None))
    await wait_until(lambda: rig.engine.runner._is_stopping, description="it is stopping")
    held.let_go()
    await asyncio.gather(stopping, submitting)
    return rig


def _branches(rig: Rig) -> list[tuple[str, str | None]]:
    """The state of each branch, and who holds it."""
    branches = Branch.__table__
    with rig.engine.database.read() as connection:
        rows = connection.execute(select(branches.c.state, branches.c.worker_id))
        return [(row.state, row.worker_id) for row in rows]


def _is_wanted(call: Any, wanted: str) -> bool:
    name = call.function.__name__
    return bool(name == wanted and (name != "record_steps" or call.item.task == "split"))


async def test_a_claim_that_is_committed_while_its_worker_stops_is_given_back(
    database_url: str, redis_url: str
) -> None:
    flow = _flow(only="scripted")
    await _stopped_while(database_url, redis_url, "claim_branches", flow)


async def test_a_fork_that_is_recorded_while_its_worker_stops_is_given_back(
    database_url: str, redis_url: str
) -> None:
    flow = _flow(split="scripted", left="takes_long", right="takes_long")
    await _stopped_while(database_url, redis_url, "record_steps", flow)


async def test_who_leaves_gives_back_what_it_holds_and_needs_no_leader_for_it(
    database_url: str, redis_url: str
) -> None:
    rig = await _left_alone(database_url, redis_url)
    assert _branches(rig) == [(BranchState.READY, None)]


async def test_what_outlasts_the_grace_is_given_back_before_the_worker_leaves(
    database_url: str, redis_url: str
) -> None:
    async with open_rig(database_url, redis_url, (MODULE,)) as rig:
        await rig.submit(_flow(only="takes_long"))
        await wait_until(lambda: rig.engine.runner.claims, description="it runs")
        # What has not begun holds nothing that it could give back itself.
        await asyncio.sleep(0)
        rig.engine.claimer.stop()
        await rig.engine.runner.stop(0.0)
        assert _branches(rig) == [(BranchState.READY, None)]
