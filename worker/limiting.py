"""Gets a visit of a limited task its place, before its attempt begins.

The key is worked out here, because only a worker knows what its expressions see; who may go on
is decided in the database (``shared.store.places``).
"""

import asyncio

import structlog

from shared.errors import DatabaseUnavailable
from shared.flow import Flow
from shared.lease_clock import LeaseClock
from shared.limits import Limit
from shared.store.branches import ClaimedRun, Visit
from shared.store.places import PlaceWish, Taken, take_places
from shared.writer import Writer
from worker.evaluation import scope_of
from worker.memory import Memories, Memory

_log = structlog.get_logger(__name__)

_RETRY_SECONDS = 0.2
"""Between two tries while the database is away."""


class Places:
    """Asks for the places of one worker's visits."""

    def __init__(self, writer: Writer, memories: Memories, clock: LeaseClock) -> None:
        self._writer = writer
        self._memories = memories
        self._clock = clock

    async def take(
        self, limit: Limit, visit: Visit, run: ClaimedRun, flow: Flow, memory: Memory
    ) -> Visit | None:
        """The visit as it is to go on; None where its branch is no longer this worker's.

        Raises:
            ExpressionError: the key cannot be worked out.
        """
        await self._memories.complete(memory, visit, flow, limit.task_names)
        key = limit.key_in(scope_of(run, visit, memory))
        match await self._ask(PlaceWish(visit, key, limit.bounds, self._clock.now())):
            case "begin":
                # It may have waited for its turn: that is no part of the attempt.
                return visit._replace(resumed=False)
            case "resume":
                return visit
            case "parked" | "lost":
                return None

    async def _ask(self, wish: PlaceWish) -> Taken:
        """Ask, however long the database is away. To ask twice gives the same answer."""
        is_delayed = False
        while True:
            try:
                return await self._writer.call(take_places, wish)
            except DatabaseUnavailable as error:
                if not is_delayed:
                    is_delayed = True
                    _log.warning("place_delayed", task=wish.visit.task, error=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
