"""A client for loading the service: HTTP/1.1 on kept connections, and nothing else.

The load is made on the same cores as the service has, so what a request costs the client is
taken from the service. This client costs some 20 us a request; general ones cost half a
millisecond and more, and would measure themselves.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self, cast

HEAD_END = b"\r\n\r\n"
LENGTH = b"content-length:"
READY_STATUS = 200


@dataclass(frozen=True, slots=True)
class Answer:
    """What the service answered."""

    status: int
    body: bytes


class Connection(asyncio.Protocol):
    """One kept connection, with one request on it at a time."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Answer] | None = None

    @classmethod
    async def open(cls, port: int) -> Self:
        """A connection to that port of the loopback interface."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(cls, "127.0.0.1", port)
        return connection

    async def exchange(self, request: bytes) -> Answer:
        """Send the request and wait for its answer."""
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        # uvloop's transports are none of asyncio's classes; they only behave like them.
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop. Who waits for an answer gets none."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("closed by the service"))

    def data_received(self, data: bytes) -> None:
        """Called by the loop. Complete answers only: no chunks, no compression."""
        self._received += data
        head_end = self._received.find(HEAD_END)
        if head_end < 0:
            return
        head = bytes(self._received[:head_end]).lower()
        place = head.index(LENGTH) + len(LENGTH)
        length = int(head[place:].split(b"\r\n", 1)[0])
        body_start = head_end + len(HEAD_END)
        if len(self._received) < body_start + length:
            return
        answer = Answer(int(head.split(b" ", 2)[1]), bytes(self._received[body_start:]))
        self._received.clear()
        assert self._answer is not None
        # Whoever gave up waiting has cancelled it.
        if not self._answer.done():
            self._answer.set_result(answer)


@asynccontextmanager
async def connections(port: int, count: int) -> AsyncIterator[list[Connection]]:
    """So many open connections."""
    opened = [await Connection.open(port) for _ in range(count)]
    try:
        yield opened
    finally:
        for connection in opened:
            connection.close()


def get(path: str) -> bytes:
    """The bytes of a GET."""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode("ascii")


def post(path: str, body: bytes) -> bytes:
    """The bytes of a POST of JSON."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body
