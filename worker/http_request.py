"""The task type ``http_request``: one HTTP call, described by the task's params.

The call itself is made by :mod:`worker.outbound`, behind its guard; here params become a
request, and an answer becomes a result:

==============================  ===========================================================
the answer's status             comes to
==============================  ===========================================================
as expected (2xx by default)    a success
408, 425, 429, 5xx              an error, so that ``retry`` asks again: the server could not
                                answer now
any other                       a failure, with the same data: the server has answered, and
                                would answer the same again
==============================  ===========================================================
"""

import re
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from shared.task_context import Json, TaskContext
from shared.tasks import BaseTask, TaskOutput

MAX_HEADERS = 100
MAX_HEADER_LENGTH = 16_000
"""Characters of one value; servers refuse more than 8,000 or 16,000."""
MAX_TIMEOUT_SECONDS = 86_400.0

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,200}")
_HEADER_VALUE = re.compile(r"[\x20-\x7e\t]*")
_NOT_YOURS = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers that say how a message is carried. Another value than the true one would let server
and client, or two servers in a row, disagree about what was asked."""

_EXPECTED = re.compile(r"([1-5])xx|([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?")
Scalar: TypeAlias = str | int | float | bool | None


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_AnyCase: TypeAlias = Annotated[
    str, Field(pattern=f"^(?i:{'|'.join(_METHODS)})$", examples=[*_METHODS])
]
"""What :class:`HttpRequestParams` takes as a method."""


def _listed(value: object) -> object:
    return [value] if isinstance(value, int | str) else value


class HttpRequestParams(BaseModel):
    """What to call, and what to make of the answer. Unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    url: str = Field(min_length=1)
    """``http://`` or ``https://``, without user name and password."""
    method: Annotated[
        Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"],
        BeforeValidator(_upper, json_schema_input_type=_AnyCase),
    ] = "GET"
    headers: dict[str, str] = Field(default_factory=dict, max_length=MAX_HEADERS)
    query: dict[str, Scalar | list[Scalar]] = Field(default_factory=dict)
    """Added to the URL's own query; a list gives its name several times, null leaves it out."""
    json_body: Json = Field(default=None, alias="json", title="json")
    """Sent as ``application/json``."""
    body: str | None = None
    """Sent as it is, in UTF-8; ``text/plain`` where the headers say no type."""
    expect: Annotated[
        list[int | str],
        BeforeValidator(_listed, json_schema_input_type=list[int | str] | int | str),
    ] = Field(default=["2xx"], min_length=1, max_length=100)
    """The statuses of a success: numbers, or ranges such as ``"2xx"`` and ``"200-204"``."""
    timeout: float | None = Field(default=None, gt=0, le=MAX_TIMEOUT_SECONDS)
    """Seconds for everything together; the setting ``http_timeout_seconds`` by default."""
    follow_redirects: bool = False
    response: Literal["auto", "json", "text"] = "auto"
    """How the answer's body is read; ``auto`` goes by its content type."""
    idempotency_key: bool = True
    """Send ``Idempotency-Key`` with methods other than GET, HEAD and OPTIONS."""

    @field_validator("headers")
    @classmethod
    def _can_be_sent(cls, headers: dict[str, str]) -> dict[str, str]:
        names = [name.lower() for name in headers]
        # As every server reads them: without the blanks around.
        values = [value.strip(" \t") for value in headers.values()]
        for name, written, value in zip(names, headers, values, strict=True):
            if _TOKEN.fullmatch(name) is None:
                raise ValueError("the name of a header holds a character that it may not")
            if name in _NOT_YOURS:
                raise ValueError(f"{written} is set by the service itself")
            if len(value) > MAX_HEADER_LENGTH or _HEADER_VALUE.fullmatch(value) is None:
                raise ValueError(
                    f"the value of {written} is longer than {MAX_HEADER_LENGTH} characters or "
                    "holds others than printable ASCII"
                )
        if len(set(names)) < len(names):
            raise ValueError("a header is given twice")
        return dict(zip(names, values, strict=True))

    @field_validator("expect")
    @classmethod
    def _are_statuses(cls, expect: list[int | str]) -> list[int | str]:
        for item in expect:
            if _EXPECTED.fullmatch(str(item).lower()) is None:
                raise ValueError('expected are numbers from 100 to 599, "2xx", or "200-204"')
        return expect

    @model_validator(mode="after")
    def _one_body(self) -> "HttpRequestParams":
        if {"json_body", "body"} <= self.model_fields_set:
            raise ValueError("give `json` or `body`, not both")
        return self

    def expects(self, status: int) -> bool:
        """Whether an answer with that status is a success."""
        return any(_covers(str(item).lower(), status) for item in self.expect)


class HttpRequest(BaseTask):
    """Calls `url` and gives the answer: `status`, `headers`, `json` or `body`, `url` and
    `duration_ms`. An unexpected status is a failure; 408, 425, 429, 5xx, time limits and broken
    connections are errors, which `retry` tries again. Only public addresses can be called."""

    name = "http_request"
    Params = HttpRequestParams
    needs_results = False

    async def run(self, context: TaskContext) -> TaskOutput:
        """Make the call.

        Raises:
            HttpError: there is no answer, or one that says: not now.
        """
        # Here and not above: it brings the HTTP library in, which takes as long as all the rest
        # together, and who only asks for the params' schema never needs it.
        from worker.http_exchange import exchange

        return await exchange(context.params, context)


def _covers(expected: str, status: int) -> bool:
    if (match := _EXPECTED.fullmatch(expected)) is None:
        return False
    hundred, first, last = match.groups()
    if hundred:
        return status // 100 == int(hundred)
    return int(first) <= status <= int(last or first)
