"""What a body says about a schedule: read, and all that is wrong with it told with its place."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from pydantic import JsonValue

from api.refusals import InvalidRequest
from shared.cron import OverlapPolicy, Schedule, next_tick, parse_schedule
from shared.errors import Finding, InvalidDefinition, InvalidSchedule
from shared.findings import nearest_names, quoted
from shared.submissions import StoredSubmission, read_submission

SCHEDULE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")
"""Ids stand in paths and in idempotency keys."""
_TIMING = ("cron", "time_zone", "every", "start")
_STARTS = ("flow_id", "version", "input")
_FIELDS = ("id", *_STARTS, *_TIMING, "overlap", "catch_up", "paused")
_OVERLAPS: Mapping[str, OverlapPolicy] = {"skip": "skip", "queue": "queue", "allow": "allow"}


@dataclass(frozen=True, slots=True)
class ScheduleRequest:
    """A schedule as a caller wants it."""

    id: str | None
    wanted: StoredSubmission
    """What it starts."""
    timing: Schedule
    overlap: OverlapPolicy
    catch_up: bool
    paused: bool | None
    """None where the body does not say."""


def read_schedule(document: JsonValue, now: datetime) -> ScheduleRequest:
    """The schedule in a body.

    Raises:
        InvalidRequest: with everything that is wrong with it.
    """
    if not isinstance(document, dict):
        raise InvalidRequest([Finding("", "wrong_type", "a schedule must be an object")])
    findings = [_unknown(field) for field in document if field not in _FIELDS]
    wanted = _read_wanted(document, findings)
    findings += _check_plain_fields(document)
    timing = _read_timing(document, now, findings)
    if findings or timing is None or wanted is None:
        raise InvalidRequest(findings)
    return _request(document, wanted, timing)


def _request(
    document: dict[str, JsonValue], wanted: StoredSubmission, timing: Schedule
) -> ScheduleRequest:
    """Of a document that was found good."""
    schedule_id, paused = document.get("id"), document.get("paused")
    assert schedule_id is None or isinstance(schedule_id, str)
    assert paused is None or isinstance(paused, bool)
    return ScheduleRequest(
        id=schedule_id,
        wanted=wanted,
        timing=timing,
        overlap=_OVERLAPS[str(document.get("overlap", "skip"))],
        catch_up=document.get("catch_up", True) is True,
        paused=paused,
    )


def _read_wanted(
    document: dict[str, JsonValue], findings: list[Finding]
) -> StoredSubmission | None:
    """What it starts; what is wrong with that goes to ``findings``."""
    if "flow_id" not in document:
        findings.append(Finding("", "missing_field", '"flow_id" is missing'))
        return None
    named = {field: document[field] for field in _STARTS if field in document}
    try:
        wanted = read_submission(named)
    except InvalidDefinition as error:
        findings.extend(error.findings)
        return None
    assert isinstance(wanted, StoredSubmission)
    return wanted


def _check_plain_fields(document: dict[str, JsonValue]) -> list[Finding]:
    findings = []
    schedule_id = document.get("id")
    is_id = isinstance(schedule_id, str) and SCHEDULE_ID.fullmatch(schedule_id)
    if schedule_id is not None and not is_id:
        message = "must be 1 to 100 letters, digits and . _ : - beginning with a letter or digit"
        findings.append(Finding("/id", "wrong_value", message))
    overlap = document.get("overlap", "skip")
    if not isinstance(overlap, str) or overlap not in _OVERLAPS:
        message = 'must be "skip", "queue" or "allow"'
        findings.append(Finding("/overlap", "wrong_value", message))
    for field in ("catch_up", "paused"):
        if field in document and not isinstance(document[field], bool):
            findings.append(Finding(f"/{field}", "wrong_type", "must be true or false"))
    return findings


def _read_timing(
    document: dict[str, JsonValue], now: datetime, findings: list[Finding]
) -> Schedule | None:
    """When it fires; what is wrong with that goes to ``findings``."""
    try:
        timing = parse_schedule({field: document[field] for field in _TIMING if field in document})
    except InvalidSchedule as error:
        pointer = f"/{error.field}" if error.field else ""
        findings.append(Finding(pointer, "bad_schedule", error.message, error.suggestion))
        return None
    if next_tick(timing, now) is None:
        findings.append(Finding("", "bad_schedule", "it has no tick from now on"))
        return None
    return timing


def _unknown(field: str) -> Finding:
    nearest = nearest_names(field, _FIELDS)
    hint = f"did you mean {quoted(nearest[0])}?" if nearest else None
    return Finding("", "unknown_field", f"there is no field {quoted(field)} here", hint)
