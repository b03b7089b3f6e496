"""A server on loopback whose answers are written byte by byte by the test."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]
"""Writes an answer; the connection is closed when it returns."""


@dataclass
class Received:
    """A request as it came in."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class HttpServer:
    """Gives every request the same :attr:`answer`, and keeps the requests."""

    port: int = 0
    answer: Answer = field(default_factory=lambda: written(b"HTTP/1.1 204 No Content\r\n\r\n"))
    received: list[Received] = field(default_factory=list)
    connections: int = 0
    closed_by_client: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        answering: asyncio.Task[None] | None = None
        try:
            self.received.append(await _read_request(reader))
            answering = asyncio.ensure_future(self.answer(writer))
            gone = asyncio.ensure_future(reader.read(1))
            await asyncio.wait({answering, gone}, return_when=asyncio.FIRST_COMPLETED)
            if gone.done() and not answering.done():
                self.closed_by_client += 1
            gone.cancel()
        except (OSError, asyncio.IncompleteReadError):
            self.closed_by_client += 1
        finally:
            if answering is not None:
                answering.cancel()
                with contextlib.suppress(OSError, asyncio.CancelledError):
                    await answering
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@contextlib.asynccontextmanager
async def serving(server: HttpServer, tls: ssl.SSLContext | None = None) -> AsyncIterator[None]:
    """Listen on a free port of loopback meanwhile."""
    open_connections: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(server.serve(reader, writer))
        open_connections.add(task)
        task.add_done_callback(open_connections.discard)

    listening = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield
    finally:
        listening.close()
        for task in list(open_connections):
            task.cancel()
        await asyncio.gather(*open_connections, return_exceptions=True)


def written(answer: bytes) -> Answer:
    """Exactly these bytes."""

    async def write(writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()

    return write


def answering(body: bytes = b"", status: int = 200, **headers: str) -> Answer:
    """A whole answer; the dashes of header names are underscores here."""
    lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()]
    head = f"HTTP/1.1 {status} Any\r\n{''.join(lines)}Content-Length: {len(body)}\r\n\r\n"
    return written(head.encode("latin-1") + body)


def for_ever(
    piece: bytes, *, pause_seconds: float = 0, head: bytes = b"", **headers: str
) -> Answer:
    """An answer whose body never ends."""
    lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()]

    async def write(writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 200 OK\r\n{''.join(lines)}\r\n".encode() + head)
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_seconds)

    return write


async def never(writer: asyncio.StreamWriter) -> None:
    """No answer at all."""
    await asyncio.Event().wait()


async def _read_request(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Received(method, target, headers, body)
