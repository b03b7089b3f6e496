"""A submitted body taken apart: a definition to be run, or the name of a stored one."""

from dataclasses import dataclass

from pydantic import JsonValue

from shared.definition import MAX_NAME_LENGTH
from shared.errors import InvalidDefinition
from shared.findings import MAX_FINDINGS, Findings, quoted
from shared.sub_flows import is_version


@dataclass(frozen=True, slots=True)
class Submission:
    """The parts of a submitted body."""

    definition: JsonValue
    prefix: str
    """The pointer of the definition in the body: ``/flow`` or, where it is bare, empty."""
    input: JsonValue


@dataclass(frozen=True, slots=True)
class StoredSubmission:
    """A body that names a stored definition."""

    flow_id: str
    version: int | None
    """The newest where it is None."""
    input: JsonValue

    @property
    def asked_for(self) -> str:
        """What was named; the same whatever is the newest version by now."""
        return f"stored {self.version} {self.flow_id}"


def read_submission(body: JsonValue) -> Submission | StoredSubmission:
    """Take a body apart that asks for a run.

    Raises:
        InvalidDefinition: it is none.
    """
    if not isinstance(body, dict) or "flow_id" not in body or body.keys() & _DEFINES:
        return split_submission(body)
    findings = Findings(MAX_FINDINGS)
    flow_id, version = body["flow_id"], body.get("version")
    if not isinstance(flow_id, str) or not 0 < len(flow_id) <= MAX_NAME_LENGTH:
        findings.error("/flow_id", "wrong_type", '"flow_id" must be the id of a stored flow')
    if version is not None and not is_version(version):
        findings.error("/version", "wrong_type", '"version" must be a whole number from 1 on')
    for key in body:
        if key not in ("flow_id", "version", "input"):
            findings.error("", "unknown_field", f"there is no field {quoted(key)} here")
    if findings.errors or not isinstance(flow_id, str):
        raise InvalidDefinition(findings.errors)
    known = version if is_version(version) else None
    return StoredSubmission(flow_id, known, body.get("input", {}))


_DEFINES = {"flow", "start_task", "tasks"}
"""Fields of a body that brings its definition along."""


def split_submission(body: JsonValue) -> Submission:
    """Take a body apart: ``{"flow": {...}, "input": {...}}``, or a bare definition.

    Raises:
        InvalidDefinition: it is neither.
    """
    findings = Findings(MAX_FINDINGS)
    if not isinstance(body, dict):
        findings.error("", "wrong_type", 'the body must be an object with "flow" and "input"')
    elif "flow" in body:
        for key in body:
            if key not in ("flow", "input"):
                findings.error("", "unknown_field", f"there is no field {quoted(key)} here")
        if not findings.errors:
            return Submission(body["flow"], "/flow", body.get("input", {}))
    elif "start_task" in body or "tasks" in body:
        return Submission(body, "", {})
    else:
        findings.error("", "missing_field", '"flow" is missing')
    raise InvalidDefinition(findings.errors)
