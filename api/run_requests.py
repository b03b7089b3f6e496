"""What a body of ``POST /run-flow`` asks for: a definition that it brings, or a stored one."""

from dataclasses import dataclass

from pydantic import JsonValue

from api.refusals import InvalidRequest
from shared.definition import MAX_NAME_LENGTH
from shared.errors import Finding
from shared.findings import nearest_names, quoted
from shared.validation import Submission, split_submission

_FIELDS = ("flow_id", "version", "input")
MAX_VERSION = 2**31 - 1
"""What the column holds."""


@dataclass(frozen=True, slots=True)
class StoredRequest:
    """A run of a stored definition is asked for."""

    flow_id: str
    version: int | None
    """None for the newest at that moment."""
    input: JsonValue

    @property
    def identity(self) -> str:
        """What was asked for, whatever is the newest version by now. No flow's id holds a line
        break."""
        return f"{self.flow_id}\n{self.version or ''}"


def read_run_request(document: JsonValue) -> Submission | StoredRequest:
    """Take the body of a submit apart.

    Raises:
        InvalidDefinition: it brings a definition, and something else.
        InvalidRequest: it names a stored definition in a wrong way.
    """
    if not isinstance(document, dict) or "flow_id" not in document:
        return split_submission(document)
    if not document.keys().isdisjoint(("flow", "start_task", "tasks")):
        return split_submission(document)
    findings = [_unknown(field) for field in document if field not in _FIELDS]
    flow_id, version = document["flow_id"], document.get("version")
    findings += check_flow_reference(flow_id, version)
    if findings:
        raise InvalidRequest(findings)
    assert isinstance(flow_id, str)
    assert version is None or isinstance(version, int)
    return StoredRequest(flow_id, version, document.get("input", {}))


def check_flow_reference(flow_id: JsonValue, version: JsonValue) -> list[Finding]:
    """What is wrong with the fields ``flow_id`` and ``version`` themselves."""
    findings = []
    if not isinstance(flow_id, str):
        findings.append(Finding("/flow_id", "wrong_type", "must be text: a flow's id"))
    elif not 1 <= len(flow_id) <= MAX_NAME_LENGTH:
        message = f"must have 1 to {MAX_NAME_LENGTH} characters"
        findings.append(Finding("/flow_id", "wrong_value", message))
    if version is not None:
        is_number = isinstance(version, int) and not isinstance(version, bool)
        if not is_number:
            message = "must be a whole number, or left out for the newest version"
            findings.append(Finding("/version", "wrong_type", message))
        elif not 1 <= version <= MAX_VERSION:  # type: ignore[operator]  # an int by then
            findings.append(Finding("/version", "wrong_value", "versions count from 1"))
    return findings


def _unknown(field: str) -> Finding:
    nearest = nearest_names(field, _FIELDS)
    hint = f"did you mean {quoted(nearest[0])}?" if nearest else None
    return Finding("", "unknown_field", f"there is no field {quoted(field)} here", hint)
