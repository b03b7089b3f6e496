"""Redirects, and what errors tell; the answers come from the tests' own world."""

import httpcore2
import pytest

from tests.unit.outbound_world import OK, PUBLIC, World, get, redirect_to
from worker.outbound.client import Outbound
from worker.outbound.errors import ConnectionFailed, HttpError, RequestRefused, RequestTimedOut
from worker.outbound.messages import OutboundRequest
from worker.outbound.policy import OutboundPolicy
from worker.outbound.urls import read_url


@pytest.fixture
def world() -> World:
    names = {"example.com": PUBLIC, "other.example": PUBLIC, "postgres": "10.0.0.5"}
    return World(names={name: [[address]] for name, address in names.items()})


# --- Redirects -----------------------------------------------------------------------------------


async def test_redirects_are_followed_only_if_asked(world: World) -> None:
    world.answers = [redirect_to("/there"), OK]
    response = await world.outbound().send(get("http://example.com/"))
    assert (response.status, response.headers["location"]) == (302, "/there")


async def test_redirects_have_a_limit(world: World) -> None:
    world.answers = [redirect_to("/again")]
    with pytest.raises(RequestRefused, match=r"http_max_redirects \(2\)"):
        await world.outbound(OutboundPolicy(max_redirects=2)).send(
            get("http://example.com/"), follow_redirects=True
        )
    assert len(world.connects) == 3


async def test_another_origin_sees_no_credentials(world: World) -> None:
    world.answers = [redirect_to("/a"), redirect_to("https://other.example/b"), OK]
    request = get(
        "https://example.com/", authorization="secret", x_api_key="secret", cookie="secret",
        idempotency_key="k", accept="text/plain",
    )  # fmt: skip
    response = await world.outbound().send(request, follow_redirects=True)
    assert str(response.url) == "https://other.example/b"
    first, second, third = (stream.sent.lower() for stream in world.streams)
    assert first.count(b"secret") == second.count(b"secret") == 3
    assert b"secret" not in third
    assert b"idempotency-key" not in third
    assert b"host: other.example\r\n" in third
    assert b"accept: text/plain\r\n" in third
    assert all(stream.is_closed for stream in world.streams)


async def test_a_redirect_does_not_leave_encryption(world: World) -> None:
    world.answers = [redirect_to("http://example.com/"), OK]
    with pytest.raises(RequestRefused, match="not encrypted"):
        await world.outbound().send(get("https://example.com/"), follow_redirects=True)
    assert len(world.connects) == 1


@pytest.mark.parametrize(
    ("method", "status", "then", "body"),
    [
        ("POST", 301, b"GET", b""), ("POST", 302, b"GET", b""), ("PUT", 303, b"GET", b""),
        ("POST", 307, b"POST", b"data"), ("PUT", 308, b"PUT", b"data"),
        ("PUT", 302, b"PUT", b"data"), ("HEAD", 303, b"HEAD", b"data"),
    ],
)  # fmt: skip
async def test_redirects_keep_the_method_as_browsers_do(
    world: World, method: str, status: int, then: bytes, body: bytes
) -> None:
    world.answers = [redirect_to("/there", status), redirect_to("/", 304)]
    request = OutboundRequest(
        method=method,
        url=read_url("http://example.com/"),
        headers={"content-type": "text/plain"},
        body=b"data",
    )
    await world.outbound().send(request, follow_redirects=True)
    head, _, sent = world.streams[1].sent.partition(b"\r\n\r\n")
    assert head.startswith(then + b" /there HTTP/1.1\r\n")
    assert sent == body
    assert (b"content-type" in head) == bool(body)


async def test_cookies_are_not_kept(world: World) -> None:
    cookie = b"HTTP/1.1 302 Found\r\nSet-Cookie: a=b\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"
    world.answers = [cookie, OK]
    outbound = world.outbound()
    await outbound.send(get("http://example.com/"), follow_redirects=True)
    await outbound.send(get("http://example.com/"))
    assert not any(b"ookie" in stream.sent for stream in world.streams)


async def test_the_environment_changes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:3128")
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere.pem")
    outbound = Outbound(OutboundPolicy(), world.resolve, world)
    await outbound.send(get("https://example.com/"))
    assert world.connects == [(PUBLIC, 443)]


# --- What errors tell ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nSecret: \x00secret\r\n\r\n",
     b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
     b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 6\r\n\r\nsecret",
     b"HTTP/1.1 200 OK\r\nContent-Encoding: " + b"gzip, " * 50 + b"gzip\r\n\r\n",
     b"HTTP/1.1 200 OK\r\nX: " + b"secret" * 50_000 + b"\r\n\r\n"],
)  # fmt: skip
async def test_errors_tell_the_origin_and_no_secret(world: World, answer: bytes) -> None:
    world.answers = [answer]
    request = get("https://example.com/secret?secret=secret", authorization="secret")
    with pytest.raises(HttpError, match=r"^GET https://example\.com: ") as failed:
        await world.outbound().send(request)
    assert "secret" not in str(failed.value)
    assert failed.value.__cause__ is None
    assert failed.value.__suppress_context__
    assert world.streams[0].is_closed


async def test_a_refusal_does_not_tell_the_addresses_of_private_names(world: World) -> None:
    with pytest.raises(RequestRefused) as refused:
        await world.outbound().send(get("http://postgres/"))
    assert "10.0.0.5" not in str(refused.value)


async def test_an_unknown_name_is_a_failed_connection(world: World) -> None:
    with pytest.raises(ConnectionFailed, match=r"unknown\.example .*Name or service not known"):
        await world.outbound().send(get("http://unknown.example/"))


@pytest.mark.parametrize(
    ("raised", "kind", "told"),
    [
        (httpcore2.ConnectTimeout(), RequestTimedOut, "no connection within 10 s"),
        (httpcore2.ReadTimeout(), RequestTimedOut, "the connection timed out"),
        (httpcore2.ReadError(), ConnectionFailed, "the connection broke off"),
        (ConnectionResetError(104, "secret"), ConnectionFailed, "Connection reset by peer"),
    ],
)
async def test_connections_that_fail_are_told_alike(
    world: World, raised: Exception, kind: type[HttpError], told: str
) -> None:
    if isinstance(raised, OSError):
        error = httpcore2.ConnectError("secret")
        error.__cause__ = raised
        raised = error
    world.dead = {PUBLIC: raised}
    with pytest.raises(kind, match=f"^GET http://example.com: {told}"):
        await world.outbound().send(get("http://example.com/"))


async def test_headers_that_cannot_be_sent_are_not_quoted(world: World) -> None:
    with pytest.raises(RequestRefused) as refused:
        await world.outbound().send(get("http://example.com/", x="secret\r\nX: secret"))
    assert "secret" not in str(refused.value)
    assert world.streams[0].sent == b""
