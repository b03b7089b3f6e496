"""What the examples promise beyond their path: undoing, pools of workers, limits."""

import orjson

from shared.ids import FlowRunId
from shared.status import Outcome, RunStatus
from tests.integration.example_rig import (
    ExampleRig,
    examples,
    examples_on_sqlite,
    open_examples,
    stand_in,
)

__all__ = ["examples", "examples_on_sqlite", "stand_in"]


def _undone(rig: ExampleRig, run_id: FlowRunId) -> list[str]:
    """The tasks of the run's ending, as they began."""
    names = ("release_stock", "refund_card", "tell_customer")
    runs = [one for name in names for one in rig.task_runs(run_id, name)]
    return [one.task for one in sorted(runs, key=lambda one: str(one.id))]


async def test_an_order_that_no_courier_takes_is_undone_in_reverse_order(
    examples: ExampleRig,
) -> None:
    run_id = await examples.start("order", address="Nowhere 1")
    run = await examples.ended(run_id)
    error = orjson.loads(run.error)
    assert (run.status, error["type"], error["task"]) == ("failed", "NoCourier", "book_courier")
    assert _undone(examples, run_id) == [
        "refund_card",
        "release_stock",
        "release_stock",
        "tell_customer",
    ]
    reserved = [one["reservation"] for one in examples.data(run_id, "reserve_stock")]
    released = [
        orjson.loads(one.data)["released"] for one in examples.task_runs(run_id, "release_stock")
    ]
    assert released == reserved[::-1]
    paid = examples.data(run_id, "charge_card")["payment"]
    assert examples.data(run_id, "refund_card") == {"refunded": paid, "amount": 91.0}
    assert "could not be delivered" in examples.data(run_id, "tell_customer")["text"]


async def test_an_order_with_a_declined_card_gives_its_stock_back(examples: ExampleRig) -> None:
    run_id = await examples.start("order", card="4111-0000")
    run = await examples.ended(run_id)
    assert (run.status, run.outcome) == (RunStatus.COMPLETED, Outcome.FAILURE)
    assert _undone(examples, run_id) == ["release_stock", "release_stock", "tell_customer"]


async def test_an_order_that_succeeds_is_only_told_of(examples: ExampleRig) -> None:
    run_id = await examples.start("order")
    await examples.ended(run_id)
    assert _undone(examples, run_id) == ["tell_customer"]
    assert examples.data(run_id, "tell_customer")["text"] == "Your order A-1017 is on its way."


async def test_a_clean_up_that_breaks_off_still_tells(examples_on_sqlite: ExampleRig) -> None:
    run_id = await examples_on_sqlite.start("clean-up", folder="there/is/none")
    run = await examples_on_sqlite.ended(run_id)
    assert (run.status, orjson.loads(run.error)["task"]) == (RunStatus.FAILED, "find_old")
    assert examples_on_sqlite.data(run_id, "tell") == {"found": 0, "removed": 0}


async def test_only_workers_of_the_pool_learn_and_predict(
    database_url: str, redis_url: str
) -> None:
    async with (
        open_examples(database_url, redis_url) as rig,
        open_examples(database_url, redis_url, worker_queues=("gpu",)) as gpu,
    ):
        run_id = await rig.start("ml-batch")
        await rig.output(run_id)
        workers = {
            task: {str(one.worker_id) for one in rig.task_runs(run_id, task)}
            for task in ("train", "cut", "merge")
        }
        assert workers == {
            "train": {str(gpu.engine.worker_id)},
            "cut": {str(rig.engine.worker_id)},
            "merge": {str(rig.engine.worker_id)},
        }
