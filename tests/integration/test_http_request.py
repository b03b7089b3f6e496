"""The task ``http_request`` against a real server: what is asked, and what the answer comes to."""

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from tests.integration.http_calls import call, calling, data_of, error_of
from tests.integration.http_server import HttpServer, answering, serving
from worker.execution import Executor


@pytest.fixture
async def server() -> AsyncIterator[HttpServer]:
    server = HttpServer()
    async with serving(server):
        yield server


@pytest.fixture
async def executor() -> AsyncIterator[Executor]:
    with calling() as executor:
        yield executor


# --- What is asked -------------------------------------------------------------------------------


async def test_a_json_answer_becomes_data(server: HttpServer, executor: Executor) -> None:
    server.answer = answering(b'{"rows": [1, 2]}', content_type="application/json", x_a="b")
    data = data_of(await call(executor, url=f"{server.url}/rows?a=1#part"))
    assert data.pop("duration_ms") > 0
    assert data == {
        "status": 200,
        "headers": {"content-type": "application/json", "x-a": "b", "content-length": "16"},
        "json": {"rows": [1, 2]},
        "url": f"{server.url}/rows?***",
    }
    (request,) = server.received
    assert (request.method, request.target) == ("GET", "/rows?a=1")
    assert "idempotency-key" not in request.headers


async def test_json_is_sent_with_its_type_and_an_idempotency_key(
    server: HttpServer, executor: Executor
) -> None:
    data_of(await call(executor, url=server.url, method="post", json={"ü": [1, None]}))
    (request,) = server.received
    assert orjson.loads(request.body) == {"ü": [1, None]}
    assert request.method == "POST"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["idempotency-key"] == "run-1:call%20it:2"
    assert request.headers["host"] == f"127.0.0.1:{server.port}"


@pytest.mark.parametrize(
    ("params", "sent"),
    [
        ({"method": "PUT"}, "run-1:call%20it:2"),
        ({"method": "DELETE", "idempotency_key": False}, None),
        ({"method": "POST", "headers": {"Idempotency-Key": "mine"}}, "mine"),
        ({"method": "HEAD"}, None),
        ({"method": "OPTIONS"}, None),
    ],
)
async def test_the_idempotency_key_can_be_switched_off_and_replaced(
    server: HttpServer, executor: Executor, params: dict[str, Any], sent: str | None
) -> None:
    data_of(await call(executor, url=server.url, **params))
    assert server.received[0].headers.get("idempotency-key") == sent


async def test_body_headers_and_query_are_sent_as_given(
    server: HttpServer, executor: Executor
) -> None:
    query = {"a": [1, "x y"], "b": None, "c": True, "d": 1.5, "e": "ü&="}
    headers = {"Content-Type": "text/csv", "X-Key": " padded "}
    await call(
        executor, url=f"{server.url}/?z=0", method="PATCH", body="ä,b", query=query, headers=headers
    )
    (request,) = server.received
    assert request.target == "/?z=0&a=1&a=x+y&c=true&d=1.5&e=%C3%BC%26%3D"
    assert request.body == "ä,b".encode()
    assert request.headers["content-type"] == "text/csv"
    assert request.headers["x-key"] == "padded"


async def test_json_null_is_sent(server: HttpServer, executor: Executor) -> None:
    await call(executor, url=server.url, method="POST", json=None)
    assert server.received[0].body == b"null"


@pytest.mark.parametrize(
    "params",
    [
        {"json": 1, "body": "x"}, {"method": "CONNECT"}, {"method": "TRACE"}, {"expect": []},
        {"expect": ["6xx"]}, {"expect": 99}, {"expect": "200-"}, {"timeout": 0},
        {"headers": {"Host": "other"}}, {"headers": {"content-length": "0"}},
        {"headers": {"Transfer-Encoding": "chunked"}}, {"headers": {"a b": "c"}},
        {"headers": {"a": "hunter2\r\nX: y"}}, {"headers": {"a": "hunter2\x00"}},
        {"headers": {"a": "1", "A": "2"}}, {"headers": {"a": "hunter2" * 5_000}},
        {"headers": {"hünter2": "x"}}, {"headers": {"": "x"}}, {"follow": True}, {"url": ""},
    ],
)  # fmt: skip
async def test_params_that_cannot_be_sent_are_refused_without_their_values(
    server: HttpServer, executor: Executor, params: dict[str, Any]
) -> None:
    kind, message = error_of(await call(executor, **{"url": server.url, **params}))
    assert kind == "InvalidParams"
    assert "hunter2" not in message
    assert server.connections == 0


# --- What the answer comes to --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "expect", "kind"),
    [
        (200, None, "success"), (204, None, "success"), (302, None, "failure"),
        (400, None, "failure"), (404, None, "failure"), (409, None, "failure"),
        (408, None, "error"), (425, None, "error"), (429, None, "error"), (500, None, "error"),
        (503, None, "error"), (599, None, "error"),
        (404, [404], "success"), (503, [200, "5xx"], "success"), (201, 200, "failure"),
        (204, "200-203", "failure"), (203, ["200-203"], "success"), (302, "3XX", "success"),
    ],
)  # fmt: skip
async def test_the_status_decides(
    server: HttpServer, executor: Executor, status: int, expect: Any, kind: str
) -> None:
    server.answer = answering(status=status)
    params = {} if expect is None else {"expect": expect}
    result = await call(executor, url=server.url, **params)
    assert result.kind == kind
    if kind == "error":
        assert error_of(result)[0] == "UnexpectedStatus"
        assert f"answered {status}" in error_of(result)[1]
    else:
        assert data_of(result, kind)["status"] == status


@pytest.mark.parametrize(
    ("body", "content_type", "response", "read"),
    [
        (b"[1]", "application/json", "auto", {"json": [1]}),
        (b"[1]", "application/problem+json; charset=utf-8", "auto", {"json": [1]}),
        (b"[1]", "text/plain", "auto", {"body": "[1]"}),
        (b"[1]", "text/plain", "json", {"json": [1]}),
        (b"[1]", "application/json", "text", {"body": "[1]"}),
        (b"[1", "application/json", "auto", {"body": "[1"}),
        (b"", "application/json", "auto", {"json": None}),
        (b"", "text/plain", "json", {"json": None}),
        (b"\xe4", "text/plain; charset=ISO-8859-1", "auto", {"body": "ä"}),
        (b"\xe4\x00", "text/plain", "auto", {"body": "\ufffd\ufffd"}),
        ("ä".encode("utf-16"), 'text/plain; charset="utf-16"', "auto", {"body": "ä"}),
        (b"-x", "text/plain; charset=punycode", "auto", {"body": "-x"}),
        (b"x", "nonsense", "auto", {"body": "x"}),
    ],
)
async def test_the_body_is_read_by_its_type(
    server: HttpServer,
    executor: Executor,
    body: bytes,
    content_type: str,
    response: str,
    read: dict[str, Any],
) -> None:
    server.answer = answering(body, content_type=content_type)
    data = data_of(await call(executor, url=server.url, response=response))
    assert {name: data[name] for name in ("json", "body") if name in data} == read


async def test_json_that_was_asked_for_and_is_none_is_an_error(
    server: HttpServer, executor: Executor
) -> None:
    server.answer = answering(b"<html>", content_type="application/json")
    kind, message = error_of(await call(executor, url=server.url, response="json"))
    assert (kind, message) == ("InvalidResponse", f"{server.url}: the answer is no JSON")


async def test_a_failure_gives_what_came_instead_of_json(
    server: HttpServer, executor: Executor
) -> None:
    server.answer = answering(b"<html>no</html>", 404, content_type="text/html")
    data = data_of(await call(executor, url=server.url, response="json"), "failure")
    assert data["body"] == "<html>no</html>"


async def test_cookies_are_not_recorded(server: HttpServer, executor: Executor) -> None:
    server.answer = answering(set_cookie="session=secret", x_a="b")
    result = await call(executor, url=server.url)
    assert b"secret" not in (result.data or b"")
    assert data_of(result)["headers"] == {"x-a": "b", "content-length": "0"}


async def test_one_line_is_logged_without_path_and_query(
    server: HttpServer, executor: Executor
) -> None:
    result = await call(executor, url=f"{server.url}/secret?secret")
    assert [line.message for line in result.logs] == [f"GET {server.url} answered 204 No Content"]
