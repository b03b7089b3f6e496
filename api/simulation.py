"""Simulations for callers: few at a time, each on a thread and bounded by settings."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime

from pydantic import JsonValue

from api.representations import dump, finding
from shared.control_tasks import control_schemas
from shared.documents import parse_document
from shared.settings import Settings
from shared.simulation.document import run_document
from shared.simulation_requests import read_simulation

AT_ONCE = 2
"""More at a time would be no sooner done, and would hold up the loop that answers others."""


class Simulations:
    """Simulates the runs that callers ask for."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def simulate(self, body: bytes, params_schemas: Mapping[str, JsonValue]) -> bytes:
        """What the run that ``body`` describes comes to, as JSON.

        Raises:
            InvalidDocument: it is not JSON.
            InvalidDefinition: something in it cannot be used.
            LimitExceeded: it goes further, or takes longer, than is allowed.
        """
        async with self._turns:
            return await asyncio.to_thread(self._simulate, body, params_schemas)

    def _simulate(self, body: bytes, params_schemas: Mapping[str, JsonValue]) -> bytes:
        settings = self._settings
        document = parse_document(
            body, max_depth=settings.max_depth, max_bytes=settings.max_body_bytes
        )
        known = {**params_schemas, **control_schemas()}
        request = read_simulation(document, settings, known)
        run = request.carry_out(settings, datetime.now(UTC))
        told = [finding(one) for one in request.warnings]
        return dump(run_document(run) | {"warnings": told})
