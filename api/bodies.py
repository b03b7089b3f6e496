"""Reading a body: only JSON, only so much, only so long.

A body that says it is too large is refused before it is read, one that does not say so while
it comes; nothing beyond the limit is ever kept.
"""

import asyncio

from starlette.requests import Request

from api.refusals import BodyTooLarge, BodyTooSlow, InvalidRequest, UnsupportedBody, invalid
from shared.documents import parse_document
from shared.errors import Finding
from shared.settings import Settings

LARGE_BYTES = 50_000
"""From here on a body is parsed and judged on a thread, so that others are not held up."""


async def read_body(request: Request, settings: Settings) -> bytes:
    """The whole body of ``request``.

    Raises:
        UnsupportedBody, BodyTooLarge, BodyTooSlow: as their names say.
        InvalidRequest: a ``Content-Length`` that is no number.
    """
    limit = settings.max_body_bytes
    _check_type(request)
    _check_length(request, limit)
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(settings.request_timeout_seconds):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit:
                    raise _too_large(limit)
                chunks.append(chunk)
    except TimeoutError:
        raise BodyTooSlow(
            f"The body was not there {settings.request_timeout_seconds:g} s after the request."
        ) from None
    return b"".join(chunks)


async def refuse_content(request: Request, settings: Settings) -> None:
    """Read a body that may only be absent, blank or an empty object.

    Raises:
        InvalidDocument: it is not JSON.
        InvalidRequest: it holds something, which would have been ignored.
    """
    body = await read_body(request, settings)
    if not body.strip():
        return
    document = parse_document(body, max_depth=settings.max_depth, max_bytes=LARGE_BYTES)
    if document != {}:
        raise InvalidRequest([Finding("", "unknown_field", "This call takes no body.")])


def _check_type(request: Request) -> None:
    content_type = request.headers.get("content-type")
    if content_type is not None:
        kind, _, parameters = content_type.lower().partition(";")
        charset = parameters.strip().removeprefix("charset=").strip('"')
        if kind.strip() != "application/json" or charset not in {"", "utf-8"}:
            raise UnsupportedBody("The body must be application/json, in UTF-8.")
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.strip().lower() != "identity":
        raise UnsupportedBody("A compressed body is not read; send it as it is.")


def _check_length(request: Request, limit: int) -> None:
    length = request.headers.get("content-length")
    if length is None:
        return
    if not (length.isascii() and length.isdigit()):
        raise invalid("header", "Content-Length", "The length must be a whole number.")
    if len(length) > 18 or int(length) > limit:
        raise _too_large(limit)


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body is longer than FLOW_MAX_BODY_BYTES, {limit} bytes.")
