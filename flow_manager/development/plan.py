"""What ``flow-manager dev`` is to run and where, and that nobody else is there already."""

import fcntl
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from flow_manager.development.places import database_url, redis_url
from shared.errors import InvalidSettings
from shared.pools import EVERY_QUEUE
from shared.settings import Settings

HOST = "127.0.0.1"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to run, and where."""

    settings: Settings
    port: int
    data: Path
    """The folder of everything that is kept; absolute."""
    workers: int
    say: Say
    """Tells the user one line."""
    database_url: str | None = None
    """The user's database; None for a SQLite file in the data folder."""
    redis_url: str | None = None
    """The user's Redis; None for a Valkey of our own."""
    overrides: Mapping[str, str] = field(default_factory=dict)
    """Settings given as options, which the processes are to have, too."""
    log: Path | None = None
    """Where the processes' output goes; None for the terminal."""

    @property
    def url(self) -> str:
        """Where the service will answer."""
        return f"http://{HOST}:{self.port}"


def environment_of(plan: Plan) -> dict[str, str]:
    """The environment of the processes: ours, and what the plan says."""
    environment = dict(os.environ)
    environment |= {f"FLOW_{name.upper()}": value for name, value in plan.overrides.items()}
    environment["PYTHONUNBUFFERED"] = "1"
    environment["FLOW_DATABASE_URL"] = plan.database_url or database_url(plan.data)
    environment["FLOW_REDIS_URL"] = plan.redis_url or redis_url(plan.data)
    environment["FLOW_TASK_MODULES"] = ",".join(plan.settings.task_modules)
    if "worker_queues" not in plan.settings.model_fields_set:
        # Nobody else is there to take what names a queue.
        environment["FLOW_WORKER_QUEUES"] = EVERY_QUEUE
    return environment


def refuse_used_port(port: int) -> None:
    """Raise InvalidSettings where somebody listens on the port already."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError as error:
            raise InvalidSettings(
                f"port {port} of {HOST} cannot be used ({os.strerror(error.errno or 0)}): "
                "choose another one with --port"
            ) from error


@contextmanager
def claimed(data: Path) -> Iterator[None]:
    """The data folder for ourselves alone, while the block runs.

    Raises:
        InvalidSettings: where another supervisor has it.
    """
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(data / "dev.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise InvalidSettings(f"{data} cannot be used as data folder: {error.strerror}") from error
    with open(descriptor, "r+", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = lock.read().strip() or "unknown"
            raise InvalidSettings(
                f"another `flow-manager dev` (process {owner}) uses the data folder {data}: "
                "stop it, or choose another folder with --data"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
