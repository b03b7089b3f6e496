"""Runs the HTTP service: ``python -P -m api.server --host 127.0.0.1 --port 8000``.

One process, one event loop. It stops on SIGTERM and SIGINT, after the requests that run.
"""

import argparse
import signal
import socket
import sys
from types import FrameType

import uvicorn
from fastapi import FastAPI

from api.connections import GuardedProtocol
from api.main import create_app
from shared.collector import keep_from_collector
from shared.errors import InvalidSettings
from shared.logs import set_up_logging
from shared.settings import Settings, load_settings

KEEP_ALIVE_SECONDS = 30
"""Longer than the pauses of a client that polls, shorter than those of most proxies."""
SHUTDOWN_SECONDS = 15
"""What requests that run are given at SIGTERM; those that wait for a run are let go of."""
BACKLOG = 2_048


class Server(uvicorn.Server):
    """uvicorn's server, which first lets go whoever waits for a run: that may take a minute."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer the waiting requests, then stop as uvicorn does."""
        app = self.config.app
        # There are none where the start failed.
        resources = getattr(app.state, "resources", None) if isinstance(app, FastAPI) else None
        if resources is not None:
            await resources.endings.close()
        await super().shutdown(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start as uvicorn does; what is loaded by then stays."""
        await super().startup(sockets)
        keep_from_collector()

    def serve_until_told(self) -> bool:
        """Serve until SIGTERM or SIGINT; whether it served at all."""
        # uvicorn sends itself the signal again when it is done, to whom handled it before it:
        # to be told to stop and to stop is no failure.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        self.run()
        return self.started

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self.should_exit = True


def configuration(
    settings: Settings, *, host: str, port: int, descriptor: int | None = None
) -> uvicorn.Config:
    """How uvicorn serves :func:`api.main.create_app`."""
    return uvicorn.Config(
        create_app(settings),
        host=host,
        port=port,
        fd=descriptor,
        # The faster parts where they exist; uvloop has no Windows build.
        loop="auto",
        http=GuardedProtocol,
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
        # Addresses of clients are not used; believing a header about them would be a risk.
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )


def main(arguments: list[str] | None = None) -> int:
    """Serve until told to stop; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m api.server", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--fd", type=int, help="serve on this listening socket instead")
    chosen = parser.parse_args(arguments)
    try:
        settings = load_settings()
        set_up_logging(settings)
        config = configuration(settings, host=chosen.host, port=chosen.port, descriptor=chosen.fd)
    except InvalidSettings as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0 if Server(config).serve_until_told() else 1


if __name__ == "__main__":
    raise SystemExit(main())
