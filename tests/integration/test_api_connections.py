"""Connections that say little, much, or nonsense, against the real server."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest
import uvicorn

from api import connections
from api.server import configuration
from tests.api_client import FLOW, settings_for
from tests.servers import free_port
from tests.waiting import wait_until

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

BODY = orjson.dumps(FLOW)
POST = (
    b"POST /run-flow HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n" % len(BODY)
)
GET = b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
async def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """A running server that has little patience."""
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(connections, "REST_SECONDS", 0.3)
    settings = settings_for(
        f"sqlite:///{tmp_path}/flow.db", tmp_path, max_body_bytes=1_000, request_timeout_seconds=0.5
    )
    port = free_port()
    server = uvicorn.Server(configuration(settings, host="127.0.0.1", port=port))
    async with asyncio.TaskGroup() as group:
        group.create_task(server._serve())
        await wait_until(lambda: server.started, description="the server listens")
        yield port
        server.should_exit = True


@contextlib.asynccontextmanager
async def _connected(port: int) -> AsyncIterator[Streams]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    async with asyncio.timeout(5):
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
        return int(head.split()[1]), await reader.readexactly(length)


async def _is_closed(reader: asyncio.StreamReader) -> bool:
    try:
        async with asyncio.timeout(3):
            while await reader.read(65_536):
                pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize("beginning", [b"", b"G", b"GET / HTTP/1.1\r\nHost: a\r\n", b"\r\n\r\n"])
async def test_half_open_connections_are_closed(port: int, beginning: bytes) -> None:
    async with contextlib.AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(_connected(port)) for _ in range(50)]
        for _, writer in opened:
            writer.write(beginning)
        async with _connected(port) as (reader, writer):
            writer.write(POST + BODY)
            assert (await _answer(reader))[0] == 202
        assert all(await asyncio.gather(*(_is_closed(reader) for reader, _ in opened)))


async def test_head_that_drips_is_not_waited_for(port: int) -> None:
    async with _connected(port) as (reader, writer):
        began = asyncio.get_running_loop().time()
        closed = asyncio.ensure_future(_is_closed(reader))
        with contextlib.suppress(ConnectionError):
            while not closed.done() and asyncio.get_running_loop().time() - began < 3:
                writer.write(b"X")
                await asyncio.sleep(0.05)
        assert await closed
        assert asyncio.get_running_loop().time() - began < 2


async def test_requests_follow_each_other_on_one_connection(port: int) -> None:
    async with _connected(port) as (reader, writer):
        for _ in range(3):
            writer.write(POST + BODY)
            assert (await _answer(reader))[0] == 202
        writer.write(GET + GET)
        assert [(await _answer(reader))[0] for _ in range(2)] == [200, 200]


async def test_second_request_that_stays_half_is_given_up(port: int) -> None:
    async with _connected(port) as (reader, writer):
        writer.write(GET)
        assert (await _answer(reader))[0] == 200
        writer.write(b"GET /hea")
        assert await _is_closed(reader)


async def test_slow_body_is_answered_and_its_connection_closed(port: int) -> None:
    async with _connected(port) as (reader, writer):
        writer.write(POST + BODY[:5])
        status, content = await _answer(reader)
        assert (status, orjson.loads(content)["status"]) == (408, 408)
        assert await _is_closed(reader)


async def test_rest_of_a_refused_body_is_thrown_away_and_the_connection_goes_on(port: int) -> None:
    async with _connected(port) as (reader, writer):
        writer.write(b"POST /run-flow HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n")
        assert (await _answer(reader))[0] == 413
        writer.write(b" " * 5_000 + GET)
        assert (await _answer(reader))[0] == 200


async def test_rest_of_a_refused_body_is_not_waited_for_long(port: int) -> None:
    async with _connected(port) as (reader, writer):
        writer.write(b"POST /run-flow HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n ")
        assert (await _answer(reader))[0] == 413
        assert await _is_closed(reader)


async def test_endless_headers_are_refused(port: int) -> None:
    async with _connected(port) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nA: " + b"b" * (connections.MAX_HEAD_BYTES + 10))
        status, content = await _answer(reader)
        assert (status, orjson.loads(content)["status"]) == (431, 431)
        assert await _is_closed(reader)


@pytest.mark.parametrize(
    "nonsense", [b"\x16\x03\x01\x02\x00\x01", b"HELLO\r\n\r\n", b"GET /\xff HTTP/1.1\r\n\r\n"]
)
async def test_what_is_not_http_is_a_problem(port: int, nonsense: bytes) -> None:
    async with _connected(port) as (reader, writer):
        writer.write(nonsense)
        status, content = await _answer(reader)
        assert (status, orjson.loads(content)["status"]) == (400, 400)
        assert await _is_closed(reader)


async def test_stopping_lets_go_whoever_waits_for_a_run_and_is_no_failure(tmp_path: Path) -> None:
    port = free_port()
    environment = os.environ | {
        "FLOW_DATABASE_URL": f"sqlite:///{tmp_path}/flow.db",
        "FLOW_REDIS_URL": f"unix://{tmp_path}/no-redis.sock",
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "api.server", "--port", str(port)),
        env=environment,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await wait_until(lambda: _answers(port), description="the server listens", timeout=20)
        async with _connected(port) as (reader, writer):
            writer.write(POST.replace(b"/run-flow", b"/run-flow?wait=60") + BODY)
            await asyncio.sleep(0.3)
            process.terminate()
            assert (await _answer(reader))[0] == 202
        async with asyncio.timeout(5):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _answers(port: int) -> bool:
    try:
        async with _connected(port) as (reader, writer):
            writer.write(GET)
            return (await _answer(reader))[0] == 200
    except (OSError, EOFError):
        return False
