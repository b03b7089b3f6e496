"""The call of an ``http_request``: params become a request, the answer becomes a result."""

import hashlib
import re
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Literal
from urllib.parse import quote, urlencode

import httpx2
import orjson

from shared.task_context import Json, TaskContext
from shared.tasks import TaskResult
from worker.http_request import HttpRequestParams, Scalar
from worker.outbound.errors import InvalidResponse, UnexpectedStatus
from worker.outbound.messages import OutboundRequest, OutboundResponse
from worker.outbound.process import installed
from worker.outbound.urls import origin_of, read_url, without_query

MAX_KEY_LENGTH = 255
"""Of an ``Idempotency-Key``, as services that take one limit it."""

_TRY_AGAIN = frozenset({408, 425, 429})
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_UNRECORDED = frozenset({"set-cookie", "set-cookie2"})
"""Answer headers that are credentials by their nature; what is recorded is also shown."""
_CHARSETS = {
    "iso-8859-1": "latin-1",
    "latin1": "latin-1",
    "us-ascii": "ascii",
    "utf-16": "utf-16",
    "windows-1252": "cp1252",
}
"""What is read besides UTF-8. A server may name any codec of Python's, of which some take
minutes for a megabyte and some make text that is none."""


async def exchange(params: HttpRequestParams, context: TaskContext) -> TaskResult:
    """Make the call and read the answer.

    Raises:
        HttpError: there is no answer, or one that says: not now.
    """
    request = make_request(params, context.idempotency_key)
    started = time.monotonic()
    response = await installed().send(
        request, timeout_seconds=params.timeout, follow_redirects=params.follow_redirects
    )
    duration_ms = round((time.monotonic() - started) * 1_000, 3)
    told = f"{request.method} {origin_of(response.url)} answered {_status_text(response.status)}"
    context.log.info("%s", told)
    success = params.expects(response.status)
    if not success and (response.status >= 500 or response.status in _TRY_AGAIN):
        raise UnexpectedStatus(told)
    data = {
        "status": response.status,
        "headers": _recorded_headers(response.headers),
        **_read_body(response, params.response, must_fit=success),
        "url": without_query(response.url),
        "duration_ms": duration_ms,
    }
    return TaskResult(success=success, data=data)


def make_request(params: HttpRequestParams, idempotency_key: str) -> OutboundRequest:
    """The request that ``params`` describe.

    Raises:
        RequestRefused: the URL is not plain.
    """
    headers = {"accept": "*/*", "user-agent": "flow-manager"}
    body: bytes | None = None
    if "json_body" in params.model_fields_set:
        body = orjson.dumps(params.json_body)
        headers["content-type"] = "application/json"
    elif params.body is not None:
        body = params.body.encode()
        headers["content-type"] = "text/plain; charset=utf-8"
    if params.idempotency_key and idempotency_key and params.method not in _SAFE:
        headers["idempotency-key"] = _header_key(idempotency_key)
    return OutboundRequest(
        method=params.method,
        url=read_url(_with_query(params.url, params.query)),
        headers={**headers, **params.headers},
        body=body,
    )


def _header_key(key: str) -> str:
    """``key`` as a header can carry it: the name of a task in it may be any text."""
    quoted = quote(key, safe=":")
    return quoted if len(quoted) <= MAX_KEY_LENGTH else hashlib.sha256(key.encode()).hexdigest()


def _with_query(url: str, query: Mapping[str, Scalar | list[Scalar]]) -> str:
    pairs = [
        (name, _query_text(value))
        for name, given in query.items()
        for value in (given if isinstance(given, list) else [given])
        if value is not None
    ]
    if not pairs:
        return url
    before_fragment = url.partition("#")[0]
    separator = "&" if "?" in before_fragment else "?"
    return f"{before_fragment}{separator}{urlencode(pairs)}"


def _query_text(value: Scalar) -> str:
    """As JSON writes it, but for texts."""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _status_text(status: int) -> str:
    """By the registry: the server's own words may be anything."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _recorded_headers(headers: httpx2.Headers) -> dict[str, str]:
    """By their names in lower case; what came several times is joined by commas."""
    return {name: value for name, value in headers.items() if name not in _UNRECORDED}


def _read_body(
    response: OutboundResponse, kind: Literal["auto", "json", "text"], *, must_fit: bool
) -> dict[str, Json]:
    """``{"json": ...}`` or ``{"body": text}``.

    An unexpected answer is often no JSON where an expected one is, a proxy's page for
    instance: then its text is what helps.

    Raises:
        InvalidResponse: JSON was asked for, the status is as expected, and it is no JSON.
    """
    media_type, charset = _content_type(response.headers)
    is_json = media_type == "application/json" or media_type.endswith("+json")
    if kind == "json" or (kind == "auto" and is_json):
        if not response.body:
            return {"json": None}
        try:
            return {"json": orjson.loads(response.body)}
        except orjson.JSONDecodeError:
            if kind == "json" and must_fit:
                raise InvalidResponse(f"{origin_of(response.url)}: the answer is no JSON") from None
    # NUL cannot be stored as text by every database.
    return {"body": response.body.decode(charset, "replace").replace("\x00", "\ufffd")}


def _content_type(headers: httpx2.Headers) -> tuple[str, str]:
    """The media type in lower case, and the codec of its texts."""
    media_type, _, parameters = headers.get("content-type", "").lower().partition(";")
    match = re.search(r"charset=[\"']?([a-z0-9_-]{1,40})", parameters)
    return media_type.strip(), _CHARSETS.get(match[1], "utf-8") if match else "utf-8"
