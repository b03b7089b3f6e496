"""The event that tells how a run ended."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import orjson
import pytest

from shared.run_events import EndedRun, run_event

ENDED = datetime(2026, 1, 2, 3, 4, 6, tzinfo=UTC)
RUN = EndedRun(
    flow_run_id="run-1",
    flow_id="intake",
    name="Intake",
    status="completed",
    outcome="success",
    tags=b'["nightly"]',
    error=None,
    created_at=ENDED - timedelta(seconds=1.5),
    started_at=ENDED - timedelta(seconds=1),
    finished_at=ENDED,
    parent_flow_run_id=None,
)


def test_it_has_what_cloud_events_ask_for() -> None:
    event = orjson.loads(run_event("event-1", RUN, "https://flows.example/api"))
    data = event.pop("data")
    assert event == {
        "specversion": "1.0",
        "id": "event-1",
        "source": "https://flows.example/api/flows",
        "type": "flow_manager.run.completed",
        "subject": "run-1",
        "time": "2026-01-02T03:04:06.000000Z",
        "datacontenttype": "application/json",
    }
    assert data["links"] == {"self": "https://flows.example/api/flows/run-1"}
    assert (data["duration_ms"], data["tags"], data["error"]) == (1500.0, ["nightly"], None)
    assert (data["status"], data["outcome"]) == ("completed", "success")


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_its_type_is_the_status(status: str) -> None:
    event = orjson.loads(run_event("event-1", replace(RUN, status=status), ""))
    assert event["type"] == f"flow_manager.run.{status}"
    assert event["data"]["links"] == {"self": "/flows/run-1"}


def test_an_error_is_told_in_short() -> None:
    error = {"task": "a", "type": "ValueError", "message": "x" * 5_000, "traceback": "secret"}
    run = replace(RUN, status="failed", outcome=None, error=orjson.dumps(error), started_at=None)
    told = orjson.loads(run_event("event-1", run, ""))["data"]["error"]
    assert told.keys() == {"task", "type", "message"}
    assert len(told["message"]) == 1_000
