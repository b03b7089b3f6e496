"""Turns at writing an SQLite file, taken by the processes of one host in the order they came."""

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class FileTurns:
    """Lets one writer a time at a SQLite database, and nobody twice while others wait.

    Two locks across processes: who holds ``queue`` is next, and waits for ``turn`` alone. Who
    has had a turn must queue again, so that a busy process cannot keep the others out, as it
    could with one lock: whoever lets go of it is the quickest to take it again.
    """

    def __init__(self, path: Path) -> None:
        self._paths = (path.with_name(path.name + ".queue"), path.with_name(path.name + ".lock"))
        self._thread_lock = threading.Lock()
        self._descriptors: tuple[int, int] | None = None
        self._owner = os.getpid()

    @contextmanager
    def take(self) -> Iterator[None]:
        with self._thread_lock:
            queue, turn = self._open()
            fcntl.flock(queue, fcntl.LOCK_EX)
            fcntl.flock(turn, fcntl.LOCK_EX)
            fcntl.flock(queue, fcntl.LOCK_UN)
            try:
                yield
            finally:
                fcntl.flock(turn, fcntl.LOCK_UN)

    def _open(self) -> tuple[int, int]:
        if self._descriptors is None or self._owner != os.getpid():
            # A lock belongs to the open file, which a forked child would share.
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            queue, turn = (os.open(path, flags, 0o600) for path in self._paths)
            self._descriptors = (queue, turn)
            self._owner = os.getpid()
        return self._descriptors
