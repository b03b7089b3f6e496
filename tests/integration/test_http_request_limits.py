"""The task ``http_request`` against servers that misbehave, and against its own guard."""

import asyncio
import gzip
import shutil
import ssl
import subprocess
import zlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.integration.http_calls import (
    LIMIT,
    POLICY,
    TRUSTS_NOBODY,
    call,
    calling,
    data_of,
    error_of,
)
from tests.integration.http_server import HttpServer, answering, for_ever, never, serving, written
from tests.waiting import wait_until
from worker.execution import Executor
from worker.outbound.client import Outbound
from worker.outbound.process import install

GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03"
EMPTY_BLOCK = b"\x00\x00\x00\xff\xff"
"""Of deflate: decodes to nothing, as often as one likes."""


@pytest.fixture
async def server() -> AsyncIterator[HttpServer]:
    server = HttpServer()
    async with serving(server):
        yield server


@pytest.fixture
async def executor() -> AsyncIterator[Executor]:
    with calling() as executor:
        yield executor


async def test_an_answer_of_exactly_the_limit_is_read(
    server: HttpServer, executor: Executor
) -> None:
    server.answer = answering(b"x" * LIMIT)
    assert len(data_of(await call(executor, url=server.url))["body"]) == LIMIT


@pytest.mark.parametrize(
    "answer",
    [
        answering(b"x" * (LIMIT + 1)),
        for_ever(b"x" * 10_000),
        for_ever(b"a\r\n0123456789\r\n", transfer_encoding="chunked"),
        answering(gzip.compress(bytes(50_000_000)), content_encoding="gzip"),
        answering(zlib.compress(bytes(50_000_000)), content_encoding="deflate"),
        answering(gzip.compress(gzip.compress(bytes(50_000_000))), content_encoding="gzip, gzip"),
        for_ever(EMPTY_BLOCK * 1_000, head=GZIP_HEADER, content_encoding="gzip"),
    ],
    ids=["over", "endless", "chunks", "gzip", "deflate", "nested", "nothing"],
)
async def test_a_larger_answer_is_refused_while_it_comes(
    server: HttpServer, executor: Executor, answer: Any
) -> None:
    server.answer = answer
    kind, message = error_of(await call(executor, url=server.url))
    assert kind == "ResponseTooLarge"
    assert message == (
        f"GET {server.url}: the answer is larger than http_max_response_bytes ({LIMIT})"
    )


@pytest.mark.parametrize(
    "answer",
    [
        never,
        for_ever(b"x", pause_seconds=0.01),
        written(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"),
        for_ever(b"HTTP/1.1 103 Early Hints\r\n\r\n", pause_seconds=0.01),
    ],
    ids=["silent", "dripping", "cut short", "only hints"],
)
async def test_an_answer_that_is_not_complete_in_time_is_an_error(
    server: HttpServer, executor: Executor, answer: Any
) -> None:
    if answer is not never:
        first = answer

        async def answer_and_wait(writer: asyncio.StreamWriter) -> None:
            await first(writer)
            await asyncio.Event().wait()

        answer = answer_and_wait
    server.answer = answer
    kind, message = error_of(await call(executor, url=server.url, timeout=0.2))
    assert (kind, message) == (
        "RequestTimedOut",
        f"GET {server.url}: no complete answer within 0.2 s",
    )
    await wait_until(lambda: server.closed_by_client == 1, description="the connection is closed")


async def test_the_time_limit_holds_for_all_redirects_together(
    server: HttpServer, executor: Executor
) -> None:
    async def slowly(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.1)
        await answering(status=302, location="/again")(writer)

    server.answer = slowly
    result = await call(executor, url=server.url, timeout=0.25, follow_redirects=True)
    assert error_of(result)[0] == "RequestTimedOut"


async def test_cancelling_closes_the_connection(server: HttpServer, executor: Executor) -> None:
    server.answer = for_ever(b"x", pause_seconds=0.01)
    calling = asyncio.ensure_future(call(executor, url=server.url))
    await wait_until(lambda: server.received, description="the request has come")
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    await wait_until(lambda: server.closed_by_client == 1, description="the connection is closed")


async def test_the_tasks_own_timeout_closes_the_connection(
    server: HttpServer, executor: Executor
) -> None:
    server.answer = never
    result = await call(executor, timeout_seconds=0.1, url=server.url)
    assert error_of(result)[0] == "TaskTimeout"
    await wait_until(lambda: server.closed_by_client == 1, description="the connection is closed")


async def test_a_tls_handshake_that_hangs_is_closed(executor: Executor) -> None:
    closed = asyncio.Event()

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        closed.set()

    listening = await asyncio.start_server(swallow, "127.0.0.1", 0)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        result = await call(executor, url=f"https://127.0.0.1:{port}/", timeout=0.1)
        assert error_of(result)[0] == "RequestTimedOut"
        await asyncio.wait_for(closed.wait(), 5)


async def test_nobody_listening_is_a_failed_connection(
    server: HttpServer, executor: Executor
) -> None:
    port = server.port
    unused = HttpServer()
    async with serving(unused):
        port = unused.port
    kind, message = error_of(await call(executor, url=f"http://127.0.0.1:{port}/"))
    assert (kind, message) == (
        "ConnectionFailed",
        f"GET http://127.0.0.1:{port}: Connection refused",
    )


async def test_each_request_has_a_connection_of_its_own(
    server: HttpServer, executor: Executor
) -> None:
    server.answer = answering(b"ok")
    for _ in range(3):
        data_of(await call(executor, url=server.url))
    assert server.connections == 3
    assert server.received[0].headers["connection"] == "close"


# --- The guard -----------------------------------------------------------------------------------


async def test_by_default_the_own_machine_cannot_be_called(
    server: HttpServer, executor: Executor
) -> None:
    install(None)
    for host in ("127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]"):
        result = await call(executor, url=f"http://{host}:{server.port}/")
        assert error_of(result)[0] == "RequestRefused"
    assert server.connections == 0


@pytest.mark.parametrize(
    "location",
    ["http://10.0.0.1/", "//169.254.169.254/latest", "http://[::1]:{port}/", "file:///etc/passwd"],
)
async def test_a_redirect_inside_is_refused(
    server: HttpServer, executor: Executor, location: str
) -> None:
    server.answer = answering(status=302, location=location.format(port=server.port))
    result = await call(executor, url=server.url, follow_redirects=True)
    assert error_of(result)[0] == "RequestRefused"
    assert server.connections == 1


async def test_a_redirect_that_is_allowed_is_followed(
    server: HttpServer, executor: Executor
) -> None:
    async def once(writer: asyncio.StreamWriter) -> None:
        first = len(server.received) == 1
        await (answering(status=303, location="/b?c") if first else answering(b"ok"))(writer)

    server.answer = once
    data = data_of(
        await call(executor, url=f"{server.url}/a", method="POST", body="x", follow_redirects=True)
    )
    assert (data["status"], data["url"], data["body"]) == (200, f"{server.url}/b?***", "ok")
    assert [(r.method, r.target) for r in server.received] == [("POST", "/a"), ("GET", "/b?c")]


async def test_no_secret_of_the_request_is_recorded(server: HttpServer, executor: Executor) -> None:
    secret = "hunter2"
    server.answer = answering(status=500)
    requests: Sequence[dict[str, Any]] = [
        {"url": f"{server.url}/{secret}?k={secret}", "query": {"q": secret}},
        {"url": f"http://user:{secret}@127.0.0.1:{server.port}/"},
        {"url": f"http://127.0.0.1:1/{secret}?{secret}"},
        {"url": f"ftp://127.0.0.1/{secret}"},
        {"url": f"https://127.0.0.1:{server.port}/{secret}"},
    ]
    for request in requests:
        params = {
            "method": "POST",
            "json": secret,
            "headers": {"Authorization": secret},
            "timeout": 0.3,
        }
        result = await call(executor, **{**params, **request})
        assert result.kind == "error"
        assert secret not in repr(result)


# --- TLS -----------------------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Of ``service.test``, signed by itself, in one file with its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    key, signed = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-days", "1", "-subj", "/CN=service.test", "-addext",
            "subjectAltName=DNS:service.test", "-keyout", str(key), "-out", str(signed),
        ],
        check=True,
        capture_output=True,
        timeout=20,
    )  # fmt: skip
    signed.write_text(signed.read_text() + key.read_text())
    return signed


async def test_the_certificate_is_checked_against_the_name(
    certificate: Path, executor: Executor
) -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    ours, theirs = (
        ssl.create_default_context(cafile=certificate),
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER),
    )
    theirs.load_cert_chain(certificate)
    server = HttpServer(answer=answering(b"ok"))
    async with serving(server, theirs):
        install(Outbound(POLICY, resolve, tls=ours))
        data = data_of(await call(executor, url=f"https://service.test:{server.port}/"))
        assert data["body"] == "ok"
        assert server.received[0].headers["host"] == f"service.test:{server.port}"
        kind, message = error_of(await call(executor, url=f"https://other.test:{server.port}/"))
        assert kind == "ConnectionFailed"
        assert "certificate" in message
        install(Outbound(POLICY, resolve, tls=TRUSTS_NOBODY))
        result = await call(executor, url=f"https://service.test:{server.port}/")
        assert error_of(result)[0] == "ConnectionFailed"
    assert len(server.received) == 1
