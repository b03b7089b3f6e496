"""A request, and the whole answer to it, as values."""

from collections.abc import Mapping
from dataclasses import dataclass

import httpx2


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundRequest:
    """One request, checked as far as that can be done without the network."""

    method: str
    url: httpx2.URL
    """From :func:`worker.outbound.urls.read_url`."""
    headers: Mapping[str, str]
    """By names in lower case."""
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class OutboundResponse:
    """An answer that was read to its end."""

    status: int
    headers: httpx2.Headers
    body: bytes
    """Decoded: without any content encoding."""
    url: httpx2.URL
    """What was asked last, where redirects were followed."""
