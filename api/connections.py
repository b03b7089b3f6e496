"""Connections that cannot be held open by saying little.

uvicorn limits neither the time nor the size of a request's head, so half-open connections would
stay for ever. Three timers, of which one connection has at most one at a time:

* the head of a request must be there soon after its connection or its first byte,
* a body is the application's to wait for (see ``api.bodies``),
* what is left of a body after its answer is thrown away, for a short time only. The connection
  is not closed at once, because the answer could then be lost on its way.
"""

import asyncio
from http import HTTPStatus
from typing import Any, cast

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from api.problems import Kind, problem_response

HEAD_SECONDS = 8.0
"""From the first byte of a request to the end of its head."""
REST_SECONDS = 8.0
"""From an answer to the end of the body that it was given without."""
MAX_HEAD_BYTES = 65_536
"""Request line and headers together, plus what came with them of the body."""

_BAD_REQUEST = Kind(HTTPStatus.BAD_REQUEST, "bad-http", "The request is not HTTP")
_HEAD_TOO_LARGE = Kind(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "head-too-large", "The headers are too large"
)


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 connection, with limits on time and size."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._is_head = True
        """Whether the next byte belongs to a head, not to a body."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Expect a request."""
        super().connection_made(transport)
        self._limit(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer."""
        self._unlimit()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, and look after a head that is not complete."""
        if self._is_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if not self._is_head or self.transport.is_closing():
            return
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(_HEAD_TOO_LARGE, f"The limit is {MAX_HEAD_BYTES} bytes.")
        elif self._timer is None and not self._is_answering():
            self._limit(HEAD_SECONDS)

    def on_headers_complete(self) -> None:
        """The head is there: what follows is the application's to limit."""
        self._unlimit()
        self._is_head = False
        self._head_bytes = 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The whole request is there; another one may follow."""
        self._is_head = True
        self._unlimit()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The answer is out; what is left of its body may not come for ever."""
        super().on_response_complete()
        if not self._is_head:
            self._limit(REST_SECONDS)

    def send_400_response(self, msg: str) -> None:
        """Answer something that is not HTTP in the form of all other problems."""
        self._refuse(_BAD_REQUEST, "The request could not be understood.")

    def _is_answering(self) -> bool:
        # There is none before the first request, which uvicorn's own annotation leaves out.
        cycle = cast(RequestResponseCycle | None, self.cycle)
        return cycle is not None and not cycle.response_complete

    def _limit(self, seconds: float) -> None:
        self._unlimit()
        self._timer = self.loop.call_later(seconds, self._give_up)

    def _unlimit(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self.transport.close()

    def _refuse(self, kind: Kind, detail: str) -> None:
        """Answer and close, beside the application: there is no request to give to it."""
        if self.transport.is_closing():
            return
        if not self._is_answering():
            response = problem_response(kind, detail, headers={"Connection": "close"})
            head = b"".join(b"%b: %b\r\n" % (name, value) for name, value in response.raw_headers)
            status = f"HTTP/1.1 {int(kind.status)} {kind.status.phrase}\r\n".encode("ascii")
            self.transport.write(status + head + b"\r\n" + bytes(response.body))
        self.transport.close()
