"""Sends a request and gives back the whole answer, within limits of time and size.

Each request has a connection of its own, closed behind it. A kept connection would save a
handshake, and sometimes be closed by the server at the very moment it is used again: such a
request fails through no fault of anyone, and one that is not idempotent may not be repeated.

There is no httpx ``AsyncClient`` here: it keeps cookies, and reads proxies and credentials
from the environment, all of which would have to be switched off and stay so.
"""

import asyncio
import contextlib
import os
import ssl
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass

import httpcore2
import httpx2

from worker.outbound.connecting import CONNECT_SECONDS, GuardedBackend
from worker.outbound.errors import (
    ConnectionFailed,
    InvalidResponse,
    RequestRefused,
    RequestTimedOut,
    ResponseTooLarge,
)
from worker.outbound.messages import OutboundRequest, OutboundResponse
from worker.outbound.policy import OutboundPolicy
from worker.outbound.redirects import REDIRECTS, redirect
from worker.outbound.resolving import Resolver, ThreadedResolver
from worker.outbound.urls import origin_of

_PORTS = {"http": 80, "https": 443}
_OURS = {
    # What httpx can decode piece by piece without further packages.
    "accept-encoding": "gzip, deflate",
    "connection": "close",
}


class Outbound:
    """The way out for one process; by default with the system's name look-up, its sockets and
    the authorities it trusts."""

    def __init__(
        self,
        policy: OutboundPolicy,
        resolver: Resolver | None = None,
        backend: httpcore2.AsyncNetworkBackend | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.policy = policy
        self._backend = GuardedBackend(
            policy, resolver or ThreadedResolver(), backend or httpcore2.AnyIOBackend()
        )
        # Whatever SSL_CERT_FILE says. Read once, because it takes a while.
        self._tls = tls or httpx2.create_ssl_context(trust_env=False)

    async def send(
        self,
        request: OutboundRequest,
        *,
        timeout_seconds: float | None = None,
        follow_redirects: bool = False,
    ) -> OutboundResponse:
        """The answer to ``request``. The time limit holds for everything together: look-ups,
        connections, redirects and the body to its last byte.

        Raises:
            HttpError: one of its subclasses, as the answer could not be had.
        """
        limit = self.policy.timeout_seconds if timeout_seconds is None else timeout_seconds
        try:
            async with asyncio.timeout(limit):
                return await self._send(request, follow_redirects)
        except TimeoutError:
            raise RequestTimedOut(
                f"{_told(request)}: no complete answer within {limit:g} s"
            ) from None

    async def _send(self, request: OutboundRequest, follow_redirects: bool) -> OutboundResponse:
        for _ in range(self.policy.max_redirects + 1):
            response = await self._exchange(request)
            location = response.headers.get("location")
            if not follow_redirects or response.status not in REDIRECTS or location is None:
                return response
            request = redirect(request, response.status, location)
        raise RequestRefused(
            f"{_told(request)}: more redirects than http_max_redirects "
            f"({self.policy.max_redirects})"
        )

    async def _exchange(self, request: OutboundRequest) -> OutboundResponse:
        """One request and its answer, on one connection."""
        with _telling_errors(request):
            connection = httpcore2.AsyncHTTPConnection(
                origin=_origin(request.url), ssl_context=self._tls, network_backend=self._backend
            )
            async with contextlib.aclosing(connection):
                answer = await connection.handle_async_request(_encode(request))
                async with contextlib.aclosing(answer):
                    return await self._read(request, answer)

    async def _read(self, request: OutboundRequest, answer: httpcore2.Response) -> OutboundResponse:
        allowance = _Allowance(self.policy.max_response_bytes, _told(request))
        raw = _RawBody(answer, allowance)
        response = httpx2.Response(answer.status, headers=answer.headers, stream=raw)
        body = bytearray()
        async with contextlib.aclosing(response.aiter_bytes()) as pieces:
            async for piece in pieces:
                # httpx decodes at most 1 MiB at a time, so that a few bytes which unpack to
                # gigabytes are found out by the first of it.
                body += piece
                allowance.check(len(body))
        return OutboundResponse(answer.status, response.headers, bytes(body), request.url)


@dataclass(frozen=True, slots=True)
class _Allowance:
    limit: int
    told: str

    def check(self, size: int) -> None:
        if size > self.limit:
            raise ResponseTooLarge(
                f"{self.told}: the answer is larger than http_max_response_bytes ({self.limit})"
            )


class _RawBody(httpx2.AsyncByteStream):
    """The body of an answer as it was sent. Counted as well: it may decode to nothing."""

    def __init__(self, answer: httpcore2.Response, allowance: _Allowance) -> None:
        self._answer = answer
        self._allowance = allowance

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        size = 0
        async with contextlib.aclosing(self._answer.aiter_stream()) as pieces:
            async for piece in pieces:
                size += len(piece)
                self._allowance.check(size)
                yield piece


def _encode(request: OutboundRequest) -> httpcore2.Request:
    made = httpx2.Request(
        request.method, request.url, headers={**request.headers, **_OURS}, content=request.body
    )
    return httpcore2.Request(
        method=request.method,
        url=httpcore2.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        ),
        headers=made.headers.raw,
        content=request.body,
        extensions={"timeout": {"connect": CONNECT_SECONDS}},
    )


def _origin(url: httpx2.URL) -> httpcore2.Origin:
    return httpcore2.Origin(url.raw_scheme, url.raw_host, url.port or _PORTS[url.scheme])


def _told(request: OutboundRequest) -> str:
    return f"{request.method} {origin_of(request.url)}"


@contextlib.contextmanager
def _telling_errors(request: OutboundRequest) -> Iterator[None]:
    """Turn the libraries' errors into ours, which tell only what is known to be harmless."""
    told = _told(request)
    try:
        yield
    except httpcore2.ConnectTimeout:
        raise RequestTimedOut(f"{told}: no connection within {CONNECT_SECONDS:g} s") from None
    except httpcore2.TimeoutException:
        raise RequestTimedOut(f"{told}: the connection timed out") from None
    except httpcore2.ConnectError as error:
        raise ConnectionFailed(f"{told}: {_cause(error)}") from None
    except (httpcore2.NetworkError, httpcore2.RemoteProtocolError):
        raise ConnectionFailed(
            f"{told}: the connection broke off, or the answer is not HTTP"
        ) from None
    except httpcore2.LocalProtocolError:
        raise RequestRefused(f"{told}: the request cannot be sent as it is") from None
    except httpx2.DecodingError:
        raise InvalidResponse(f"{told}: the answer's content encoding is broken") from None


def _cause(error: BaseException) -> str:
    """What the system, or TLS, says about a connection that was not made."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) and error.errno:
        return os.strerror(error.errno)
    return str(error) or type(error).__name__
