"""The entry point of a worker: what arq runs.

``python -m worker`` (which ``flow-manager worker`` starts) listens to the doorbell. Plain
``arq worker.main.WorkerSettings`` works too, only slower: arq then polls.
"""

from typing import Any, ClassVar

from arq.connections import RedisSettings
from arq.worker import Function

from shared.collector import keep_from_collector
from shared.logs import set_up_logging
from shared.queue import dump_job, load_job, redis_settings
from shared.settings import load_settings
from worker.bells import Bells
from worker.engine import Engine
from worker.rings import ring_function

_settings = load_settings()
BELLS = Bells(_settings.queue_name, _settings.worker_queues)
"""Plain arq hears the first of them only; what waits in other pools it finds by its sweeps."""


async def start(ctx: dict[Any, Any]) -> None:
    """Start the engine, and let the listener meet it."""
    set_up_logging(_settings)
    engine = Engine(_settings)
    ctx["engine"] = engine
    ctx["hand_over"] = engine.claimer.hand_over
    ctx["room"] = lambda: engine.claimer.room
    ctx["peers"] = lambda: engine.runner.peers
    await engine.start()
    keep_from_collector()


async def stop(ctx: dict[Any, Any]) -> None:
    """Stop the engine in good order."""
    engine = ctx.get("engine")
    if isinstance(engine, Engine):
        await engine.stop()


class WorkerSettings:
    """arq's settings."""

    functions: ClassVar[list[Function]] = [ring_function()]
    on_startup = start
    on_shutdown = stop
    queue_name: ClassVar[str] = BELLS.first.key
    redis_settings: ClassVar[RedisSettings] = redis_settings(_settings.redis_url.get_secret_value())
    job_serializer = dump_job
    job_deserializer = load_job
    max_jobs: ClassVar[int] = 100
    keep_result: ClassVar[int] = 0
    health_check_interval: ClassVar[int] = 10
