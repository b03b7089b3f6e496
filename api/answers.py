"""Answers as they leave: JSON that is bytes already."""

from collections.abc import Mapping
from http import HTTPStatus

from starlette.responses import Response

_JSON = "application/json"


def json_answer(
    content: bytes,
    status: HTTPStatus = HTTPStatus.OK,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """``content`` as an answer. What is shown may be another thing a moment later."""
    return Response(
        content,
        status_code=status,
        media_type=_JSON,
        headers={"Cache-Control": "no-cache", **(headers or {})},
    )
