"""What becomes of a submitted body: judged, prepared, and written as a run.

Most submits repeat a definition, many a whole body. Both are recognised by their SHA-256, so
that a definition is judged once for as long as the task types stay the same.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import orjson
from pydantic import JsonValue

from api.bodies import LARGE_BYTES
from api.recent import Recent
from api.refusals import RefusedDefinition
from api.worker_view import WorkerView
from shared.documents import parse_document
from shared.errors import InvalidDefinition
from shared.flow import Flow
from shared.ids import BranchId, FlowRunId, new_id
from shared.input_schema import check_input
from shared.lease_clock import LeaseClock
from shared.settings import Settings
from shared.store.runs import NewRun
from shared.validation import (
    MAX_FINDINGS,
    Limits,
    Submission,
    Validated,
    split_submission,
    validate_definition,
)

_KEPT_BODIES_BYTES = 4_000_000
_KEPT_DEFINITIONS_BYTES = 8_000_000
_OWN_WEIGHT = 500
"""What keeping anything costs beside its bytes."""


@dataclass(frozen=True, slots=True)
class PreparedDefinition:
    """What of a valid definition a new run needs."""

    flow_id: str
    name: str
    hash: str
    json: bytes
    tags_json: bytes
    start_task: str
    start_type: str
    input_schema: JsonValue
    timeout_seconds: float | None
    task_types: frozenset[str]
    """The types under which it was found valid."""


@dataclass(frozen=True, slots=True)
class PreparedRun:
    """A submit that may run."""

    definition: PreparedDefinition
    input_json: bytes

    def new_run(self, clock: LeaseClock, idempotency_key: str | None) -> NewRun:
        """The run to be stored, with new ids."""
        definition = self.definition
        now = datetime.now(UTC)
        seconds = definition.timeout_seconds
        return NewRun(
            flow_run_id=FlowRunId(new_id()),
            branch_id=BranchId(new_id()),
            flow_id=definition.flow_id,
            name=definition.name,
            definition_hash=definition.hash,
            definition_json=definition.json,
            input_json=self.input_json,
            tags_json=definition.tags_json,
            start_task=definition.start_task,
            start_type=definition.start_type,
            created_at=now,
            ready_at=clock.now(),
            idempotency_key=idempotency_key,
            request_hash=None if idempotency_key is None else self._hash(),
            deadline=None if seconds is None else now + timedelta(seconds=seconds),
        )

    def _hash(self) -> str:
        """The same for bodies that differ in blanks only: a client may write JSON anew."""
        content = hashlib.sha256(self.definition.hash.encode())
        content.update(self.input_json)
        return content.hexdigest()


class Submissions:
    """Judges submitted bodies, and remembers those that were found good."""

    def __init__(self, workers: WorkerView, settings: Settings) -> None:
        self._workers = workers
        self._settings = settings
        self._limits = Limits(settings.max_tasks, settings.max_edges)
        self._bodies: Recent[bytes, PreparedRun] = Recent(_KEPT_BODIES_BYTES)
        self._definitions: Recent[bytes, PreparedDefinition] = Recent(_KEPT_DEFINITIONS_BYTES)

    async def prepare(self, body: bytes) -> PreparedRun:
        """What ``body`` asks to be run.

        Raises:
            InvalidDocument: it is not JSON.
            InvalidDefinition: it cannot run.
        """
        types = await self._workers.task_types()
        key = hashlib.sha256(body).digest()
        known = self._bodies.get(key)
        if known is not None and known.definition.task_types is types:
            return known
        return await self._by_newest_types(lambda types: self._judge(key, body, types), types)

    async def prepare_parts(self, submission: Submission) -> PreparedRun:
        """The same for a definition and an input that did not come in one body.

        Raises:
            InvalidDefinition: it cannot run.
        """

        async def judge(types: frozenset[str]) -> PreparedRun:
            # Not looked at for its size, which nobody knows: seldom enough for a thread.
            return await asyncio.to_thread(self._prepare_parts, submission, types)

        return await self._by_newest_types(judge, await self._workers.task_types())

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

    async def _by_newest_types(
        self,
        judge: Callable[[frozenset[str]], Awaitable[PreparedRun]],
        types: frozenset[str],
    ) -> PreparedRun:
        try:
            return await judge(types)
        except RefusedDefinition as error:
            if all(finding.code != "unknown_task_type" for finding in error.findings):
                raise
            # A worker that knows more may have started a moment ago.
            newer = await self._workers.task_types(max_age_seconds=0.0)
            if newer is types:
                raise
        return await judge(newer)

    async def _judge(self, key: bytes, body: bytes, types: frozenset[str]) -> PreparedRun:
        if len(body) <= LARGE_BYTES:
            prepared = self._prepare(body, types)
        else:
            prepared = await asyncio.to_thread(self._prepare, body, types)
        size = len(prepared.definition.json) + len(prepared.input_json)
        self._bodies.add(key, prepared, size + _OWN_WEIGHT)
        return prepared

    def _prepare(self, body: bytes, types: frozenset[str]) -> PreparedRun:
        return self._prepare_parts(self._split(body), types)

    def _prepare_parts(self, submission: Submission, types: frozenset[str]) -> PreparedRun:
        key = hashlib.sha256(orjson.dumps(submission.definition)).digest()
        definition = self._definitions.get(key)
        if definition is None or definition.task_types is not types:
            validated = self._validate(submission, types)
            if validated.flow is None:
                raise RefusedDefinition(validated.errors, validated.error_count)
            definition = _prepare_definition(validated.flow, validated.definition_json, types)
            self._definitions.add(key, definition, len(definition.json) + _OWN_WEIGHT)
        wrong = check_input(definition.input_schema, submission.input, MAX_FINDINGS)
        if wrong:
            raise InvalidDefinition(wrong)
        return PreparedRun(definition, orjson.dumps(submission.input))

    def _split(self, body: bytes) -> Submission:
        settings = self._settings
        document = parse_document(
            body, max_depth=settings.max_depth, max_bytes=settings.max_body_bytes
        )
        return split_submission(document)

    def _validate(self, submission: Submission, types: frozenset[str]) -> Validated:
        return validate_definition(
            submission.definition,
            prefix=submission.prefix,
            limits=self._limits,
            task_types=types,
        )


def _prepare_definition(flow: Flow, content: bytes, types: frozenset[str]) -> PreparedDefinition:
    definition = flow.definition
    return PreparedDefinition(
        flow_id=definition.id,
        name=definition.name,
        hash=flow.hash,
        json=content,
        tags_json=orjson.dumps(definition.tags),
        start_task=definition.start_task,
        start_type=flow.tasks[definition.start_task].task_type,
        input_schema=definition.input_schema,
        timeout_seconds=definition.timeout,
        task_types=types,
    )
