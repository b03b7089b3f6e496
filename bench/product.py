"""The product as it is run: its own Redis and database, an API process, two workers.

Everything is started by its console script, as a user or a container would start it. Nothing
is configured for the benchmark but where things are.
"""

import http.client
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import product_flows
from bench.http_load import READY_STATUS
from bench.measuring import Plan
from bench.processes import (
    descendants,
    free_port,
    processor_seconds,
    resident_bytes,
    running,
    wait_until,
)

WORKERS = 2
SETTLE_SECONDS = 3.0
"""A process has more to do when it has just started or worked."""
MIGRATE_SECONDS = 60
COMMAND = str(Path(sys.executable).with_name("flow-manager"))


@dataclass(frozen=True, slots=True)
class Product:
    """What runs."""

    port: int
    api: int
    """Process id of the API."""
    workers: tuple[int, ...]
    """Process ids of the workers."""


def settings(plan: Plan) -> dict[str, str]:
    """The environment of all its processes."""
    assert plan.redis_url
    return {
        "FLOW_DATABASE_URL": f"sqlite:///{plan.path / 'flow.db'}",
        "FLOW_REDIS_URL": plan.redis_url,
        "FLOW_TASK_MODULES": str(Path(product_flows.__file__)),
    }


@contextmanager
def service(plan: Plan) -> Iterator[Product]:
    """The API and two workers on a new database, while the block runs."""
    environment = settings(plan)
    port = free_port()
    migrate = [COMMAND, "db", "upgrade"]
    with running(migrate, log=plan.path / "migrate.log", environment=environment) as process:
        if process.wait(MIGRATE_SECONDS):
            raise RuntimeError("flow-manager db upgrade failed")
    with ExitStack() as stack:
        api = [COMMAND, "api", "--port", str(port)]
        log = plan.path / "api.log"
        api_id = stack.enter_context(running(api, log=log, environment=environment)).pid
        worker_ids = [
            stack.enter_context(
                running(
                    [COMMAND, "worker"],
                    log=plan.path / f"worker-{number}.log",
                    environment=environment,
                )
            ).pid
            for number in range(WORKERS)
        ]
        wait_until(lambda: _is_ready(port), "the API")
        yield Product(port, api_id, tuple(worker_ids))


def idle_percent_of_dev(plan: Plan, seconds: float) -> float:
    """What ``flow-manager dev`` and all it starts take from the processors while idle."""
    port = free_port()
    command = [COMMAND, "dev", "--port", str(port), "--workers", str(WORKERS)]
    command += ["--data", str(plan.path / "dev")]
    with running(command, log=plan.path / "dev.log") as process:
        wait_until(lambda: _is_ready(port), "flow-manager dev")
        return idle_percent(process.pid, seconds)


def idle_percent(process_id: int, seconds: float) -> float:
    """The processor time of a process and all it has started, in percent of one core."""
    time.sleep(SETTLE_SECONDS)
    process_ids = descendants(process_id)
    before = sum(processor_seconds(each) for each in process_ids)
    began = time.monotonic()
    time.sleep(seconds)
    used = sum(processor_seconds(each) for each in process_ids) - before
    return 100 * used / (time.monotonic() - began)


def largest_resident_bytes(process_id: int) -> int:
    """The memory of the process, or of the largest one it has started."""
    return max(resident_bytes(each) for each in descendants(process_id))


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == READY_STATUS
    except OSError:
        return False
    finally:
        connection.close()
