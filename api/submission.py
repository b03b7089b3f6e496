"""What becomes of a submitted body: judged, prepared, and written as a run.

Most submits repeat a definition, many a whole body. Both are recognised by their SHA-256, so
that a definition is judged once for as long as the task types stay the same.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeVar

import orjson
from pydantic import JsonValue

from api.bodies import LARGE_BYTES
from api.recent import Recent
from api.refusals import InvalidRequest, RefusedDefinition
from api.run_requests import StoredRequest, read_run_request
from api.stored_flows import StoredFlows
from api.worker_view import WorkerView
from shared.documents import parse_document
from shared.errors import Finding, InvalidDefinition
from shared.input_schema import check_input
from shared.lease_clock import LeaseClock
from shared.settings import Settings
from shared.store.runs import NewRun
from shared.store.starting import Startable, startable
from shared.validation import (
    MAX_FINDINGS,
    Limits,
    Submission,
    Validated,
    split_submission,
    validate_definition,
)

T = TypeVar("T")

_KEPT_BODIES_BYTES = 4_000_000
_KEPT_DEFINITIONS_BYTES = 8_000_000
_OWN_WEIGHT = 500
"""What keeping anything costs beside its bytes."""


@dataclass(frozen=True, slots=True)
class PreparedDefinition:
    """A valid definition, ready to be run."""

    start: Startable
    input_schema: JsonValue
    task_types: frozenset[str]
    """The types under which it was found valid."""


@dataclass(frozen=True, slots=True)
class PreparedRun:
    """A submit that may run."""

    definition: PreparedDefinition
    input_json: bytes
    asked_for: str
    """The hash of the definition or, of a stored one, the id and version as the body has them."""

    def new_run(
        self, clock: LeaseClock, idempotency_key: str | None, *, schedule_id: str | None = None
    ) -> NewRun:
        """The run to be stored, with new ids."""
        return self.definition.start.new_run(
            self.input_json,
            now=datetime.now(UTC),
            ready_at=clock.now(),
            idempotency_key=idempotency_key,
            request_hash=None if idempotency_key is None else self._hash(),
            schedule_id=schedule_id,
        )

    def _hash(self) -> str:
        """The same for bodies that differ in blanks only: a client may write JSON anew."""
        content = hashlib.sha256(self.asked_for.encode())
        content.update(self.input_json)
        return content.hexdigest()


class Submissions:
    """Judges submitted bodies, and remembers those that were found good."""

    def __init__(self, workers: WorkerView, stored: StoredFlows, settings: Settings) -> None:
        self._workers = workers
        self._stored = stored
        self._settings = settings
        self._limits = Limits(settings.max_tasks, settings.max_edges)
        self._bodies: Recent[bytes, PreparedRun] = Recent(_KEPT_BODIES_BYTES)
        self._definitions: Recent[bytes, PreparedDefinition] = Recent(_KEPT_DEFINITIONS_BYTES)

    async def prepare(self, body: bytes) -> PreparedRun:
        """What ``body`` asks to be run.

        Raises:
            InvalidDocument: it is not JSON.
            InvalidDefinition: it cannot run.
            InvalidRequest: it names a stored definition that is not there, or cannot run now.
        """
        types = await self._workers.task_types()
        key = hashlib.sha256(body).digest()
        known = self._bodies.get(key)
        if known is not None and known.definition.task_types is types:
            return known
        return await self._by_newest_types(types, lambda given: self._judge(key, body, given))

    async def prepare_stored(self, wanted: StoredRequest, size: int) -> PreparedRun:
        """A run of a stored definition; ``size`` is that of its input.

        Raises:
            InvalidDefinition: the input does not fit it.
            InvalidRequest: it is not there, or cannot run now.
        """
        types = await self._workers.task_types()
        return await self._by_newest_types(
            types, lambda given: self._prepare_stored(size, wanted, given)
        )

    async def _by_newest_types(
        self,
        types: frozenset[str],
        judge: Callable[[frozenset[str]], Awaitable[PreparedRun]],
    ) -> PreparedRun:
        """Judge by ``types`` and, where they know too little, by those of this moment."""
        try:
            return await judge(types)
        except (RefusedDefinition, InvalidRequest) as error:
            if all(finding.code != "unknown_task_type" for finding in error.findings):
                raise
            # A worker that knows more may have started a moment ago.
            newer = await self._workers.task_types(max_age_seconds=0.0)
            if newer is types:
                raise
        return await judge(newer)

    async def validate(self, body: bytes) -> Validated:
        """Everything that can be said about the definition in ``body``.

        Raises:
            InvalidDocument: it is not JSON.
            InvalidDefinition: it does not even hold a definition.
        """
        types = await self._workers.task_types()
        if len(body) <= LARGE_BYTES:
            return self._validate(self._split(body), types)
        return await asyncio.to_thread(lambda: self._validate(self._split(body), types))

    async def _judge(self, key: bytes, body: bytes, types: frozenset[str]) -> PreparedRun:
        prepared = await self._beside(len(body), lambda: self._prepare(body, types))
        if isinstance(prepared, StoredRequest):
            # Not kept by its body, which means another version when a newer one is stored.
            return await self._prepare_stored(len(body), prepared, types)
        size = len(prepared.definition.start.json) + len(prepared.input_json)
        self._bodies.add(key, prepared, size + _OWN_WEIGHT)
        return prepared

    async def _beside(self, size: int, work: Callable[[], T]) -> T:
        """Do it here or, where it takes long, on a thread."""
        return work() if size <= LARGE_BYTES else await asyncio.to_thread(work)

    def _prepare(self, body: bytes, types: frozenset[str]) -> PreparedRun | StoredRequest:
        submission = read_run_request(self._parse(body))
        if isinstance(submission, StoredRequest):
            return submission
        key = hashlib.sha256(orjson.dumps(submission.definition)).digest()
        definition = self._definitions.get(key)
        if definition is None or definition.task_types is not types:
            validated = self._validate(submission, types)
            if validated.flow is None:
                raise RefusedDefinition(validated.errors, validated.error_count)
            definition = self._keep(key, validated, types)
        return _prepare_run(definition, submission.input, definition.start.hash)

    async def _prepare_stored(
        self, size: int, wanted: StoredRequest, types: frozenset[str]
    ) -> PreparedRun:
        found = await self._stored.find(wanted)
        # The hash of what is stored is the key by which definitions are kept.
        key = bytes.fromhex(found.hash)
        definition = self._definitions.get(key)
        if definition is None or definition.task_types is not types:
            content = await self._stored.content(wanted, found.version)
            size += len(content)
            definition = await self._beside(
                size, lambda: self._judge_stored(key, content, found.version, types)
            )
        known = definition
        return await self._beside(size, lambda: _prepare_run(known, wanted.input, wanted.identity))

    def _judge_stored(
        self, key: bytes, content: bytes, version: int, types: frozenset[str]
    ) -> PreparedDefinition:
        """It was valid when it was stored: the task types may be others now."""
        validated = self._validate(Submission(orjson.loads(content), "", None), types)
        if validated.flow is None:
            raise InvalidRequest([_told(finding, version) for finding in validated.errors])
        return self._keep(key, validated, types)

    def _keep(self, key: bytes, validated: Validated, types: frozenset[str]) -> PreparedDefinition:
        flow = validated.flow
        assert flow is not None
        content = validated.definition_json
        definition = PreparedDefinition(
            start=startable(flow.definition, flow.hash, content),
            input_schema=flow.definition.input_schema,
            task_types=types,
        )
        self._definitions.add(key, definition, len(content) + _OWN_WEIGHT)
        return definition

    def _parse(self, body: bytes) -> JsonValue:
        settings = self._settings
        return parse_document(body, max_depth=settings.max_depth, max_bytes=settings.max_body_bytes)

    def _split(self, body: bytes) -> Submission:
        return split_submission(self._parse(body))

    def _validate(self, submission: Submission, types: frozenset[str]) -> Validated:
        return validate_definition(
            submission.definition,
            prefix=submission.prefix,
            limits=self._limits,
            task_types=types,
        )


def _prepare_run(definition: PreparedDefinition, given: JsonValue, asked_for: str) -> PreparedRun:
    wrong = check_input(definition.input_schema, given, MAX_FINDINGS)
    if wrong:
        raise InvalidDefinition(wrong)
    return PreparedRun(definition, orjson.dumps(given), asked_for)


def _told(finding: Finding, version: int) -> Finding:
    """A finding about a stored definition, at the place of the body that names it."""
    message = f"version {version} cannot run now: {finding.pointer or '/'}: {finding.message}"
    return replace(finding, pointer="/flow_id", message=message, offset=None)
