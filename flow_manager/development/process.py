"""One process that is kept running until it is told to stop.

It is started again when it ends by itself, at once at first and then with growing pauses. It
runs in a session of its own: Ctrl-C reaches the supervisor alone, which stops its processes in
an order that loses nothing.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from flow_manager.development import child

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 10.0
STABLE_SECONDS = 10.0
"""A process that lived so long is taken for a healthy one: pauses begin small again."""

PYTHON = (sys.executable, "-P", "-m")
"""Our own programs, never a package of the same name in the current folder."""


@dataclass(frozen=True, slots=True)
class Death:
    """A process ended though nobody had told it to."""

    name: str
    process_id: int
    code: int
    """Its exit status; the negative number of the signal that killed it."""

    def describe(self) -> str:
        """What happened, as a sentence's beginning."""
        if self.code < 0:
            cause = f"was killed by {signal.Signals(-self.code).name}"
        else:
            cause = f"ended with status {self.code}"
        return f"{self.name} (process {self.process_id}) {cause}"


@dataclass(slots=True)
class KeptProcess:
    """See the module. :meth:`keep` runs it; :meth:`stop` and :meth:`kill` end that."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    when_dead: Callable[[Death], Awaitable[None]]
    stop_seconds: float
    """What it is given to end by itself once it was told to."""
    output: IO[bytes] | None = None
    """Where its output goes; None for the supervisor's own."""
    process_id: int | None = field(default=None, init=False)
    _told: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _process: asyncio.subprocess.Process | None = field(default=None, init=False)

    async def keep(self) -> None:
        """Run the process, again and again, until :meth:`stop`."""
        clock = asyncio.get_running_loop().time
        short_lives = 0
        while not self._told.is_set():
            began = clock()
            process = await self._start()
            code = await self._live(process)
            if self._told.is_set():
                return
            short_lives = 0 if clock() - began >= STABLE_SECONDS else short_lives + 1
            await self.when_dead(Death(self.name, process.pid, code))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_pause_seconds(short_lives)):
                    await self._told.wait()

    def stop(self) -> None:
        """Ask the process to end; it is killed where it takes too long."""
        self._told.set()

    def kill(self) -> None:
        """End the process at once."""
        self._told.set()
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def _start(self) -> asyncio.subprocess.Process:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", str(Path(child.__file__)), str(os.getpid())),
            *self.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=self.output,
            stderr=self.output,
            env=dict(self.environment),
            start_new_session=True,
        )
        self.process_id = self._process.pid
        return self._process

    async def _live(self, process: asyncio.subprocess.Process) -> int:
        """Until the process has ended, by itself or because it was told to; its exit status."""
        try:
            async with asyncio.TaskGroup() as group:
                ending = group.create_task(self._end_when_told(process))
                code = await process.wait()
                ending.cancel()
            return code
        finally:
            # Only where we are cancelled ourselves: nothing may stay behind.
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def _end_when_told(self, process: asyncio.subprocess.Process) -> None:
        await self._told.wait()
        if process.returncode is None:
            process.terminate()
        try:
            async with asyncio.timeout(self.stop_seconds):
                await process.wait()
        except TimeoutError:
            process.kill()


def _pause_seconds(short_lives: int) -> float:
    """The pause after so many short lives in a row."""
    if short_lives == 0:
        return 0.0
    # The exponent is bounded, so that no number of failures can overflow.
    return min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(short_lives - 1, 16))
