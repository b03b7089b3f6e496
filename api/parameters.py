"""What a request asks for beside its body: ids, waits, keys, pages and times."""

import math
import re
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Query
from pydantic import AfterValidator, AwareDatetime, BeforeValidator
from starlette.requests import Request

from api.refusals import invalid
from shared.cron import SCHEDULE_KEYS
from shared.errors import NotFound
from shared.ids import FlowRunId, TaskRunId, is_id

MAX_KEY_LENGTH = 255
"""Characters of an idempotency key: room for any id, and no document."""

_PREFERRED_WAIT = re.compile(r'(?:^|[,;\s])wait\s*=\s*"?(\d{1,9})"?\s*(?:$|[,;])', re.IGNORECASE)
_PRINTABLE_ASCII = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_ID = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
_DATE_AND_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}")
_TEXT = r"^[^\x00-\x1f\x7f]*$"


def run_id(request: Request) -> FlowRunId:
    """The run that the path names.

    Raises:
        NotFound: it cannot be the id of any run.
    """
    text = request.path_params["flow_run_id"]
    if not is_id(text):
        raise unknown_run()
    return FlowRunId(text)


def unknown_run() -> NotFound:
    """What is said about a run that does not exist."""
    return NotFound("There is no run of that id.")


def wait_seconds(request: Request, max_seconds: float) -> float | None:
    """How long the caller wants to wait for the end of the run, by ``?wait=`` or ``Prefer``.

    A preference that cannot be understood is ignored, as RFC 7240 asks; a parameter is not.

    Raises:
        InvalidRequest: ``?wait=`` is no number of seconds.
    """
    text = request.query_params.get("wait") if request.scope["query_string"] else None
    if text is None:
        preferred = _PREFERRED_WAIT.search(request.headers.get("prefer", ""))
        return min(float(preferred[1]), max_seconds) if preferred else None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise invalid("query", "wait", "Must be a number of seconds, 0 or more.")
    return min(seconds, max_seconds)


def idempotency_key(request: Request) -> str | None:
    """The caller's key for this submit, where it gave one.

    Raises:
        InvalidRequest: the key cannot be used.
    """
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if len(key) > MAX_KEY_LENGTH or not _PRINTABLE_ASCII.fullmatch(key):
        raise invalid(
            "header",
            "Idempotency-Key",
            f"Must be 1 to {MAX_KEY_LENGTH} printable ASCII characters.",
        )
    if key.startswith(SCHEDULE_KEYS):
        message = f'Keys that begin with "{SCHEDULE_KEYS}" are those of schedules.'
        raise invalid("header", "Idempotency-Key", message)
    return key


def run_cursor(text: str | None) -> FlowRunId | None:
    """The run behind which a page begins."""
    return None if text is None else FlowRunId(text)


def task_run_cursor(text: str | None) -> TaskRunId | None:
    """The task run behind which a page begins."""
    return None if text is None else TaskRunId(text)


def _as_text(value: object) -> object:
    """Refuse what pydantic would also take for a time: a number of seconds, or milliseconds."""
    if isinstance(value, str) and not _DATE_AND_TIME.match(value):
        raise ValueError("Must be a date and time such as 2026-01-02T03:04:05Z")
    return value


def _in_utc(at: datetime) -> datetime:
    try:
        return at.astimezone(UTC)
    except OverflowError:
        raise ValueError("Time is out of range") from None


Cursor = Annotated[str | None, Query(pattern=_ID, description="`next_cursor` of the page before.")]
Limit = Annotated[int | None, Query(ge=1, le=1_000, description="Rows of a page.")]
Text = Annotated[str | None, Query(min_length=1, max_length=200, pattern=_TEXT)]
Time = Annotated[
    Annotated[AwareDatetime, BeforeValidator(_as_text), AfterValidator(_in_utc)] | None,
    Query(description="RFC 3339, with its offset from UTC."),
]
