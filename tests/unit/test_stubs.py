"""Outcomes as JSON: what they mean, and where what is wrong with them stands."""

from typing import Any

import pytest

from shared.findings import Findings
from shared.stubs import read_scripts, read_signals


def _wrong(outcomes: Any) -> list[tuple[str, str]]:
    findings = Findings(20)
    read_scripts(outcomes, ["scan", "pack"], "/outcomes", findings)
    return [(finding.pointer, finding.code) for finding in findings.errors]


@pytest.mark.parametrize(
    ("outcome", "kind", "content", "error"),
    [
        (True, "success", b"{}", None),
        (False, "failure", b"{}", None),
        ("failure", "failure", b"{}", None),
        ({"data": [1]}, "success", b"[1]", None),
        ({"success": False, "data": None}, "failure", b"null", None),
        ({"error": "no"}, "error", None, "Exception"),
        ({"error": {"type": "ValueError", "message": "no"}}, "error", None, "ValueError"),
        ("timeout", "error", None, "TaskTimeout"),
    ],
)
def test_outcomes_are_read(outcome: Any, kind: str, content: bytes, error: str | None) -> None:
    findings = Findings(20)
    answer = read_scripts({"scan": outcome}, ["scan"], "", findings)["scan"].answers[0]
    assert (answer.kind, answer.content) == (kind, content)
    assert (answer.error and answer.error["type"]) == error
    assert findings.errors == []


@pytest.mark.parametrize(
    ("outcomes", "pointer", "code"),
    [
        ([], "/outcomes", "wrong_type"),
        ({"scn": True}, "/outcomes/scn", "unknown_task"),
        ({"scan": 7}, "/outcomes/scan", "bad_outcome"),
        ({"scan": "maybe"}, "/outcomes/scan", "bad_outcome"),
        ({"scan": []}, "/outcomes/scan", "bad_outcome"),
        ({"scan": [True, None]}, "/outcomes/scan/1", "bad_outcome"),
        ({"scan": {"rows": 3}}, "/outcomes/scan/rows", "unknown_field"),
        ({"scan": {"success": "yes"}}, "/outcomes/scan/success", "wrong_type"),
        ({"scan": {"error": 7}}, "/outcomes/scan/error", "bad_outcome"),
        ({"scan": {"error": {"type": "E", "why": ""}}}, "/outcomes/scan/error", "bad_outcome"),
        ({"scan": {"error": "no", "data": 1}}, "/outcomes/scan/error", "bad_outcome"),
        ({"scan": {"seconds": "soon"}}, "/outcomes/scan/seconds", "wrong_value"),
        ({"scan": {"items": []}}, "/outcomes/scan/items", "bad_outcome"),
        ({"scan": {"items": [True], "data": 1}}, "/outcomes/scan/items", "bad_outcome"),
        ({"scan": {"items": [[True, 7]]}}, "/outcomes/scan/items/0/1", "bad_outcome"),
    ],
)
def test_what_is_wrong_is_located(outcomes: Any, pointer: str, code: str) -> None:
    assert _wrong(outcomes) == [(pointer, code)]


def test_signals_are_an_object() -> None:
    findings = Findings(20)
    assert read_signals([], "/signals", findings) == {}
    assert findings.errors[0].pointer == "/signals"
