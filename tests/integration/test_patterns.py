"""The workflow patterns that ``docs/patterns.md`` lists: each runs, and comes to what it says."""

import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from shared.ids import FlowRunId
from shared.status import Outcome, RunStatus
from shared.store.signals import NewSignal, send_signals
from tests.integration.engine_rig import Rig, rig
from tests.waiting import wait_until

__all__ = ["rig"]

ROOT = Path(__file__).parents[2]
PATTERNS = {path.stem: path for path in sorted((ROOT / "examples" / "patterns").glob("*.json"))}

EXPECTED: dict[str, tuple[dict[str, int], Any]] = {
    "01-sequence": ({"first": 1, "second": 1, "third": 1}, {"n": 3}),
    "02-parallel-split": ({"split": 1, "left": 1, "right": 1}, {}),
    "03-synchronization": ({"split": 1, "left": 1, "right": 1, "meet": 1}, {"sum": 3}),
    "04-exclusive-choice": ({"rate": 1, "review": 1}, {}),
    "05-simple-merge": ({"ask": 1, "by_phone": 1, "note": 1}, {}),
    "06-multi-choice": ({"order": 1, "pack": 1, "gift_wrap": 1}, {}),
    "07-synchronizing-merge": ({"order": 1, "pack": 1, "gift_wrap": 1, "ship": 1}, {}),
    "08-multi-merge": ({"split": 1, "left": 1, "right": 1, "log": 2, "archive": 2}, {}),
    "09-discriminator": ({"ask": 1, "near": 1, "far": 1, "answer": 1}, {}),
    "10-arbitrary-cycles": ({"start": 1, "draft": 2, "review": 3, "publish": 1}, {}),
    "11-implicit-termination": ({"split": 1, "short": 1, "long": 1, "longer": 1}, {}),
    "12-instances-without-synchronization": (
        {"begin": 1, "mail": 3, "go_on": 1, "done": 1},
        None,
    ),
    "13-instances-known-at-design-time": ({"check": 4, "file": 1}, {"copies": 3}),
    "14-instances-known-at-run-time": ({"price": 3, "total": 1}, {"total": 17}),
    "15-instances-unknown": ({"ask": 4, "work": 3, "sum_up": 1}, {}),
    "16-deferred-choice": (
        {"offer": 1, "accepted": 1, "declined": 1, "withdraw_decline": 1, "deliver": 1},
        {},
    ),
    "17-interleaved-routing": (
        {"admit": 1, "x_ray": 1, "blood_test": 1, "report": 1},
        {"x_ray": "nothing", "blood": "little iron"},
    ),
    "19-cancel-activity": (
        {"split": 1, "search": 1, "give_up": 1, "stop_search": 1, "report": 1},
        {},
    ),
    "20-cancel-case": ({"split": 1, "wait": 1, "enough": 1}, {"result": "good enough"}),
}
"""Visits, the items of lists among them, and the output; None where it depends on the order."""


@pytest.mark.parametrize("name", PATTERNS)
async def test_a_pattern_comes_to_what_it_says(rig: Rig, name: str) -> None:
    document = orjson.loads(PATTERNS[name].read_bytes())
    run_id = await rig.submit(document["flow"], document.get("input", {}))
    if name == "16-deferred-choice":
        await _accept(rig, run_id)
    run = await rig.ended(run_id)
    assert (run.status, run.outcome) == (RunStatus.COMPLETED, Outcome.SUCCESS)
    visits, output = EXPECTED[name]
    found = rig.visits(run_id)
    if name == "20-cancel-case":
        # Whether the wait had begun when the run ended is nobody's promise.
        found["wait"] = 1
    assert found == Counter(visits)
    assert output is None or orjson.loads(run.output) == output


async def _accept(rig: Rig, run_id: FlowRunId) -> None:
    def both_wait() -> bool:
        tasks = rig.tasks(run_id)
        return all(n in tasks and tasks[n].status == "waiting" for n in ("accepted", "declined"))

    await wait_until(both_wait, description="both answers are waited for")
    await rig.engine.writer.call(
        send_signals,
        NewSignal(run_id, "accept", b"{}", datetime.now(UTC), rig.engine.clock.now() - 10),
    )


def test_the_catalogue_lists_every_pattern_and_every_definition() -> None:
    catalogue = (ROOT / "docs" / "patterns.md").read_text("utf-8")
    linked = re.findall(r"\(\.\./examples/patterns/([\w-]+)\.json\)", catalogue)
    assert sorted(linked) == sorted(PATTERNS) == sorted(EXPECTED)
    numbers = [int(n) for n in re.findall(r"^\| (\d+) \|", catalogue, re.MULTILINE)]
    assert numbers == list(range(1, 21))
