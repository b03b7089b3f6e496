"""Where sockets are opened, and the only place that decides whether they may be.

httpcore asks its network backend for each connection. This one resolves the name, has every
address checked, and connects to an address, not to the name: a second look-up, which a
hostile name server would answer otherwise (DNS rebinding), does not happen. httpcore goes on
to use the name for the ``Host`` header, for TLS' server name and to check the certificate.
"""

from collections.abc import Iterable
from ipaddress import ip_address
from ssl import SSLContext
from typing import Any, TypeAlias

import httpcore2

from worker.outbound.addresses import Address
from worker.outbound.errors import RequestRefused
from worker.outbound.policy import OutboundPolicy
from worker.outbound.resolving import Resolver, resolve

SocketOption: TypeAlias = (
    tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]
)

CONNECT_SECONDS = 10.0
"""For all addresses of a host together, the look-up not counted. A live host takes far less."""
MAX_TRIES = 4
"""Addresses of one host that are tried before it counts as away."""


class GuardedBackend(httpcore2.AsyncNetworkBackend):
    """Connects to what the policy allows, through ``backend``."""

    def __init__(
        self,
        policy: OutboundPolicy,
        resolver: Resolver,
        backend: httpcore2.AsyncNetworkBackend,
    ) -> None:
        self._policy = policy
        self._resolver = resolver
        self._backend = backend

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[SocketOption] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to the first address of ``host`` that answers, if all of them are allowed.

        Raises:
            RequestRefused: one of them is not; nothing was connected to.
            ConnectionFailed: there are none.
        """
        addresses = (await self._allowed_addresses(host, port))[:MAX_TRIES]
        for_each = (CONNECT_SECONDS if timeout is None else timeout) / len(addresses)
        for place, address in enumerate(addresses, start=1):
            try:
                stream = await self._backend.connect_tcp(str(address), port, timeout=for_each)
                return _TcpStream(stream)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                if place == len(addresses):
                    raise
        raise AssertionError("a host has at least one address")

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore's signature
        socket_options: Iterable[SocketOption] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Refuse: behind a unix socket there is only this machine.

        Raises:
            RequestRefused: always.
        """
        raise RequestRefused("unix sockets may not be called")

    async def _allowed_addresses(self, host: str, port: int) -> list[Address]:
        self._policy.check_port(port)
        try:
            found: list[Address] = [ip_address(host)]
        except ValueError:
            found = await resolve(self._resolver, host, port)
        # All of them before any is used: one that is not allowed makes the whole name suspect.
        return [self._policy.check(host, port, address) for address in found]


class _TcpStream(httpcore2.AsyncNetworkStream):
    """A connection that is closed, too, where its TLS handshake is cancelled: httpcore then
    knows the connection not yet, and would leave it open until it is collected."""

    def __init__(self, stream: httpcore2.AsyncNetworkStream) -> None:
        self._stream = stream

    async def start_tls(
        self,
        ssl_context: SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore's signature
    ) -> httpcore2.AsyncNetworkStream:
        try:
            return await self._stream.start_tls(ssl_context, server_hostname, timeout)
        except BaseException:
            await self._stream.aclose()
            raise

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        return await self._stream.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
