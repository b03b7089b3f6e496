"""``flow-manager dev`` as a process, for tests that need the whole service."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.servers import free_port
from tests.waiting import block_until

COMMAND = str(Path(sys.executable).with_name("flow-manager"))
READY_SECONDS = 25.0
STOP_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Service:
    """A running service and the process that supervises it."""

    process: subprocess.Popen[bytes]
    port: int
    data: Path
    log: Path

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def children(self) -> list[psutil.Process]:
        """What it has started."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def workers(self) -> list[psutil.Process]:
        """Its worker processes, once they have become workers."""
        return [child for child in self.children() if _program(child) == ["-P", "-m", "worker"]]

    def is_ready(self) -> bool:
        """Whether it has said so."""
        return "Flow Manager is ready" in self.log.read_text("utf-8")

    def ended(self) -> bool:
        """Whether the supervisor has ended."""
        return self.process.poll() is not None


def _program(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()[1:4]
    except psutil.NoSuchProcess:  # it has just ended
        return []


@contextmanager
def development_service(folder: Path, options: Sequence[str] = ()) -> Iterator[Service]:
    """A service with its data in ``folder``, stopped at the end of the block."""
    port, log = free_port(), folder / "dev.log"
    command = [COMMAND, "dev", "--port", str(port), "--data", str(folder / "data"), *options]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=clean_environment(),
        )
    service = Service(process, port, folder / "data", log)
    try:
        block_until(
            lambda: service.is_ready() or service.ended(),
            description=f"the service is ready ({log})",
            timeout=READY_SECONDS,
        )
        assert not service.ended(), log.read_text("utf-8")
        yield service
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the supervisor, and with it everything it has started."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


def clean_environment() -> dict[str, str]:
    """Ours, without any setting of the service."""
    return {name: value for name, value in os.environ.items() if not name.startswith("FLOW_")}


def run_command(
    *arguments: str, cwd: Path | None = None, timeout_seconds: float = 20.0
) -> subprocess.CompletedProcess[str]:
    """``flow-manager`` with these arguments, to its end."""
    return subprocess.run(
        [COMMAND, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=cwd,
        env=clean_environment(),
        timeout=timeout_seconds,
        check=False,
    )
