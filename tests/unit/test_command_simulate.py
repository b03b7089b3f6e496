"""``flow-manager simulate``: offline, with the places of what is wrong."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner, Result

from flow_manager.command.application import application
from tests.unit.simulating import flow_of

FLOW = flow_of(
    {
        "check": {},
        "scan": {"retry": {"delay": "10s", "jitter": False}},
        "approve": {"type": "wait_for_signal", "params": {"signal": "ok"}},
        "done": {"type": "transform", "params": {"by": "${tasks.approve.data.by}"}},
    },
    ("check", ["scan", "approve"]),
    ("scan", "done"),
    ("approve", "done"),
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "flow.json"
    path.write_bytes(orjson.dumps(FLOW))
    return path


def _run(file: Path, **options: Any) -> Result:
    arguments = ["simulate", str(file)]
    for name, value in options.items():
        arguments += [
            f"--{name}",
            value if isinstance(value, str) else orjson.dumps(value).decode(),
        ]
    return CliRunner().invoke(application, arguments)


def test_the_way_is_drawn(file: Path) -> None:
    result = _run(file, outcomes={"scan": ["error", True]}, signals={"ok": {"by": "me"}})
    assert result.exit_code == 0
    assert "completed, outcome success  10.0 s" in result.output
    assert "scan (attempt 2)" in result.output
    assert "Path: check > scan > approve > done" in result.output
    assert "Taken for a plain success: check (--outcomes)" in result.output
    assert '"by": "me"' in result.output


def test_json_is_what_the_service_would_answer(file: Path) -> None:
    arguments = ["simulate", str(file), "--json", "--outcomes", '{"scan": false}']
    result = CliRunner().invoke(application, arguments)
    assert result.exit_code == 1
    run = orjson.loads(result.stdout)
    assert (run["status"], run["path"]) == ("running", ["check", "scan", "approve"])


def test_a_wait_for_ever_is_told(file: Path) -> None:
    result = _run(file)
    assert result.exit_code == 1
    assert "Waits for ever for the signal ok (--signals)" in result.output


def test_what_is_wrong_is_located(file: Path, tmp_path: Path) -> None:
    result = _run(file, outcomes={"sacn": True})
    assert result.exit_code == 2
    assert (
        '--outcomes /outcomes/sacn: error: there is no task "sacn" (did you mean' in result.output
    )
    file.write_text('{"flow": {"id": "x", "start_task": "b", "tasks": [{"name": "a"}]}}')
    result = _run(file)
    assert result.exit_code == 2
    assert 'flow.json:1:36: error: there is no task "b"' in result.output
    outcomes = tmp_path / "outcomes.json"
    outcomes.write_text("{")
    assert "--outcomes: this is not JSON" in str(_run(file, outcomes=f"@{outcomes}").exception)


def test_a_file_may_hold_the_whole_request(file: Path) -> None:
    file.write_bytes(orjson.dumps({"flow": FLOW, "outcomes": {"check": False}}))
    result = _run(file)
    assert "Path: check\n" in result.output
    assert "Path: check > scan" in _run(file, outcomes={}).output
