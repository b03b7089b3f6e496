"""``GET /webhooks``, and runs that the API marks as to be told of."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from api import webhook_shapes
from shared.database import create_database
from shared.models_webhooks import DeliveryState
from shared.settings import Settings
from shared.store.webhooks import Delivered, Look, look_for_deliveries, record_deliveries
from tests.api_client import FLOW, open_client, settings_for

AT = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
LOOK = Look({"a" * 16: "hooks.example.com"}, {"a" * 16: 8}, "", AT, AT)


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    plain = settings_for(database_url, tmp_path)
    values = plain.model_dump() | {
        "webhook_urls": "https://hooks.example.com/?token=hidden",
        "webhook_secret": "k" * 16,
    }
    return Settings(**values)


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    with open_client(settings) as client:
        yield client


def _listed(client: TestClient, **query: str) -> webhook_shapes.WebhookPage:
    answer = client.get("/webhooks", params=query)
    assert answer.status_code == 200
    assert b"hidden" not in answer.content
    return webhook_shapes.WebhookPage.model_validate_json(answer.content)


def test_the_end_of_a_submitted_run_is_told_and_its_refusal_listed(
    client: TestClient, settings: Settings
) -> None:
    run_id = client.post("/run-flow", json={"flow": FLOW}).json()["flow_run_id"]
    assert client.post(f"/flows/{run_id}/cancel").status_code == 202
    assert _listed(client).webhooks == []
    database = create_database(settings)
    with database.write() as connection:
        (looked,) = look_for_deliveries(connection, [LOOK])
    (pending,) = _listed(client, state="pending").webhooks
    assert (pending.flow_run_id, pending.type) == (run_id, "flow_manager.run.cancelled")
    with database.write() as connection:
        result = Delivered(looked.taken[0], DeliveryState.DEAD, AT, 404, "no", AT)
        record_deliveries(connection, [result])
    database.close()
    (dead,) = _listed(client).webhooks
    assert (dead.state, dead.status_code, dead.error) == ("dead", 404, "no")
    assert (dead.host, dead.attempts, dead.next_at) == ("hooks.example.com", 1, None)


def test_a_state_that_there_is_none_of_is_refused(client: TestClient) -> None:
    assert client.get("/webhooks", params={"state": "lost"}).status_code == 422
