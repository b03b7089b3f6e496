"""What is asked of a rerun: from where on, with which input, by which definition."""

import hashlib
from dataclasses import dataclass
from typing import Literal, TypeAlias

import orjson
from pydantic import JsonValue
from sqlalchemy import Connection

from api.parameters import unknown_run
from api.refusals import InvalidRequest
from shared.definition import MAX_NAME_LENGTH
from shared.documents import escape, parse_document
from shared.errors import Conflict, Finding
from shared.findings import Findings, quoted
from shared.ids import FlowRunId
from shared.queries.definitions import get_version
from shared.queries.replay import run_again, was_visited
from shared.replay import Point
from shared.settings import Settings
from shared.status import RunStatus

START, FAILED = "start", "failed"
"""What ``from`` may be beside a task's name."""
_FIELDS = ("from", "input", "definition")
_MAX_FINDINGS = 20

Chosen: TypeAlias = Literal["same", "latest"] | dict[str, JsonValue]


@dataclass(frozen=True, slots=True)
class RerunRequest:
    """A body that was read."""

    begin: str
    """``start``, ``failed`` or a task's name."""
    definition: Chosen
    input: JsonValue
    keeps_input: bool
    """Whether the source's input is used."""

    @property
    def point(self) -> Point | None:
        """From where on results are not kept; None where none is."""
        if self.begin == START:
            return None
        return Point(None if self.begin == FAILED else self.begin)

    def hash(self, source: FlowRunId) -> str:
        """The same for requests that ask for the same."""
        asked = [source, self.begin, self.definition, self.keeps_input, self.input]
        return hashlib.sha256(orjson.dumps(asked)).hexdigest()


@dataclass(frozen=True, slots=True)
class Parts:
    """What the rerun of a run is made of."""

    definition: JsonValue
    input: JsonValue


def read_request(body: bytes, settings: Settings) -> RerunRequest:
    """What a body asks for; an empty one asks to go on from what failed.

    Raises:
        InvalidDocument: it is not JSON.
        InvalidRequest: it asks for what there is not.
    """
    document: JsonValue = {}
    if body.strip():
        document = parse_document(
            body, max_depth=settings.max_depth, max_bytes=settings.max_body_bytes
        )
    findings = Findings(_MAX_FINDINGS)
    if not isinstance(document, dict):
        findings.error("", "wrong_type", "the body must be an object")
        raise InvalidRequest(findings.errors)
    for name in document:
        if name not in _FIELDS:
            findings.unknown(f"/{escape(name)}", "unknown_field", "field", name, _FIELDS)
    begin, definition = document.get("from", FAILED), document.get("definition", "same")
    if not isinstance(begin, str) or not 1 <= len(begin) <= MAX_NAME_LENGTH:
        message = 'must be "start", "failed" or the name of a task'
        findings.error("/from", "wrong_type", message)
    if not isinstance(definition, dict) and definition not in ("same", "latest"):
        message = 'must be "same", "latest" or a flow definition'
        findings.error("/definition", "wrong_type", message)
    if findings.errors:
        raise InvalidRequest(findings.errors)
    assert isinstance(begin, str)
    return RerunRequest(
        begin=begin,
        definition=definition,  # type: ignore[arg-type]  # looked at above
        input=document.get("input"),
        keeps_input="input" not in document,
    )


def read_parts(connection: Connection, source: FlowRunId, request: RerunRequest) -> Parts:
    """The definition and the input that the rerun of ``source`` has.

    Raises:
        NotFound: there is no such run.
        Conflict: it is not over, or no definition of its flow is stored.
    """
    run = run_again(connection, source)
    if run is None:
        raise unknown_run()
    if run.status == RunStatus.RUNNING:
        raise not_over()
    definition: JsonValue
    match request.definition:
        case "same":
            definition = orjson.loads(run.content)
        case "latest":
            newest = get_version(connection, run.flow_id)
            if newest is None:
                raise Conflict(f"No definition is stored under {quoted(run.flow_id)}.")
            definition = orjson.loads(newest.definition)
        case dict() as given:
            definition = given
    kept = None if run.input is None else orjson.loads(run.input)
    return Parts(definition, kept if request.keeps_input else request.input)


def not_over() -> Conflict:
    """What is said about a run that still runs."""
    return Conflict("The run is not over; wait for its end, or cancel it first.")


def check_begin(
    connection: Connection, source: FlowRunId, begin: str, definition: JsonValue
) -> None:
    """Whether the run can be run again from there; ``definition`` is a valid one.

    Raises:
        InvalidRequest: there is no such task, or the run never came to it.
    """
    if begin in (START, FAILED):
        return
    assert isinstance(definition, dict)
    tasks = definition["tasks"]
    assert isinstance(tasks, list)
    names = [str(task["name"]) for task in tasks if isinstance(task, dict)]
    findings = Findings(_MAX_FINDINGS)
    if begin not in names:
        findings.unknown("/from", "unknown_task", "task", begin, [START, FAILED, *names])
    elif not was_visited(connection, source, begin):
        message = f"the run never came to {quoted(begin)}"
        findings.errors.append(Finding("/from", "not_visited", message))
    if findings.errors:
        raise InvalidRequest(findings.errors)
