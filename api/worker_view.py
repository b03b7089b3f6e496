"""What the API knows of the workers: which task types they run, and what their clock says.

Asked of the database at most once a second, however many submits come in.
"""

import asyncio
import time
from collections.abc import Mapping

import orjson
import structlog
from sqlalchemy import Connection

from api.reading import Reader
from shared.errors import InvalidTask
from shared.lease_clock import LeaseClock
from shared.params_schema import TaskTypes
from shared.queries import workers
from shared.registry import load_registry
from shared.settings import Settings

_MAX_AGE_SECONDS = 1.0

_log = structlog.get_logger(__name__)


class WorkerView:
    """The task types that a definition may use, as of about a second ago."""

    def __init__(self, reader: Reader, clock: LeaseClock, settings: Settings) -> None:
        self._reader = reader
        self._clock = clock
        self._settings = settings
        self._types = TaskTypes(frozenset(), {})
        self.queues: frozenset[str] | None = None
        """The queues that workers took at the last look; None where none ever told."""
        self._advertised: dict[str, bytes | None] | None = None
        self._own_types: TaskTypes | None = None
        self._asked_at = -_MAX_AGE_SECONDS
        self._asking = asyncio.Lock()

    async def task_types(self, max_age_seconds: float = _MAX_AGE_SECONDS) -> TaskTypes:
        """The types; the same object for as long as they stay the same.

        Raises:
            DatabaseUnavailable: the answer is too old and there is no newer one.
        """
        wanted = time.monotonic() - max_age_seconds
        if self._asked_at <= wanted:
            async with self._asking:
                if self._asked_at <= wanted:
                    await self._ask()
        return self._types

    async def _ask(self) -> None:
        asked_at = time.monotonic()
        self._types = await self._reader.call(self._read)
        self._asked_at = asked_at

    def _read(self, connection: Connection) -> TaskTypes:
        self._clock.synchronise(connection)
        self.queues = workers.served_queues(connection)
        advertised = workers.advertised_types(connection)
        if not advertised:
            # No worker ever told: the first submit may well be quicker than the first worker,
            # which will load the very same types.
            if self._own_types is None:
                self._own_types = _own_types(self._settings)
            return self._own_types
        if advertised != self._advertised:
            self._advertised = advertised
            return _to_types(advertised)
        return self._types


def _to_types(advertised: Mapping[str, bytes | None]) -> TaskTypes:
    schemas = {name: orjson.loads(schema) for name, schema in advertised.items() if schema}
    return TaskTypes(frozenset(advertised), {name: one for name, one in schemas.items() if one})


def _own_types(settings: Settings) -> TaskTypes:
    try:
        return load_registry(settings.task_modules).types()
    except InvalidTask as error:
        # The workers refuse to start with it; a client of ours can do nothing about it.
        _log.error("task_modules_unusable", error=str(error))
        return load_registry(()).types()
