"""What becomes of a submitted body: judged, prepared, and written as a run.

Most submits repeat a definition, many a whole body. Both are recognised by their SHA-256, so
that a definition is judged once for as long as the task types stay the same.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import orjson
from pydantic import JsonValue

from api.bodies import LARGE_BYTES
from api.recent import Recent
from api.refusals import RefusedDefinition
from api.stored import StoredView
from api.sub_flows import SubFlowView
from api.worker_view import WorkerView
from shared.documents import parse_document
from shared.errors import ExpressionError, Finding, InvalidDefinition
from shared.findings import MAX_FINDINGS
from shared.input_schema import check_input
from shared.lease_clock import LeaseClock
from shared.limits import RunLimit
from shared.params_schema import TaskTypes
from shared.settings import Settings
from shared.store.new_runs import RunnableDefinition, Start, limit_of, new_run, runnable
from shared.store.runs import NewRun
from shared.sub_flows import SubFlowReference, sub_flow_references
from shared.submissions import (
    StoredSubmission,
    Submission,
    read_submission,
    split_submission,
)
from shared.validation import (
    Limits,
    Validated,
    validate_definition,
)

_KEPT_BODIES_BYTES = 4_000_000
_KEPT_DEFINITIONS_BYTES = 8_000_000
_OWN_WEIGHT = 500
"""What keeping anything costs beside its bytes."""


@dataclass(frozen=True, slots=True)
class PreparedDefinition:
    """A definition that was found valid, ready to be started."""

    runnable: RunnableDefinition
    sub_flows: tuple[SubFlowReference, ...]
    task_types: TaskTypes
    """The types under which it was found valid."""


@dataclass(frozen=True, slots=True)
class PreparedRun:
    """A submit that may run."""

    definition: PreparedDefinition
    input_json: bytes
    asked_for: str
    """The definition as the caller named it: by its hash, or by the id it is stored under."""
    prefix: str = ""
    """The pointer of the definition in the body."""
    limit: RunLimit | None = None
    """The place that it needs to begin."""

    def new_run(
        self, clock: LeaseClock, idempotency_key: str | None, *, schedule_id: str | None = None
    ) -> NewRun:
        """The run to be stored, with new ids."""
        start = Start(
            input_json=self.input_json,
            at=datetime.now(UTC),
            lease_now=clock.now(),
            idempotency_key=idempotency_key,
            request_hash=None if idempotency_key is None else self._hash(),
            schedule_id=schedule_id,
            limit=self.limit,
        )
        return new_run(self.definition.runnable, start)

    def _hash(self) -> str:
        """The same for bodies that differ in blanks only: a client may write JSON anew."""
        content = hashlib.sha256(self.asked_for.encode())
        content.update(self.input_json)
        return content.hexdigest()


class Submissions:
    """Judges submitted bodies, and remembers those that were found good."""

    def __init__(
        self, workers: WorkerView, stored: StoredView, sub_flows: SubFlowView, settings: Settings
    ) -> None:
        self._workers = workers
        self._stored = stored
        self._sub_flows = sub_flows
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
        prepared = self._bodies.get(key)
        if prepared is None or prepared.definition.task_types is not types:
            prepared = await self._by_newest_types(
                lambda types: self._judge(key, body, types), types
            )
        return await self._with_sub_flows(prepared)

    async def prepare_parts(self, submission: Submission) -> PreparedRun:
        """The same for a definition and an input that did not come in one body.

        Raises:
            InvalidDefinition: it cannot run.
        """

        async def judge(types: TaskTypes) -> PreparedRun:
            # Not looked at for its size, which nobody knows: seldom enough for a thread.
            return await asyncio.to_thread(self._prepare_parts, submission, types)

        prepared = await self._by_newest_types(judge, await self._workers.task_types())
        return await self._with_sub_flows(prepared)

    async def _with_sub_flows(self, prepared: PreparedRun) -> PreparedRun:
        definition = prepared.definition
        wrong = await self._sub_flows.findings(
            definition.runnable.flow_id, definition.sub_flows, prepared.prefix
        )
        if wrong:
            raise InvalidDefinition(wrong[:MAX_FINDINGS])
        return prepared

    async def validate(self, body: bytes) -> Validated:
        """Everything that can be said about the definition in ``body``.

        Raises:
            InvalidDocument: it is not JSON.
            InvalidDefinition: it does not even hold a definition.
        """
        types = await self._workers.task_types()
        if len(body) <= LARGE_BYTES:
            validated, prefix = self._judge_definition(body, types)
        else:
            validated, prefix = await asyncio.to_thread(self._judge_definition, body, types)
        if validated.flow is None:
            return validated
        definition = validated.flow.definition
        references = tuple(sub_flow_references(definition))
        wrong = await self._sub_flows.findings(definition.id, references, prefix)
        if not wrong:
            return validated
        told = tuple(wrong[:MAX_FINDINGS])
        return replace(validated, errors=told, error_count=len(wrong), flow=None)

    def _judge_definition(self, body: bytes, types: TaskTypes) -> tuple[Validated, str]:
        submission = split_submission(self._parse(body))
        return self._validate(submission, types), submission.prefix

    async def _by_newest_types(
        self, judge: Callable[[TaskTypes], Awaitable[PreparedRun]], types: TaskTypes
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

    async def _judge(self, key: bytes, body: bytes, types: TaskTypes) -> PreparedRun:
        if len(body) <= LARGE_BYTES:
            prepared = self._prepare(body, types)
        else:
            prepared = await asyncio.to_thread(self._prepare, body, types)
        if isinstance(prepared, StoredSubmission):
            # Not kept by its body: which version is the newest changes.
            return await self._prepare_stored(prepared, types)
        size = len(prepared.definition.runnable.json) + len(prepared.input_json)
        self._bodies.add(key, prepared, size + _OWN_WEIGHT)
        return prepared

    def _prepare(self, body: bytes, types: TaskTypes) -> PreparedRun | StoredSubmission:
        submission = read_submission(self._parse(body))
        if isinstance(submission, StoredSubmission):
            return submission
        return self._prepare_parts(submission, types)

    def _prepare_parts(self, submission: Submission, types: TaskTypes) -> PreparedRun:
        key = hashlib.sha256(orjson.dumps(submission.definition)).digest()
        definition = self._definitions.get(key)
        if definition is None or definition.task_types is not types:
            validated = self._validate(submission, types)
            if validated.flow is None:
                raise RefusedDefinition(validated.errors, validated.error_count)
            definition = self._keep(key, validated, types)
        return PreparedRun(
            definition,
            _checked_input(definition, submission.input),
            definition.runnable.hash,
            submission.prefix,
            _read_limit(definition, submission.input, f"{submission.prefix}/concurrency/key"),
        )

    async def _prepare_stored(self, submission: StoredSubmission, types: TaskTypes) -> PreparedRun:
        """A run of a definition that was stored before, under the types of today."""
        stored = await self._stored.version(submission.flow_id, submission.version)
        key = bytes.fromhex(stored.hash)
        definition = self._definitions.get(key)
        if definition is None or definition.task_types is not types:
            body = Submission(orjson.loads(stored.content), "", None)
            validated = await asyncio.to_thread(self._validate, body, types)
            if validated.flow is None:
                raise RefusedDefinition(_as_stored(stored.version, validated), 1)
            definition = self._keep(key, validated, types)
        return PreparedRun(
            definition,
            _checked_input(definition, submission.input),
            submission.asked_for,
            limit=_read_limit(definition, submission.input, "/flow_id"),
        )

    def _keep(self, key: bytes, validated: Validated, types: TaskTypes) -> PreparedDefinition:
        flow = validated.flow
        assert flow is not None
        definition = PreparedDefinition(
            runnable=runnable(flow.definition, flow.hash, validated.definition_json),
            sub_flows=tuple(sub_flow_references(flow.definition)),
            task_types=types,
        )
        self._definitions.add(key, definition, len(definition.runnable.json) + _OWN_WEIGHT)
        return definition

    def _parse(self, body: bytes) -> JsonValue:
        settings = self._settings
        return parse_document(body, max_depth=settings.max_depth, max_bytes=settings.max_body_bytes)

    def _validate(self, submission: Submission, types: TaskTypes) -> Validated:
        return validate_definition(
            submission.definition,
            prefix=submission.prefix,
            limits=self._limits,
            task_types=types.names,
            params_schemas=types.params_schemas,
            queues=self._workers.queues,
        )


def _checked_input(definition: PreparedDefinition, given: JsonValue) -> bytes:
    wrong = check_input(definition.runnable.input_schema, given, MAX_FINDINGS)
    if wrong:
        raise InvalidDefinition(wrong)
    return orjson.dumps(given)


def _read_limit(definition: PreparedDefinition, given: JsonValue, pointer: str) -> RunLimit | None:
    """What the run needs to begin, by its input; ``pointer`` is the place of the key."""
    try:
        return limit_of(definition.runnable, given)
    except ExpressionError as error:
        finding = Finding(pointer, "bad_key", error.message, offset=error.offset)
        raise InvalidDefinition([finding]) from None


def _as_stored(version: int, validated: Validated) -> list[Finding]:
    """What keeps a stored definition from running now, told of the id that names it."""
    first = validated.errors[0]
    message = f"version {version} cannot run now: {first.pointer}: {first.message}"
    return [Finding("/flow_id", first.code, message, first.suggestion)]
