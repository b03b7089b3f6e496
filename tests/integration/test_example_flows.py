"""The examples: each runs as its file says, and comes to what its description promises."""

import os
import re
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from shared.models import NO_INDEX
from shared.registry import load_registry
from shared.status import Outcome, RunStatus
from shared.validation import validate_definition
from tests.integration.example_rig import (
    EXAMPLES,
    MODULES,
    ExampleRig,
    examples,
    examples_on_sqlite,
    open_examples,
    read_example,
    stand_in,
)
from tests.waiting import wait_until

__all__ = ["examples", "examples_on_sqlite", "stand_in"]

FILES = sorted(path.stem for path in EXAMPLES.glob("*.json"))


# All of them.


@pytest.mark.parametrize("name", FILES)
def test_an_example_is_valid_and_nothing_of_it_is_doubtful(name: str) -> None:
    judged = validate_definition(
        read_example(name)["flow"], task_types=load_registry(MODULES).names()
    )
    assert judged.errors == judged.warnings == ()


def test_every_example_is_explained_with_a_command_that_names_its_files() -> None:
    text = (EXAMPLES / "README.md").read_text("utf-8")
    found = re.findall(r"[\w./-]+\.(?:json|py)\b", text)
    named = {name.removeprefix("examples/") for name in found}
    assert {name for name in named if not (EXAMPLES / name).is_file()} == set()
    files = [*EXAMPLES.glob("*.*"), *EXAMPLES.glob("tasks/*.py"), *EXAMPLES.glob("schedules/*")]
    assert {str(file.relative_to(EXAMPLES)) for file in files} - {"README.md"} <= named


# order.json


async def test_an_order_is_paid_and_confirmed(examples: ExampleRig) -> None:
    run_id = await examples.start("order")
    assert await examples.output(run_id) == {"order": "A-1017", "confirmed": True}
    assert examples.data(run_id, "confirm")["paid"] == 91.0
    attempts = examples.task_runs(run_id, "charge_card")
    assert [attempt.status for attempt in attempts] == ["failed", "success"]
    assert orjson.loads(attempts[0].error)["type"] == "BankIsBusy"
    assert {"release_stock", "refund_card"}.isdisjoint(examples.visits(run_id))


async def test_an_order_with_a_declined_card_ends_as_a_failure(examples: ExampleRig) -> None:
    run_id = await examples.start("order", card="4111-0000")
    run = await examples.ended(run_id)
    assert (run.status, run.outcome) == (RunStatus.COMPLETED, Outcome.FAILURE)
    assert orjson.loads(run.output) == {"order": "A-1017", "confirmed": False}


# document-approval.json


async def test_a_document_goes_back_to_its_author_until_it_is_approved(
    examples: ExampleRig,
) -> None:
    run_id = await examples.start("document-approval")
    await examples.signal(run_id, "review", "decision", {"decision": "revise", "by": "bob"})
    await examples.signal(run_id, "revise", "revised", {"text": "Meetings end early."})
    await wait_until(
        lambda: examples.visits(run_id)["review"] == 2, description="it is reviewed again"
    )
    await examples.signal(run_id, "review", "decision", {"decision": "approve", "by": "ada"})
    published = {"text": "Meetings end early.", "version": 2, "approved_by": "ada"}
    assert await examples.output(run_id) == published


async def test_a_document_that_nobody_looks_at_goes_to_the_manager(examples: ExampleRig) -> None:
    run_id = await examples.start("document-approval", patience="50ms")
    await examples.signal(run_id, "escalate", "manager", {"decision": "reject", "by": "eve"})
    assert await examples.output(run_id) == {"rejected_by": "eve"}
    error = orjson.loads(examples.tasks(run_id)["review"].error)
    assert error["type"] == "TaskTimeout"


# nightly-import.json


async def test_an_import_reads_every_file_and_tells_the_broken_ones(
    examples_on_sqlite: ExampleRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(EXAMPLES.parent)
    run_id = await examples_on_sqlite.start("nightly-import")
    assert await examples_on_sqlite.output(run_id) == {
        "files": 4,
        "rows": 9,
        "total": 134.5,
        "broken": ["examples/inbox/east.csv"],
    }
    paths = [Path(file["path"]).stem for file in examples_on_sqlite.data(run_id, "import_file")]
    assert paths == ["east", "north", "south", "west"]


async def test_a_file_that_is_still_being_written_is_imported_when_it_is_whole(
    examples_on_sqlite: ExampleRig, tmp_path: Path
) -> None:
    growing = tmp_path / "growing.csv"
    growing.write_text("id,amount\n1,2\n2,", "utf-8")
    run_id = await examples_on_sqlite.start("nightly-import", folder=str(tmp_path))
    await wait_until(
        lambda: any(one.attempt == 1 for one in _ended_items(examples_on_sqlite, run_id)),
        description="the first attempt has failed",
    )
    with growing.open("a") as file:
        file.write("40\n")
    assert (await examples_on_sqlite.output(run_id))["total"] == 42
    assert [one.status for one in _ended_items(examples_on_sqlite, run_id)][-1] == "success"


def _ended_items(rig: ExampleRig, run_id: Any) -> list[Any]:
    runs = rig.task_runs(run_id, "import_file")
    return [one for one in runs if one.item_index != NO_INDEX and one.finished_at is not None]


async def test_an_import_of_too_many_broken_files_raises_the_alarm(
    examples_on_sqlite: ExampleRig, tmp_path: Path
) -> None:
    for name in "abc":
        (tmp_path / f"{name}.csv").write_text("id,amount\n1,many\n", "utf-8")
    run = await examples_on_sqlite.ended(
        await examples_on_sqlite.start("nightly-import", folder=str(tmp_path))
    )
    assert run.status == RunStatus.FAILED
    assert "are broken" in orjson.loads(run.error)["message"]


async def test_an_import_of_an_empty_folder_ends_well(
    examples_on_sqlite: ExampleRig, tmp_path: Path
) -> None:
    run_id = await examples_on_sqlite.start("nightly-import", folder=str(tmp_path))
    assert (await examples_on_sqlite.output(run_id))["files"] == 0


# scraping.json


async def test_all_titles_of_a_site_are_found_and_the_missing_pages_told(
    examples_on_sqlite: ExampleRig, stand_in: str
) -> None:
    run_id = await examples_on_sqlite.start("scraping", site=stand_in)
    output = await examples_on_sqlite.output(run_id)
    assert output["titles"] == {f"/pages/{n}": f"Page {n}" for n in range(1, 10)}
    assert output["missing"] == ["/pages/none"]


# ml-batch.json


async def test_a_batch_gets_its_labels_in_the_order_of_its_samples(
    sqlite_url: str, redis_url: str
) -> None:
    queues = ("default", "gpu")
    async with open_examples(sqlite_url, redis_url, worker_queues=queues) as rig:
        run_id = await rig.start("ml-batch")
        labels = ["low", "high", "low", "high", "low", "high", "low"]
        assert await rig.output(run_id) == {"labels": labels}


# polling.json


async def test_a_job_elsewhere_is_looked_at_until_it_is_done(
    examples_on_sqlite: ExampleRig, stand_in: str
) -> None:
    run_id = await examples_on_sqlite.start("polling", service=stand_in, every="20ms")
    assert await examples_on_sqlite.output(run_id) == {"result": 42, "looks": 3}
    assert examples_on_sqlite.visits(run_id)["nap"] == 2


async def test_a_job_elsewhere_that_takes_too_long_is_given_up(
    examples_on_sqlite: ExampleRig, stand_in: str
) -> None:
    given = {"service": stand_in, "every": "10ms", "most_looks": 2}
    run = await examples_on_sqlite.ended(await examples_on_sqlite.start("polling", **given))
    assert run.status == RunStatus.FAILED
    assert orjson.loads(run.error)["message"] == "the job is not over after 2 looks"


# report.json


@pytest.mark.parametrize("has_visits", [True, False])
async def test_a_report_is_made_of_all_sources_that_answer(
    examples: ExampleRig, has_visits: bool
) -> None:
    await examples.store("region-sales")
    run_id = await examples.start("report", visits=has_visits)
    run = await examples.ended(run_id)
    assert orjson.loads(run.output) == {
        "week": 14,
        "sales": {"north": 30, "south": 30, "west": 24},
        "tickets": 42,
        "visits": 1_014 if has_visits else None,
    }
    assert (run.status, examples.visits(run_id)["report"]) == (RunStatus.COMPLETED, 1)


# clean-up.json


@pytest.mark.parametrize("dry_run", [True, False])
async def test_only_old_files_are_removed(
    examples_on_sqlite: ExampleRig, tmp_path: Path, dry_run: bool
) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    for name, age_days in (("new", 1), ("old", 40), ("older", 400)):
        (folder / name).touch()
        changed = time.time() - age_days * 86_400
        os.utime(folder / name, (changed, changed))
    run_id = await examples_on_sqlite.start("clean-up", folder=str(folder), dry_run=dry_run)
    output = await examples_on_sqlite.output(run_id)
    left = {path.name for path in folder.iterdir()}
    gone = set() if dry_run else {"old", "older"}
    assert left == {"new", "old", "older"} - gone
    assert {Path(path).name for path in output["removed"]} == gone


# invoice-payment.json


async def test_an_invoice_is_delivered_when_the_bank_says_that_it_is_paid(
    examples: ExampleRig,
) -> None:
    run_id = await examples.start("invoice-payment")
    part = {"amount": 20, "reference": "R-2041/1"}
    await examples.signal(run_id, "paid", "paid", part)
    await wait_until(
        lambda: examples.visits(run_id)["paid"] == 2, description="the rest is waited for"
    )
    await examples.signal(run_id, "paid", "paid", {"amount": 120, "reference": "R-2041/2"})
    run = await examples.ended(run_id)
    assert run.status == RunStatus.COMPLETED
    assert examples.data(run_id, "deliver") == {"delivered": True, "reference": "R-2041/2"}
    assert "write_off" not in examples.visits(run_id)
    assert examples.tasks(run_id)["withdrawn"].status == "cancelled"


async def test_an_invoice_that_is_withdrawn_waits_for_no_payment(examples: ExampleRig) -> None:
    run_id = await examples.start("invoice-payment")
    await wait_until(lambda: examples.waits(run_id, "paid"), description="it waits for the bank")
    await examples.signal(run_id, "withdrawn", "withdrawn", {})
    await examples.ended(run_id)
    assert examples.data(run_id, "write_off") == {"delivered": False}
    assert examples.tasks(run_id)["paid"].status == "cancelled"


async def test_an_invoice_that_nobody_pays_is_reminded_of_and_written_off(
    examples: ExampleRig,
) -> None:
    run_id = await examples.start("invoice-payment", patience="30ms", reminders=2)
    await examples.ended(run_id)
    visits = examples.visits(run_id)
    assert (visits["paid"], visits["remind"], visits["write_off"]) == (3, 3, 1)


# agent.json


async def test_an_agent_uses_its_tools_until_it_has_an_answer(
    examples_on_sqlite: ExampleRig, stand_in: str
) -> None:
    run_id = await examples_on_sqlite.start("agent", model=f"{stand_in}/model")
    output = await examples_on_sqlite.output(run_id)
    assert output == {"answer": "815900.0", "turns": 4}
    visits = examples_on_sqlite.visits(run_id)
    assert (visits["search"], visits["calculate"], visits["remember"]) == (2, 1, 3)
    said = examples_on_sqlite.data(run_id, "remember")["messages"]
    assert [one["role"] for one in said] == ["user", *["assistant", "tool"] * 3]


async def test_an_agent_without_an_answer_gives_up(
    examples_on_sqlite: ExampleRig, stand_in: str
) -> None:
    given = {"model": f"{stand_in}/model", "most_turns": 2}
    run = await examples_on_sqlite.ended(await examples_on_sqlite.start("agent", **given))
    assert run.status == RunStatus.FAILED
    assert orjson.loads(run.error)["message"] == "no answer after 2 turns"
