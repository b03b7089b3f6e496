"""Brings the schema up to date when the process starts, also where the database comes later."""

import asyncio

import structlog

from shared.database import upgrade
from shared.errors import DatabaseUnavailable, InvalidSettings
from shared.settings import Settings

_RETRY_SECONDS = 1.0

_log = structlog.get_logger(__name__)


class Upgrade:
    """One upgrade of the schema. The process serves before it is done: with 503, not at all."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._task: asyncio.Task[None] | None = None
        self._is_refused = False
        self.is_done = False
        """Whether the schema is the one that this version works with."""

    async def start(self) -> None:
        """Upgrade now, or as soon as the database answers."""
        if not await self._try():
            _log.warning("database_unavailable", part="upgrade")
            self._task = asyncio.create_task(self._try_for_ever(), name="upgrade")

    async def close(self) -> None:
        """Stop trying."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _try_for_ever(self) -> None:
        while not self.is_done:
            await asyncio.sleep(_RETRY_SECONDS)
            await self._try()

    async def _try(self) -> bool:
        try:
            await asyncio.to_thread(upgrade, self._settings)
        except DatabaseUnavailable:
            return False
        except InvalidSettings as error:
            if not self._is_refused:
                _log.error("database_unusable", error=str(error))
            self._is_refused = True
            return False
        self.is_done = True
        return True
