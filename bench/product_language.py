"""What parts of the flow language cost: expressions, params, lists, runs that sleep.

Expressions are evaluated in this process, as a worker evaluates them; everything else is run by
the product's workers.
"""

import statistics
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import orjson
from sqlalchemy import func, select

from bench import product_flows
from bench.measuring import Measurement, WorkNotDone, sample
from bench.product_engine import EngineSide
from bench.works import Work
from shared.expressions import Scope, parse_expression
from shared.ids import FlowRunId
from shared.models import Branch, TaskRun
from shared.status import BranchState

EXPRESSION = "previous.score >= 80 and input.kind == 'loan'"
EVALUATIONS = 20_000
PARAM_STEPS = 40
"""Steps of the runs with and without params, so that what is the same for both weighs little."""
SUBMITTED_AT_ONCE = 1_000
ASLEEP_BEFORE_SECONDS = 15.0
"""When the first run wakes, counted from the submit of the last: all must sleep by then."""
WAKING_SECONDS = 10.0
"""Over which the times of the sleeping runs are spread."""
POLL_SECONDS = 0.2


def measure(engine: EngineSide, work: Work) -> Measurement:
    """Measure one of the works of the language."""
    try:
        return Measurement(work.name, _MEASURES[work.name](engine, work))
    except TimeoutError:
        return Measurement(work.name, reason=f"not done within {work.budget_seconds:.0f} s")
    except WorkNotDone as error:
        return Measurement(work.name, reason=str(error))


def _expression(_: EngineSide, work: Work) -> list[float]:
    """Seconds of one evaluation of a condition like those that are written."""
    expression = parse_expression(EXPRESSION)
    scope = Scope(input={"kind": "loan"}, previous={"score": 91})

    def evaluate(_: float) -> None:
        for _number in range(EVALUATIONS):
            expression.evaluate(scope)

    evaluate(0)
    return [seconds / EVALUATIONS for seconds in sample(work, evaluate)]


def _list(engine: EngineSide, work: Work) -> list[float]:
    """Seconds of a run of which one task runs once an item."""
    body = product_flows.mapping(work.size)
    given = orjson.dumps({"items": list(range(work.size))})
    return list(sample(work, lambda seconds: engine.run_flow(body, given, seconds)))


def _params(engine: EngineSide, work: Work) -> list[float]:
    """Percent that steps with params take longer than steps without, the two in turns."""
    plain, filled = product_flows.counting(PARAM_STEPS), product_flows.counting(PARAM_STEPS, "n")
    taken: dict[bytes, list[float]] = {plain: [], filled: []}
    for repetition in range(work.repetitions + 1):
        for body, seconds in taken.items():
            began = time.perf_counter()
            engine.run_flow(body, b"{}", work.budget_seconds)
            if repetition:
                seconds.append(time.perf_counter() - began)
    without, having = (statistics.median(taken[body]) for body in (plain, filled))
    return [100 * (having / without - 1)]


def _sleeping(engine: EngineSide, work: Work) -> list[float]:
    """Seconds by which each of many sleeping runs woke after its time."""
    body = product_flows.sleeping()
    first = datetime.now(UTC) + timedelta(seconds=ASLEEP_BEFORE_SECONDS * work.size / 10_000 + 2)
    spread = WAKING_SECONDS * work.size / 10_000
    times = [first + timedelta(seconds=spread * number / work.size) for number in range(work.size)]
    inputs = [orjson.dumps({"until": time_.isoformat()}) for time_ in times]
    run_ids: list[FlowRunId] = []
    for start in range(0, work.size, SUBMITTED_AT_ONCE):
        run_ids += engine.submit(body, inputs[start : start + SUBMITTED_AT_ONCE])
    _check_slots(engine, run_ids, first)
    engine.wait(work.budget_seconds)
    woke = _woke(engine, run_ids)
    return [(woke[i] - t).total_seconds() for i, t in zip(run_ids, times, strict=True)]


def _check_slots(engine: EngineSide, run_ids: Sequence[FlowRunId], until: datetime) -> None:
    """Refuse the figure where sleeping runs hold slots, or do not sleep yet."""
    states: dict[str, int] = {}
    while states.get(BranchState.WAITING, 0) < len(run_ids):
        if datetime.now(UTC) > until:
            raise WorkNotDone(f"not all slept before the first of them was to wake: {states}")
        time.sleep(POLL_SECONDS)
        states = _states(engine)
    if holding := states.get(BranchState.RUNNING, 0):
        raise WorkNotDone(f"{holding} slots were held while all slept")


def _states(engine: EngineSide) -> dict[str, int]:
    branches = Branch.__table__
    query = (
        select(branches.c.state, func.count())
        .where(branches.c.state != BranchState.DONE)
        .group_by(branches.c.state)
    )
    with engine.database.read() as connection:
        return {str(state): number for state, number in connection.execute(query)}


def _woke(engine: EngineSide, run_ids: Sequence[FlowRunId]) -> dict[str, datetime]:
    task_runs, wanted = TaskRun.__table__, set(run_ids)
    query = select(task_runs.c.flow_run_id, task_runs.c.finished_at).where(
        task_runs.c.task == product_flows.NAP
    )
    with engine.database.read() as connection:
        return {row[0]: row[1] for row in connection.execute(query) if row[0] in wanted}


_MEASURES = {
    "expression": _expression,
    "params": _params,
    "list-10000": _list,
    "sleeping-10000": _sleeping,
}
