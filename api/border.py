"""The border of one request: a deadline, and an answer whatever happens behind it.

Written as plain ASGI, because it wraps every request.
"""

import asyncio
from typing import cast

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import INTERNAL, TOO_LATE, problem_response

_DEADLINE = "flow_manager.deadline"

_NO_SNIFFING = (b"x-content-type-options", b"nosniff")

_log = structlog.get_logger(__name__)


class RequestBorder:
    """Ends requests that take too long, and turns what nobody expected into a 500."""

    def __init__(self, app: ASGIApp, timeout_seconds: float) -> None:
        self._app = app
        # A slow body has its own, kinder answer, which must come first.
        self._timeout_seconds = timeout_seconds + 1

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_started = False

        async def watched_send(message: Message) -> None:
            nonlocal has_started
            if message["type"] == "http.response.start":
                has_started = True
                # A new list: an answer that is kept and sent again must not grow.
                message["headers"] = [*message["headers"], _NO_SNIFFING]
            await send(message)

        deadline = asyncio.timeout(self._timeout_seconds)
        scope[_DEADLINE] = deadline
        try:
            async with deadline:
                await self._app(scope, receive, watched_send)
        except ClientDisconnect:
            # Nobody is left who could be told anything.
            return
        except Exception as error:
            if has_started:
                # Half an answer cannot be taken back: the server cuts the connection.
                raise
            await self._explain(error, deadline.expired(), scope)(scope, receive, watched_send)

    def _explain(self, error: Exception, is_late: bool, scope: Scope) -> ASGIApp:
        place = {"method": scope["method"], "route": _route_of(scope)}
        if is_late:
            _log.warning("request_too_late", **place)
            return problem_response(TOO_LATE, "The service is too busy to answer at the moment.")
        _log.error("request_failed", **place, exc_info=error)
        return problem_response(INTERNAL, "The service's log tells more.")


def extend_deadline(request: Request, seconds: float) -> None:
    """Give a request more time, because it waits on the caller's wish."""
    deadline = cast("asyncio.Timeout | None", request.scope.get(_DEADLINE))
    present = None if deadline is None else deadline.when()
    if deadline is not None and present is not None:
        deadline.reschedule(present + seconds)


def _route_of(scope: Scope) -> str:
    """The pattern of the address, never the address itself: it may hold anything."""
    return str(getattr(scope.get("route"), "path", "unknown"))
