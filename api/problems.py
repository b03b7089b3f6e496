"""Errors as RFC 9457 problem details: the one place that knows which status an error becomes.

A problem says what is wrong and where. It never repeats the input but for the names that a
finding carries, never tells how the service works inside, and is at most 4 KB long.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus

import orjson
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from api.refusals import (
    BodyTooLarge,
    BodyTooSlow,
    InvalidRequest,
    RefusedDefinition,
    UnsupportedBody,
)
from shared.errors import (
    ConcurrencyReached,
    Conflict,
    Finding,
    FlowManagerError,
    IdempotencyMismatch,
    InvalidDefinition,
    InvalidDocument,
    InvalidInput,
    LimitExceeded,
    NotFound,
    RunIsOver,
    Unavailable,
)

MEDIA_TYPE = "application/problem+json"
MAX_PROBLEM_BYTES = 4_096
MAX_FINDINGS = 20
_MAX_TEXT_CHARACTERS = 500
"""Of one message, pointer or suggestion: a long name must not crowd out the other findings."""
_RETRY_AFTER = {"Retry-After": "1"}
"""Seconds. A database that restarts is back within a few."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of problem: what its ``type`` names."""

    status: HTTPStatus
    name: str
    title: str
    headers: Mapping[str, str] | None = None


_KINDS: dict[type[FlowManagerError], Kind] = {
    InvalidDocument: Kind(HTTPStatus.BAD_REQUEST, "invalid-json", "The body is not usable JSON"),
    BodyTooSlow: Kind(
        HTTPStatus.REQUEST_TIMEOUT,
        "body-too-slow",
        "The body did not come in time",
        {"Connection": "close"},
    ),
    BodyTooLarge: Kind(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body-too-large", "The body is too large"
    ),
    UnsupportedBody: Kind(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "unsupported-media-type",
        "The body is of a type that is not read",
        {"Accept": "application/json"},
    ),
    InvalidDefinition: Kind(
        HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-definition", "The flow definition cannot run"
    ),
    InvalidInput: Kind(
        HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-request", "The request cannot be used"
    ),
    IdempotencyMismatch: Kind(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "idempotency-mismatch",
        "This idempotency key came with another body before",
    ),
    LimitExceeded: Kind(
        HTTPStatus.UNPROCESSABLE_ENTITY, "limit-exceeded", "More than a limit allows"
    ),
    NotFound: Kind(HTTPStatus.NOT_FOUND, "not-found", "There is nothing at this address"),
    RunIsOver: Kind(HTTPStatus.CONFLICT, "run-is-over", "The run is over"),
    ConcurrencyReached: Kind(
        HTTPStatus.CONFLICT, "concurrency-reached", "As many runs of the flow go on as may"
    ),
    Conflict: Kind(HTTPStatus.CONFLICT, "conflict", "The present state forbids it"),
    Unavailable: Kind(
        HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", "Not available at the moment", _RETRY_AFTER
    ),
}

INTERNAL = Kind(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", "The service made a mistake")
TOO_LATE = Kind(
    HTTPStatus.SERVICE_UNAVAILABLE, "too-late", "There was no answer in time", _RETRY_AFTER
)


def problem_response(
    kind: Kind,
    detail: str | Callable[[int], str],
    findings: Sequence[Finding] = (),
    *,
    headers: Mapping[str, str] | None = None,
    extra: Mapping[str, int | str] | None = None,
) -> Response:
    """The answer for a problem. ``extra`` are further members of it; a ``detail`` may depend on how
    many of the findings are told."""
    return Response(
        _document(kind, detail, findings, extra or {}),
        status_code=kind.status,
        media_type=MEDIA_TYPE,
        headers={**(kind.headers or {}), **(headers or {})},
    )


async def on_error(_request: Request, error: Exception) -> Response:
    """Answer for an error of our own tree."""
    assert isinstance(error, FlowManagerError)
    kind = next(_KINDS[base] for base in type(error).__mro__ if base in _KINDS)
    match error:
        case RefusedDefinition():
            return problem_response(kind, partial(_count, error.error_count), error.findings)
        case InvalidDefinition() | InvalidRequest():
            return problem_response(kind, str(error), error.findings)
        case InvalidDocument():
            place = {"line": error.line, "column": error.column}
            finding = Finding(error.pointer, "invalid_json", error.message)
            known = {name: value for name, value in place.items() if value is not None}
            return problem_response(kind, error.message, [finding], extra=known)
        case ConcurrencyReached():
            return problem_response(kind, str(error), extra={"flow_run_id": error.flow_run_id})
        case Unavailable():
            # What the driver says about hosts and files is for our log, not for the caller.
            return problem_response(kind, "The database does not answer at the moment.")
        case _:
            return problem_response(kind, str(error))


async def on_http_error(_request: Request, error: Exception) -> Response:
    """Answer for what the router refuses: an unknown address, or another method."""
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    kind = Kind(status, status.phrase.lower().replace(" ", "-"), status.phrase)
    match status:
        case HTTPStatus.NOT_FOUND:
            kind, detail = _KINDS[NotFound], "There is no such address; see /docs."
        case HTTPStatus.METHOD_NOT_ALLOWED:
            detail = "This address does not know that method; the header Allow names what it does."
        case _:
            detail = status.description or status.phrase
    return problem_response(kind, detail, headers=error.headers)


async def on_invalid_parameters(request: Request, error: Exception) -> Response:
    """Answer for query parameters that do not fit."""
    assert isinstance(error, RequestValidationError)
    findings = [
        Finding(
            "/" + "/".join(str(part) for part in one["loc"]),
            f"invalid_{one['loc'][0]}",
            _named(one["loc"], str(one["msg"])),
        )
        for one in error.errors()[:MAX_FINDINGS]
    ]
    return await on_error(request, InvalidRequest(findings))


def _named(place: Sequence[str | int], message: str) -> str:
    """What is wrong with a parameter, as a sentence that names it."""
    said = message.removeprefix("Value error, ").removeprefix("Input ")
    return f'"{place[-1]}" {said}' if said != message else f'"{place[-1]}": {message}'


def _count(count: int, listed: int) -> str:
    if count == 1:
        return "The definition has an error."
    told = "" if listed == count else f"; the first {listed} are listed"
    return f"The definition has {count} errors{told}."


def _document(
    kind: Kind,
    detail: str | Callable[[int], str],
    findings: Sequence[Finding],
    extra: Mapping[str, int | str],
) -> bytes:
    """As many findings as fit, at least one of them."""
    say = detail if callable(detail) else lambda _: detail
    listed = [_finding(finding) for finding in findings[:MAX_FINDINGS]]
    document: dict[str, object] = {
        "type": f"urn:flow-manager:problem:{kind.name}",
        "title": kind.title,
        "status": int(kind.status),
        "detail": _cut(say(len(listed))),
        **extra,
        "errors": listed,
    }
    content = orjson.dumps(document)
    while len(content) > MAX_PROBLEM_BYTES and len(listed) > 1:
        listed.pop()
        document["detail"] = _cut(say(len(listed)))
        content = orjson.dumps(document)
    return content


def _finding(finding: Finding) -> dict[str, str | int | None]:
    told: dict[str, str | int | None] = {
        "pointer": _cut(finding.pointer),
        "code": finding.code,
        "message": _cut(finding.message),
        "suggestion": None if finding.suggestion is None else _cut(finding.suggestion),
    }
    if finding.offset is not None:
        told["offset"] = finding.offset
    return told


def _cut(text: str) -> str:
    """At most so many characters, and none that UTF-8 cannot hold."""
    if len(text) > _MAX_TEXT_CHARACTERS:
        text = text[: _MAX_TEXT_CHARACTERS - 1] + "…"
    return text.encode("utf-8", errors="replace").decode("utf-8")
