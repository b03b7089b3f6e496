"""Bodies that are not what they should be: always refused, with a place, shortly."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest
from starlette.requests import Request
from starlette.testclient import TestClient
from starlette.types import Message

from api.bodies import read_body
from api.problems import MAX_FINDINGS, MAX_PROBLEM_BYTES
from api.refusals import BodyTooLarge, BodyTooSlow
from shared.settings import Settings
from tests.api_client import FLOW, open_client, settings_for

LIMIT_BYTES = 100_000
POSTS = (
    "/schedules",
    "/run-flow",
    "/flows/validate",
    "/flows/01980f2e-8a00-7000-8000-3f1b5d7a9c24/cancel",
)

NOT_JSON = [
    b"{",
    b"{'a': 1}",
    b'{"flow": }',
    b'{"a": NaN}',
    b'{"a": Infinity}',
    b'{"a": 1e400}',
    b'{"a": 1, "a": 2}',
    b'{"a": 123456789012345678901234567890}',
    b'{"a": "\\ud800"}',
    b'{"a": "\\u0000"}',
    b'{"a": "\x01"}',
    b"\xff\xfe{\x00}\x00",
    b'{"a": "\xff"}',
    b"\x00",
    b"[1, 2,]",
    b"{} {}",
    b"tru",
    b"[" * 5_000,
    b'{"a":' * 5_000,
    b"[" * 200 + b"]" * 200,
    b"flow=1&input=2",
    b"<flow/>",
]

NO_FLOW = [
    b"",
    b"   ",
    b"null",
    b"[]",
    b"1",
    b'"text"',
    b"{}",
    b'{"flow": null}',
    b'{"flow": []}',
    b'{"flow": {}, "input": 1}',
    b'{"input": 1}',
    b'{"flow": {"id": 1, "start_task": 2, "tasks": 3, "conditions": 4}}',
    b'{"flow": {"id": "a", "start_task": "a", "tasks": []}}',
    b'{"flow": {"id": "a", "start_task": "b", "tasks": [{"name": "a", "type": "noop"}]}}',
    b'{"flow": {"id": "a", "start_task": "a", "tasks": [{"name": "a"}, {"name": "a"}]}}',
    b'{"flow": {"id": "a", "start_task": "a", "tasks": [{"name": "a", "type": "unknown"}]}}',
    orjson.dumps({"flow": FLOW, "inptu": 1}),
    orjson.dumps({"flow": FLOW | {"tasks": [{"name": "x" * 50_000}]}}),
    orjson.dumps({"flow": FLOW | {"tasks": [{}] * 5_000}}),
    orjson.dumps({"flow": FLOW | {"\u00e9" * 9_000: 1}}),
]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("bodies")
    settings = settings_for(f"sqlite:///{folder}/flow.db", folder, max_body_bytes=LIMIT_BYTES)
    with open_client(settings) as client:
        yield client


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("body", NOT_JSON)
def test_what_is_not_json_is_a_400_with_a_place(client: TestClient, path: str, body: bytes) -> None:
    answer = client.post(path, content=body)
    assert answer.status_code == 400, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(answer.content) <= MAX_PROBLEM_BYTES
    assert answer.json()["errors"]


@pytest.mark.parametrize("body", NO_FLOW)
def test_what_is_no_flow_is_refused_with_places(client: TestClient, body: bytes) -> None:
    answer = client.post("/run-flow", content=body)
    assert answer.status_code in {400, 422}, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(answer.content) <= MAX_PROBLEM_BYTES
    assert 1 <= len(answer.json()["errors"]) <= MAX_FINDINGS


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json; charset=utf-16"},
        {"Content-Type": ""},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ],
)
def test_other_types_of_body_are_not_read(client: TestClient, headers: dict[str, str]) -> None:
    answer = client.post("/run-flow", content=orjson.dumps(FLOW), headers=headers)
    assert answer.status_code == 415
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "content_type", [None, "application/json", "Application/JSON;charset=UTF-8"]
)
def test_json_and_nothing_said_are_read(client: TestClient, content_type: str | None) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    answer = client.post("/run-flow", content=orjson.dumps(FLOW), headers=headers)
    assert answer.status_code == 202, answer.text


@pytest.mark.parametrize("path", POSTS)
def test_body_over_the_limit_is_refused_whether_it_says_so_or_not(
    client: TestClient, path: str
) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(LIMIT_BYTES // 10_000 + 1):
            yield b" " * 10_000

    for answer in (
        client.post(path, content=b" " * (LIMIT_BYTES + 1)),
        client.post(path, content=chunks()),
    ):
        assert answer.status_code == 413
        assert answer.headers["content-type"] == "application/problem+json"
        assert str(LIMIT_BYTES) in answer.json()["detail"]


def test_large_definition_is_judged_beside_the_loop_and_accepted(client: TestClient) -> None:
    tasks = [{"name": f"task-{n}", "type": "noop", "description": "d" * 60} for n in range(900)]
    flow = {"id": "large", "start_task": "task-0", "tasks": tasks}
    assert len(orjson.dumps(flow)) > 50_000
    assert client.post("/run-flow", json={"flow": flow}).status_code == 202


def _request(chunks: AsyncIterator[bytes], *headers: tuple[bytes, bytes]) -> Request:
    async def receive() -> Message:
        chunk = await anext(chunks, None)
        return {"type": "http.request", "body": chunk or b"", "more_body": chunk is not None}

    return Request({"type": "http", "method": "POST", "headers": list(headers)}, receive)


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        ([{"name": "a", "type": "nope"}], "The definition has an error."),
        ([{"name": f"t{n}", "type": "nope"} for n in range(5)], "has 5 errors."),
        ([{"name": f"t{n}", "type": "nope"} for n in range(50)], "has 50 errors; the first 20 are"),
        (
            [{"name": "a", "type": "sleep", "params": {f"{n:0400}": n for n in range(20)}}],
            "has 20 errors; the first",
        ),
    ],
)
def test_the_sentence_counts_all_errors_and_those_that_it_lists(
    client: TestClient, tasks: list[dict[str, Any]], said: str
) -> None:
    links = [
        {"source_task": one["name"], "target_task_success": other["name"]}
        for one, other in pairwise(tasks)
    ]
    flow = {"id": "f", "start_task": tasks[0]["name"], "tasks": tasks, "conditions": links}
    problem = client.post("/run-flow", json=flow).json()
    assert said in problem["detail"]
    if "first" in problem["detail"]:
        assert f"the first {len(problem['errors'])} are listed" in problem["detail"]


async def test_declared_length_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    was_read = False

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal was_read
        was_read = True
        yield b""

    settings = _settings(tmp_path)
    for length in (b"1001", b"9" * 5_000):
        with pytest.raises(BodyTooLarge):
            await read_body(_request(chunks(), (b"content-length", length)), settings)
    assert not was_read


async def test_stream_is_left_at_the_limit(tmp_path: Path) -> None:
    given = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal given
        while True:
            given += 100
            yield b" " * 100

    with pytest.raises(BodyTooLarge):
        await read_body(_request(chunks()), _settings(tmp_path))
    assert given == 1_100


async def test_slow_body_is_given_up(tmp_path: Path) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(0.02)
            yield b" "

    with pytest.raises(BodyTooSlow):
        await read_body(_request(chunks()), _settings(tmp_path))


def _settings(folder: Path) -> Settings:
    return settings_for(
        f"sqlite:///{folder}/flow.db", folder, max_body_bytes=1_000, request_timeout_seconds=0.2
    )
