"""A world of the test's own: names, addresses and servers, without a packet sent."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from ssl import SSLContext, create_default_context

import httpcore2

from worker.outbound.client import Outbound
from worker.outbound.connecting import SocketOption
from worker.outbound.messages import OutboundRequest
from worker.outbound.policy import OutboundPolicy
from worker.outbound.urls import read_url

PUBLIC = "93.184.215.14"
NOBODY = httpcore2.ConnectError("nobody answers")
_TLS = create_default_context()
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Stream(httpcore2.AsyncMockStream):
    """Answers with what it was made with, and keeps what it was sent."""

    def __init__(self, answer: bytes, server_names: list[str | None]) -> None:
        super().__init__([])
        self._answer = answer
        self.sent = b""
        self.is_closed = False
        self._server_names = server_names

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        piece, self._answer = self._answer[:max_bytes], self._answer[max_bytes:]
        return piece

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        self.sent += buffer

    async def start_tls(
        self,
        ssl_context: SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore2.AsyncNetworkStream:
        self._server_names.append(server_hostname)
        return self

    async def aclose(self) -> None:
        self.is_closed = True
        await super().aclose()


@dataclass
class World(httpcore2.AsyncNetworkBackend):
    """``names`` are answered in turn, the last answer for ever; so are ``answers``."""

    names: dict[str, list[Sequence[str]]] = field(default_factory=dict)
    answers: list[bytes] = field(default_factory=lambda: [OK])
    dead: dict[str, Exception] = field(default_factory=dict)
    """What comes of connecting to addresses where nobody answers."""
    looked_up: list[str] = field(default_factory=list)
    connects: list[tuple[str, int]] = field(default_factory=list)
    streams: list[Stream] = field(default_factory=list)
    server_names: list[str | None] = field(default_factory=list)

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        self.looked_up.append(host)
        if host not in self.names:
            raise OSError(-2, "Name or service not known")
        answers = self.names[host]
        return answers.pop(0) if len(answers) > 1 else answers[0]

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109
        local_address: str | None = None,
        socket_options: Iterable[SocketOption] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        self.connects.append((host, port))
        if host in self.dead:
            raise self.dead[host]
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.streams.append(Stream(answer, self.server_names))
        return self.streams[-1]

    def outbound(self, policy: OutboundPolicy | None = None) -> Outbound:
        """The way out into this world."""
        return Outbound(policy or OutboundPolicy(), self.resolve, self, _TLS)


def get(url: str, **headers: str) -> OutboundRequest:
    """A GET, with headers whose dashes are underscores here."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return OutboundRequest(method="GET", url=read_url(url), headers=named)


def redirect_to(location: str, status: int = 302) -> bytes:
    """An answer that leads elsewhere."""
    return (
        f"HTTP/1.1 {status} Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
    ).encode()


@contextlib.contextmanager
def nothing_connects(world: World) -> Iterator[None]:
    """Check that nothing was connected to meanwhile."""
    before = list(world.connects)
    yield
    assert world.connects == before
