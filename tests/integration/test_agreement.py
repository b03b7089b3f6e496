"""The engine and the simulation agree on random runs, on both databases.

Paths, attempts, items, data, outputs and errors, wherever they do not depend on which of several
branches is quicker.
"""

import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from sqlalchemy import select

from flow_manager.testing import FlowRun, run_flow_async
from shared.ids import FlowRunId
from shared.models import NO_INDEX, TaskRun
from shared.status import Reason, RunStatus
from shared.validation import validate_definition
from tests.integration.engine_rig import Rig, open_rig
from tests.unit import scripted
from tests.unit.scripted import Follows, forking, looping

INPUT = {"n": 3, "items": ["a", "b", "c"]}
RUNS = 40


@pytest.fixture
async def rig(database_url: str, redis_url: str) -> AsyncIterator[Rig]:
    async with open_rig(database_url, redis_url, (scripted.__name__,)) as rig:
        yield rig


@pytest.mark.parametrize(
    ("strategy", "is_certain"),
    [(looping(), True), (forking(), False), (forking(each=True), False)],
    ids=["looping", "forking", "each"],
)
async def test_executed_runs_come_to_what_was_simulated(
    rig: Rig,
    strategy: st.SearchStrategy[dict[str, Any]],
    is_certain: bool,
    record_property: Callable[[str, object], None],
) -> None:
    chosen = random.randrange(2**32)
    record_property("seed", chosen)
    rig.answer_rings()
    submitted = []
    for definition in _some(strategy, chosen):
        simulated = await run_flow_async(definition, input=INPUT, tasks=[Follows])
        submitted.append((await rig.submit(definition, INPUT), definition, simulated))
    statuses = set()
    for run_id, definition, simulated in submitted:
        run = await rig.ended(run_id)
        statuses.add(run.status)
        told = f"seed {chosen}: {orjson.dumps(definition).decode()}\n{simulated!r}"
        assert run.status == simulated.status, told
        if run.status == RunStatus.COMPLETED or is_certain:
            assert _executed(rig, run_id) == _simulated(simulated), told
            assert run.outcome == simulated.outcome, told
        # Which of several branches gives the output, or the error, is chance.
        if run.status == RunStatus.COMPLETED and (is_certain or definition.get("output")):
            assert orjson.loads(run.output) == simulated.output, told
        if run.status == RunStatus.FAILED and is_certain:
            executed = orjson.loads(run.error)
            assert executed | {"traceback": None} == simulated.error | {"traceback": None}, told
    assert statuses == {RunStatus.COMPLETED, RunStatus.FAILED}


def _some(strategy: st.SearchStrategy[dict[str, Any]], chosen: int) -> list[dict[str, Any]]:
    """Random definitions that can be submitted."""
    found: list[dict[str, Any]] = []

    @seed(chosen)
    @settings(
        max_examples=RUNS,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(definition: dict[str, Any]) -> None:
        if validate_definition(definition).flow is not None:
            found.append(definition)

    collect()
    return found


_Told = tuple[str, int, int, int, str, str, str]


def _executed(rig: Rig, run_id: FlowRunId) -> list[_Told]:
    """Every task run, in an order that does not depend on time."""
    table = TaskRun.__table__
    with rig.engine.database.read() as connection:
        rows = connection.execute(select(table).where(table.c.flow_run_id == run_id)).all()
    return sorted(
        (
            row.task,
            row.iteration,
            -1 if row.item_index == NO_INDEX else row.item_index,
            row.attempt,
            row.status,
            row.reason or "",
            repr(None if row.data is None else orjson.loads(row.data)),
        )
        for row in rows
        # Whether one that the limit stopped had begun depends on who would have run it.
        if row.reason != Reason.LIMIT_PASSED
    )


def _simulated(run: FlowRun) -> list[_Told]:
    return sorted(
        (
            one.name,
            one.iteration,
            -1 if one.index is None else one.index,
            one.attempt,
            one.status.value,
            one.reason or "",
            repr(one.data),
        )
        for one in run.attempts
        if one.reason != Reason.LIMIT_PASSED
    )
