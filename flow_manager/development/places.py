"""Where ``flow-manager dev`` keeps its database and its Valkey's socket."""

import hashlib
import os
import re
import stat
import tempfile
from pathlib import Path

from shared.errors import InvalidSettings

LONGEST_SOCKET_PATH = 100
"""A unix socket's path has room for 104 bytes on macOS and 108 on Linux."""

_PLAIN = re.compile(r"[A-Za-z0-9._/+-]+")
"""Paths that stand in a URL as they are."""


def database_file(data: Path) -> Path:
    """The database of that data folder."""
    return data / "flow.db"


def database_url(data: Path) -> str:
    """The setting for that file."""
    return f"sqlite:///{database_file(data)}"


def redis_url(data: Path) -> str:
    """The setting for the Valkey of that data folder."""
    return f"unix://{socket_path(data)}"


def socket_path(data: Path) -> Path:
    """Where the server of that data folder listens: in the folder, where its name allows it."""
    path = data / "valkey.sock"
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH and _PLAIN.fullmatch(str(path)):
        return path
    digest = hashlib.sha256(os.fsencode(data)).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"flow-manager-{os.getuid()}-{digest}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    # Anybody can make folders here: one of another user's is not to be trusted.
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise InvalidSettings(f"{folder} is not a folder of this user alone: remove it")
    return folder / "valkey.sock"
