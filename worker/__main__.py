"""``python -P -m worker``: a worker that listens to the doorbell."""

import asyncio
import sys
from typing import Any

import uvloop
from arq.worker import get_kwargs

from shared.errors import InvalidSettings
from worker.doorbell import DoorbellWorker

_UNUSABLE = 2
"""The exit status where the settings cannot be used."""


def main() -> int:
    """Run one worker until it is told to stop; the exit status."""
    # arq takes the current loop when it is made.
    asyncio.set_event_loop(uvloop.new_event_loop())
    try:
        # Here, because it reads the settings.
        from worker.main import BELLS, WorkerSettings

        options: dict[str, Any] = {**get_kwargs(WorkerSettings)}  # type: ignore[arg-type]  # arq types any class as settings
        DoorbellWorker(**options, bells=BELLS).run()
    except InvalidSettings as error:
        print(f"worker: {error}", file=sys.stderr)  # noqa: T201  # nobody logs yet
        return _UNUSABLE
    return 0


if __name__ == "__main__":
    sys.exit(main())
