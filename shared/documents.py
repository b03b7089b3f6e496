"""JSON as it comes in: read strictly, refused with the place.

Refused is what would be lost, changed or dangerous further on: duplicate keys, NaN and
infinities (also those that a number too large becomes), integers beyond 64 bits, halves of
surrogate pairs, NUL characters (PostgreSQL cannot store them), and nesting without end. The
text of the input is never part of a message, but for a short key.
"""

import math
import re
from collections.abc import Iterator
from typing import cast

import jiter
from pydantic import JsonValue

from shared.errors import InvalidDocument

MAX_DEPTH = 190
"""jiter itself gives up a little later."""

_PLACE = re.compile(r"^(?P<what>.*) at line (?P<line>\d+) column (?P<column>\d+)$", re.DOTALL)
_DUPLICATE = re.compile(r'^Detected duplicate key "(?P<key>.*)"$', re.DOTALL)
_NAME = re.compile(r'"(?:[^"\\]|\\.)*"')
_SHOWN_KEY_LENGTH = 40
_SUSPECT = re.compile(rb"\\u0000|[0-9][eE]|[0-9]{19}")
"""A NUL, or a number that may be too large."""

_PLAIN = {
    "expected value": "a value is expected here",
    "EOF while parsing": "the text ends too early",
    "recursion limit exceeded": "nested too deeply",
    "invalid unicode code point": "this is not UTF-8",
    "trailing comma": "a comma with nothing behind it",
    "trailing characters": "there is more text behind the end of the JSON",
    "number out of range": "the number is too large",
    "invalid number": "this is not a number in JSON (NaN and Infinity are not JSON)",
    "control character": "a control character inside a string must be written as \\u00XX",
    "unexpected end of hex escape": "half of a surrogate pair",
    "lone": "half of a surrogate pair",
    "invalid escape": "no such escape sequence",
    "expected ident": "only true, false and null may stand without quotes",
    "expected `:`": "a colon is expected behind the key",
    "expected `,` or `]`": "a comma or ] is expected here",
    "expected `,` or `}`": "a comma or } is expected here",
    "key must be a string": "a key must be a string in double quotes",
}


def parse_document(body: bytes, *, max_depth: int, max_bytes: int) -> JsonValue:
    """Read one JSON document.

    Raises:
        InvalidDocument: it is none, or holds what is refused; says where.
    """
    if len(body) > max_bytes:
        raise InvalidDocument(f"the document has {len(body)} bytes; at most {max_bytes} are read")
    if not body.strip():
        raise InvalidDocument("the document is empty", line=1, column=1)
    if body[:2] in (b"\xff\xfe", b"\xfe\xff") or body[:3] == b"\xef\xbb\xbf" or b"\x00" in body[:4]:
        raise InvalidDocument("JSON must be UTF-8 without a byte order mark", line=1, column=1)
    try:
        document = cast(
            JsonValue,
            jiter.from_json(body, allow_inf_nan=False, catch_duplicate_keys=True),
        )
    except ValueError as error:
        raise _translate(str(error), body) from None
    _check_values(document, body, min(max_depth, MAX_DEPTH))
    return document


def _translate(problem: str, body: bytes) -> InvalidDocument:
    match = _PLACE.match(problem)
    if match is None:
        return InvalidDocument("this is not JSON", line=1, column=1)
    line, column = int(match["line"]), max(1, int(match["column"]))
    what = match["what"]
    duplicate = _DUPLICATE.match(what)
    if duplicate is not None:
        key = duplicate["key"][:_SHOWN_KEY_LENGTH]
        return InvalidDocument(
            f'the key "{key}" stands twice in one object',
            line=line,
            column=_in_characters(body, line, column),
        )
    message = next((text for start, text in _PLAIN.items() if what.startswith(start)), None)
    return InvalidDocument(
        f"this is not JSON: {message or 'it breaks off here'}",
        line=line,
        column=_in_characters(body, line, column),
    )


def _in_characters(body: bytes, line: int, column: int) -> int:
    """A column counted in bytes, as the parser does, in characters, as people do."""
    lines = body.split(b"\n", line)
    if len(lines) < line:
        return column
    return max(1, len(lines[line - 1][:column].decode(errors="replace")))


def _check_values(document: JsonValue, body: bytes, max_depth: int) -> None:
    """Look at what the parser lets through.

    Containers for their depth; their scalars only where the text holds something that could
    become a value we refuse, which hardly any does.
    """
    is_suspect = _SUSPECT.search(body) is not None
    level: list[JsonValue] = [document]
    depth = 0
    while level:
        if is_suspect:
            for value in level:
                if (problem := _problem(value)) is not None:
                    _refuse(document, problem, body, value)
        containers = [value for value in level if isinstance(value, dict | list)]
        depth += 1
        if containers and depth > max_depth:
            _refuse(document, f"nested deeper than {max_depth} levels", body, containers[0])
        level = []
        for container in containers:
            level.extend(container.values() if isinstance(container, dict) else container)


def _problem(value: JsonValue) -> str | None:
    if isinstance(value, dict):
        return "a key holds the character NUL" if any("\x00" in key for key in value) else None
    if isinstance(value, str):
        return "a string holds the character NUL" if "\x00" in value else None
    if isinstance(value, float):
        return None if math.isfinite(value) else "the number is too large"
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return "the integer does not fit 64 bits"
    return None


def _refuse(document: JsonValue, message: str, body: bytes, culprit: JsonValue) -> None:
    pointer = next((p for p, value in _walk(document) if value is culprit), "")
    place = locate(body, pointer) if pointer.count("/") < 50 else None
    line, column = place or (None, None)
    raise InvalidDocument(message, line=line, column=column, pointer=pointer[:500])


def _walk(document: JsonValue) -> Iterator[tuple[str, JsonValue]]:
    pending: list[tuple[str, JsonValue]] = [("", document)]
    while pending:
        pointer, value = pending.pop()
        yield pointer, value
        if isinstance(value, dict):
            pending.extend((f"{pointer}/{escape(key)}", item) for key, item in value.items())
        elif isinstance(value, list):
            pending.extend((f"{pointer}/{index}", item) for index, item in enumerate(value))


def escape(token: str) -> str:
    """A key as it stands in an RFC 6901 pointer."""
    return token.replace("~", "~0").replace("/", "~1")


def locate(body: bytes, pointer: str, within: int | None = None) -> tuple[int, int] | None:
    """The line and column, from 1 and in characters, of the value that ``pointer`` names.

    ``within`` is a character of the value, where that is a string. For a document that
    :func:`parse_document` accepts; None where there is no such value.
    """
    text = body.decode(errors="replace")
    offset = _Scanner(text).find([_unescape(token) for token in pointer.split("/")[1:]])
    if offset is None:
        return None
    if within is not None and text[offset] == '"':
        offset = _offset_in_string(text, offset + 1, within)
    line_start = text.rfind("\n", 0, offset) + 1
    return text.count("\n", 0, offset) + 1, offset - line_start + 1


def _unescape(token: str) -> str:
    return token.replace("~1", "/").replace("~0", "~")


_ESCAPED_PAIR = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")


def _offset_in_string(text: str, start: int, characters: int) -> int:
    """Where the character stands in the text, whatever is written as an escape before it."""
    offset = start
    for _ in range(characters):
        if text[offset] == '"':
            break
        if text[offset] != "\\":
            offset += 1
        elif pair := _ESCAPED_PAIR.match(text, offset):
            offset = pair.end()
        else:
            offset += 6 if text[offset + 1] == "u" else 2
    return offset


class _Scanner:
    """Finds the offset of one value in a JSON text, without building the others."""

    _BLANK = re.compile(r"[ \t\r\n]*")
    _SCALAR = re.compile(r'[^,\]}\s"\[{]+')
    _TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]')

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def find(self, tokens: list[str]) -> int | None:
        """The offset of the value under ``tokens``."""
        self._skip_blanks()
        for token in tokens:
            opening = self._text[self._at : self._at + 1]
            found = self._enter_object(token) if opening == "{" else self._enter_list(token)
            if not found:
                return None
        return self._at

    def _skip_blanks(self) -> None:
        match = self._BLANK.match(self._text, self._at)
        self._at = match.end() if match else self._at

    def _enter_object(self, key: str) -> bool:
        self._at += 1
        while True:
            self._skip_blanks()
            name = _NAME.match(self._text, self._at)
            if name is None:
                return False
            self._at = name.end()
            self._skip_blanks()
            self._at += 1  # the colon
            self._skip_blanks()
            if jiter.from_json(name.group().encode("utf-8", "replace")) == key:
                return True
            if not self._skip_value():
                return False

    def _enter_list(self, token: str) -> bool:
        if self._text[self._at : self._at + 1] != "[" or not token.isdigit():
            return False
        self._at += 1
        for _ in range(int(token)):
            self._skip_blanks()
            if not self._skip_value():
                return False
        self._skip_blanks()
        return self._text[self._at : self._at + 1] not in ("]", "")

    def _skip_value(self) -> bool:
        """Move behind the value here and its comma; False at the end of its container."""
        opening = self._text[self._at : self._at + 1]
        if opening in ("{", "["):
            self._skip_container()
        else:
            pattern = _NAME if opening == '"' else self._SCALAR
            match = pattern.match(self._text, self._at)
            if match is None:
                return False
            self._at = match.end()
        self._skip_blanks()
        if self._text[self._at : self._at + 1] != ",":
            return False
        self._at += 1
        return True

    def _skip_container(self) -> None:
        depth = 0
        for match in self._TOKEN.finditer(self._text, self._at):
            token = match.group()
            if token in "[{":
                depth += 1
            elif token in "]}":
                depth -= 1
                if depth == 0:
                    self._at = match.end()
                    return
        self._at = len(self._text)
