"""The HTTP application inside the test's process, without workers and without Redis."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import JsonValue
from starlette.testclient import TestClient

from api.main import create_app
from shared.settings import Settings, load_settings

FLOW: dict[str, JsonValue] = {
    "id": "intake",
    "name": "Take in",
    "start_task": "first",
    "tags": ["nightly", 'quo"ted'],
    "tasks": [
        {"name": "first", "type": "noop"},
        {"name": "second", "type": "noop"},
    ],
    "conditions": [{"source_task": "first", "target_task_success": "second"}],
}


def settings_for(database_url: str, folder: Path, **overrides: object) -> Settings:
    """Settings of a service whose Redis does not exist."""
    return load_settings(
        database_url=database_url, redis_url=f"unix://{folder}/no-redis.sock", **overrides
    )


@contextmanager
def open_client(settings: Settings) -> Iterator[TestClient]:
    """A client of a running application. What the application did not expect is a 500."""
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield client
