"""Collecting findings: all of them in one pass, the first few kept, every cost bounded."""

import difflib
from collections.abc import Iterable, Sequence
from itertools import islice

from pydantic import JsonValue

from shared.documents import escape
from shared.errors import Finding

MAX_FINDINGS = 20
"""Errors, and warnings, that are told at a time."""
_MAX_CANDIDATES = 2_000
"""Names that a suggestion is looked for among."""
_MAX_COMPARED_LENGTH = 60
_SHOWN_LENGTH = 60


class Findings:
    """The errors and warnings of one definition."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.errors: list[Finding] = []
        self.warnings: list[Finding] = []
        self.error_count = 0
        """All errors that were seen, kept or not."""
        self._places: set[str] = set()

    @property
    def is_full(self) -> bool:
        """Whether further errors are only counted."""
        return len(self.errors) >= self._most

    def error(
        self,
        pointer: str,
        code: str,
        message: str,
        suggestion: str | None = None,
        offset: int | None = None,
    ) -> None:
        """Note an error."""
        self.error_count += 1
        if not self.is_full:
            self._places.add(pointer)
            self.errors.append(Finding(_short(pointer, 500), code, message, suggestion, offset))

    def count(self, errors: int) -> None:
        """Note that there are so many more errors, which are not told one by one."""
        self.error_count += errors

    def has_error_at(self, pointer: str) -> bool:
        """Whether an error was told of this very place: a mistake is told once."""
        return pointer in self._places

    def warning(
        self,
        pointer: str,
        code: str,
        message: str,
        offset: int | None = None,
        *,
        suggestion: str | None = None,
    ) -> None:
        """Note a warning."""
        if len(self.warnings) < self._most:
            self.warnings.append(Finding(_short(pointer, 500), code, message, suggestion, offset))

    def unknown(
        self,
        pointer: str,
        code: str,
        what: str,
        name: str,
        known: Iterable[str],
        offset: int | None = None,
    ) -> None:
        """Note a name that means nothing, with the nearest one that does.

        Nothing is noted where the name itself was found wrong.
        """
        if offset is None and self.has_error_at(pointer):
            return
        if self.is_full:
            self.error_count += 1
            return
        nearest = nearest_names(name, known)
        self.error(
            pointer,
            code,
            f"there is no {what} {quoted(name)}",
            f"did you mean {' or '.join(quoted(n) for n in nearest)}?" if nearest else None,
            offset,
        )


def in_order(findings: Iterable[Finding], raw: JsonValue, prefix: str) -> list[Finding]:
    """``findings`` as their places stand in the document, to the item of a list."""
    parts = [(finding, finding.pointer[len(prefix) :].split("/")[1:]) for finding in findings]
    wanted = {_unescape(path[0]) for _, path in parts if path}
    places: dict[str, int] = {}
    for number, field in enumerate(raw if isinstance(raw, dict) else ()):
        if len(places) == len(wanted):
            break
        if field in wanted:
            places[escape(field)] = number

    def place(part: tuple[Finding, list[str]]) -> tuple[int, int]:
        path = part[1]
        field = places.get(path[0], len(places)) if path else -1
        item = int(path[1]) if len(path) > 1 and path[1].isdecimal() else -1
        return field, item

    return [finding for finding, _ in sorted(parts, key=place)]


def _unescape(token: str) -> str:
    return token.replace("~1", "/").replace("~0", "~")


def nearest_names(name: str, known: Iterable[str]) -> Sequence[str]:
    """At most two names that look like ``name``."""
    if len(name) > _MAX_COMPARED_LENGTH:
        return []
    candidates = [
        candidate
        for candidate in islice(known, _MAX_CANDIDATES)
        if abs(len(candidate) - len(name)) <= 3
    ]
    lowered = {candidate.lower(): candidate for candidate in candidates}
    if name.lower() in lowered:
        return [lowered[name.lower()]]
    return difflib.get_close_matches(name, candidates[:200], n=2, cutoff=0.7)


def quoted(name: str) -> str:
    """A name of the input as a message may show it: cut short, without control characters."""
    shown = "".join(c if c.isprintable() else "?" for c in _short(name, _SHOWN_LENGTH))
    return f'"{shown}"'


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
