"""What the command decides without any service: options, places, exit statuses, drawings."""

import io
import re
from pathlib import Path

import httpx2
import pytest
from pydantic import JsonValue, SecretStr
from rich.console import Console

from flow_manager.calls import RequestRefused, check, list_runs, run_flow
from flow_manager.command.checks import Verdict, judge_sqlite
from flow_manager.command.options import environment_with, read_overrides
from flow_manager.command.output import duration, rows_in
from flow_manager.command.runs import exit_status
from flow_manager.command.tree import draw, follow
from flow_manager.results import Run
from shared.errors import InvalidSettings
from shared.settings import Settings

RUN = {
    "flow_run_id": "0199aaaa-0000-7000-8000-000000000001",
    "flow_id": "media",
    "name": "Publish [bold]a picture[/bold]",
    "status": "running",
    "tasks": [
        {"task_run_id": "1", "name": "split", "branch": "main", "status": "success"},
        {"task_run_id": "2", "name": "resize", "branch": "main/split:resize", "status": "running"},
        {
            "task_run_id": "3",
            "name": "scan",
            "branch": "main/split:scan",
            "status": "failed",
            "error": {"type": "ValueError", "message": "too large\nby far"},
        },
    ],
}


def a_run(**changes: object) -> Run:
    return Run.model_validate(RUN | changes)


def drawn(run: Run) -> str:
    out = io.StringIO()
    console = Console(file=out, width=120, highlight=False)
    console.print(draw(run, console))
    return out.getvalue()


def test_every_setting_is_an_option() -> None:
    arguments = ["--lease-seconds", "6", "--task-modules=a,b"]
    assert read_overrides(arguments) == {"lease_seconds": "6", "task_modules": "a,b"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--lease-second", "6"], "did you mean --lease-seconds"),
        (["--lease-seconds"], "needs a value"),
        (["extra"], "there is no option extra"),
    ],
)
def test_an_option_that_is_no_setting_is_refused(arguments: list[str], said: str) -> None:
    with pytest.raises(InvalidSettings, match=said):
        read_overrides(arguments)


def test_options_reach_processes_as_environment() -> None:
    assert environment_with({"lease_seconds": "6"})["FLOW_LEASE_SECONDS"] == "6"


def test_a_bad_value_is_refused_before_a_process_is_started() -> None:
    with pytest.raises(InvalidSettings, match="FLOW_LEASE_SECONDS"):
        environment_with({"lease_seconds": "soon"})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"lease_seconds": "1", "heartbeat_seconds": "2"},
            r"^FLOW_LEASE_SECONDS \(1\) must be at least twice FLOW_HEARTBEAT_SECONDS \(2\)$",
        ),
        (
            {"webhook_urls": "https://example.org"},
            r"^FLOW_WEBHOOK_URLS needs a FLOW_WEBHOOK_SECRET$",
        ),
    ],
)
def test_values_that_do_not_go_together_are_named_as_they_are_set(
    given: dict[str, str], said: str
) -> None:
    with pytest.raises(InvalidSettings, match=said):
        environment_with(given)


@pytest.mark.parametrize(
    ("version", "verdict"),
    [
        ("3.6.23", Verdict.FINE),
        ("3.7.0", Verdict.WRONG),
        ("3.40.1", Verdict.WRONG),
        ("3.44.5", Verdict.WRONG),
        ("3.44.6", Verdict.FINE),
        ("3.45.0", Verdict.WRONG),
        ("3.50.6", Verdict.WRONG),
        ("3.50.7", Verdict.FINE),
        ("3.51.2", Verdict.WRONG),
        ("3.51.3", Verdict.FINE),
        ("3.53.4", Verdict.FINE),
    ],
)
def test_sqlite_with_the_wal_reset_bug_is_found(version: str, verdict: Verdict) -> None:
    assert judge_sqlite(version).verdict is verdict


@pytest.mark.parametrize(
    ("status", "outcome", "expected"),
    [
        ("completed", "success", 0),
        ("completed", "failure", 1),
        ("failed", None, 1),
        ("cancelled", None, 3),
    ],
)
def test_exit_status_tells_how_a_run_ended(status: str, outcome: str | None, expected: int) -> None:
    assert exit_status(a_run(status=status, outcome=outcome)) == expected


def test_tree_hangs_branches_where_they_forked_off() -> None:
    lines = drawn(a_run()).splitlines()
    assert "Publish" in lines[0]
    assert [line.lstrip(" │├└─").split()[0] for line in lines[1:]] == [
        *("✓", "split:resize", "▸", "split:scan", "✗"),
    ]


def test_tree_says_what_a_run_in_its_ending_will_come_to() -> None:
    ending = {"status": "cancelled", "outcome": None, "error": None}
    heading = drawn(a_run(status="running", outcome=None, ending=ending)).splitlines()[0]
    assert "running, in its ending: will be cancelled" in heading


def test_tree_shows_names_as_they_are_and_one_line_of_an_error() -> None:
    text = drawn(a_run())
    assert "[bold]a picture[/bold]" in text
    assert "ValueError: too large" in text
    assert "by far" not in text


def test_only_the_last_state_is_printed_where_there_is_no_terminal() -> None:
    out = io.StringIO()
    runs = [a_run(), a_run(status="completed", outcome="success")]
    follow(iter(runs), Console(file=out, width=120))
    assert out.getvalue().count("Publish") == 1


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(None, ""), (1.234, "1.2 ms"), (56.7, "57 ms"), (1_500, "1.5 s"), (90_000, "1 min 30 s")],
)
def test_durations_are_short(milliseconds: float | None, text: str) -> None:
    assert duration(milliseconds) == text


def test_rows_are_found_under_any_name() -> None:
    assert rows_in({"next_cursor": None, "flows": [{"a": 1}]}) == [{"a": 1}]
    assert rows_in([{"a": 1}, 2]) == [{"a": 1}]
    assert rows_in(None) == []


@pytest.mark.parametrize(
    ("definition", "given", "body"),
    [
        ({"id": "a"}, None, b'{"flow":{"id":"a"}}'),
        ({"id": "a"}, 7, b'{"flow":{"id":"a"},"input":7}'),
        ({"flow": {"id": "a"}, "input": 1}, None, b'{"flow":{"id":"a"},"input":1}'),
        ({"flow": {"id": "a"}, "input": 1}, 2, b'{"flow":{"id":"a"},"input":2}'),
    ],
)
def test_definitions_are_wrapped_once(
    definition: JsonValue, given: int | None, body: bytes
) -> None:
    assert run_flow(definition, given, idempotency_key=None).body == body


def test_filters_that_were_not_given_are_not_sent() -> None:
    assert list_runs({"status": None, "limit": 3}).query == {"limit": "3"}


def test_a_refusal_says_what_the_service_said() -> None:
    answer = httpx2.Response(
        422, json={"title": "Invalid", "status": 422, "detail": "No such task."}
    )
    with pytest.raises(RequestRefused, match="No such task") as refusal:
        check(answer)
    assert refusal.value.status == 422


def test_a_refusal_by_something_else_is_named_by_its_status() -> None:
    with pytest.raises(RequestRefused, match="Bad Gateway"):
        check(httpx2.Response(502, text="<html>"))


def test_the_operating_manual_lists_every_setting_with_its_default() -> None:
    manual = (Path(__file__).parents[2] / "docs" / "operating.md").read_text("utf-8")
    listed = dict(
        re.findall(r"^\| `(FLOW_[A-Z_]+)` \| (?:`([^`]*)`|none) \|", manual, re.MULTILINE)
    )
    assert listed == {
        f"FLOW_{name.upper()}": shown_default(field.default)
        for name, field in Settings.model_fields.items()
    }


def shown_default(default: object) -> str:
    """A default as the manual writes it."""
    if isinstance(default, SecretStr):
        return default.get_secret_value()
    if isinstance(default, tuple | dict):
        return ",".join(default)
    return str(default)
