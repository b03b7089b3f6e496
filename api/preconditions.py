"""``If-Match`` and ``If-None-Match`` of what has version numbers: ``"3"`` is its third version."""

import re

from starlette.requests import Request

from api.refusals import invalid
from shared.store.definitions import ExpectedVersions

_TAGS = re.compile(r'\s*"[^"]*"\s*(?:,\s*"[^"]*"\s*)*')
_VERSION = re.compile(r'"([1-9][0-9]{0,9})"')


def version_tag(version: int) -> str:
    """The entity tag of a version: it never changes, and no number is given twice."""
    return f'"{version}"'


def expected_versions(request: Request) -> ExpectedVersions:
    """Which versions may be the newest for the call to be carried out.

    Raises:
        InvalidRequest: a header that cannot be understood.
    """
    if_match = request.headers.get("if-match")
    if_none_match = request.headers.get("if-none-match")
    if if_none_match is not None:
        if if_none_match.strip() != "*":
            message = 'Only "*" can be asked for here: to store what is not stored yet.'
            raise invalid("header", "If-None-Match", message)
        if if_match is not None:
            raise invalid("header", "If-Match", "It contradicts If-None-Match.")
        return ()
    if if_match is None:
        return None
    if if_match.strip() == "*":
        return "any"
    if _TAGS.fullmatch(if_match) is None:
        raise invalid("header", "If-Match", 'Must be an ETag such as "3", several, or *.')
    return [int(number) for number in _VERSION.findall(if_match)] or (0,)
