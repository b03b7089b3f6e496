"""``python -P -m worker``: a worker that listens to the doorbell."""

import asyncio
from typing import Any

import uvloop
from arq.worker import get_kwargs

from worker.doorbell import DoorbellWorker
from worker.main import BELLS, WorkerSettings


def main() -> None:
    """Run one worker until it is told to stop."""
    # arq takes the current loop when it is made.
    asyncio.set_event_loop(uvloop.new_event_loop())
    options: dict[str, Any] = {**get_kwargs(WorkerSettings)}  # type: ignore[arg-type]  # arq types any class as settings
    DoorbellWorker(**options, bells=BELLS).run()


if __name__ == "__main__":
    main()
