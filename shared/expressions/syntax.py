"""From text to a syntax tree, with everything refused that the language does not have.

The text is first cut into tokens of our own: they are plain ASCII outside quotes, brackets
must match and not nest too deep, and numbers and quoted texts are written in one simple way
only. What passes is harmless to ``ast.parse``: it cannot exhaust its stack, needs no
normalising of look-alike letters, and raises no warnings about odd literals.
"""

import ast
import keyword
import re
from typing import NoReturn

from shared.errors import InvalidExpression
from shared.expressions.budget import MAX_INTEGER

MAX_TEXT = 4_000
"""Characters of one expression."""

MAX_TOKENS = 800
"""Names, numbers, texts and signs of one expression."""

MAX_NESTING = 30
"""Brackets in brackets."""

MAX_DEPTH = 60
"""Parts in parts, such as the terms of a long sum."""

_TOKEN = re.compile(
    r"""
    (?P<space>[ \t\r\n]+)
  | (?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)(?![A-Za-z0-9_.])
  | (?P<name>[A-Za-z_][A-Za-z0-9_]*)(?!["'])
  | (?P<text>"(?!"")(?:[^"\\\x00-\x1f]|\\.)*"|'(?!'')(?:[^'\\\x00-\x1f]|\\.)*')
  | (?P<open>[(\[{])
  | (?P<close>[)\]}])
  | (?P<sign>==(?!=)|!=(?!=)|<=|>=|//(?!/)|<(?![<>])|>(?!>)|\*(?!\*)|[+\-/%.,]|:(?!=))
  | (?P<option>=)(?!=)
    """,
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(?:[\\'\"nrtbf]|x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8})")
_WORD = re.compile(r"\w+")
_CLOSES = {"(": ")", "[": "]", "{": "}"}

_OPTIONS = ("reverse", "default")
"""The only names that = may follow."""

_HINTS = (
    # What is found, what is wrong with it, what was probably meant. The first that fits counts.
    ("===", "=== is not a sign of this language", "=="),
    ("!==", "!== is not a sign of this language", "!="),
    ("**", "powers are not part of this language", None),
    (":=", "values cannot be given names", None),
    ("=", "= is not a sign of this language; two values are compared with ==", "=="),
    ("&&", "&& is not a sign of this language", "and"),
    ("||", "|| is not a sign of this language", "or"),
    ("!", "! is not a sign of this language", "not"),
    ("<>", "<> is not a sign of this language", "!="),
    ("???", "?? is not a sign of this language", None),
    ("?", "? is not a sign of this language; a choice is written: a if condition else b", None),
    ('"""', "a text begins and ends with one quote, not three", '"'),
    ("'''", "a text begins and ends with one quote, not three", "'"),
    ('"', "this text has no closing quote", None),
    ("'", "this text has no closing quote", None),
    ("#", "comments are not part of this language", None),
    ("${", "${ belongs around an expression, not in it", None),
)


def parse(text: str) -> ast.expr:
    """The syntax tree of an expression, with offsets as if it were one line.

    Raises:
        InvalidExpression: it is too large, or no expression that Python could read.
    """
    flat = _checked(text)
    source = flat.lstrip(" ")
    lead = len(flat) - len(source)
    try:
        tree = ast.parse(source, mode="eval").body
    except SyntaxError as error:
        raise _syntax_error(text, lead, error) from None
    except (MemoryError, RecursionError, ValueError, OverflowError):
        raise InvalidExpression(0, "the expression is too complicated") from None
    _locate(tree, source, lead)
    return tree


def _checked(text: str) -> str:
    """The text on one line, after a look at each of its tokens."""
    if len(text) > MAX_TEXT:
        message = f"the expression has {len(text)} characters; the limit is {MAX_TEXT}"
        raise InvalidExpression(MAX_TEXT, message)
    brackets: list[tuple[str, int]] = []
    flat: list[str] = []
    position = count = 0
    before = ""
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None or (match.lastgroup == "option" and before not in _OPTIONS):
            _refuse_sign(text, position)
        kind, token = match.lastgroup, match.group()
        if kind == "space":
            token = " " * len(token)
        else:
            count += 1
            _check_token(position, kind or "", token, before)
            _match_bracket(brackets, position, kind or "", token)
            before = token
        flat.append(token)
        position = match.end()
        if count > MAX_TOKENS:
            raise InvalidExpression(position, f"more than {MAX_TOKENS} names, numbers and signs")
    if brackets:
        sign, offset = brackets[-1]
        raise InvalidExpression(offset, f"this {sign} is never closed")
    if not count:
        raise InvalidExpression(0, "the expression is empty")
    return "".join(flat)


def _check_token(offset: int, kind: str, token: str, before: str) -> None:
    if kind == "text":
        _check_text(offset, token)
    elif kind == "number":
        _check_number(offset, token)
    elif kind == "name" and "__" in token:
        raise InvalidExpression(offset, "names with two underscores are not part of this language")
    elif kind == "name" and before == "." and keyword.iskeyword(token):
        message = f"{token} is a word of the language; as a key it is written in brackets"
        raise InvalidExpression(offset, message, f'["{token}"]')


def _check_text(offset: int, token: str) -> None:
    place = token.find("\\")
    while place >= 0:
        escape = _ESCAPE.match(token, place)
        if escape is None:
            message = f"{token[place : place + 2]} is not an escape of this language"
            raise InvalidExpression(offset + place, message, "\\" + token[place : place + 2])
        place = token.find("\\", escape.end())
    if not token.isascii() and any("\ud800" <= letter <= "\udfff" for letter in token):
        raise InvalidExpression(offset, "this text holds half a character (a lone surrogate)")


def _check_number(offset: int, token: str) -> None:
    if len(token) > 40:
        raise InvalidExpression(offset, "this number has too many digits")
    if token.isdigit():
        if len(token) > 1 and token[0] == "0":
            raise InvalidExpression(offset, "a number does not start with 0", token.lstrip("0"))
        if int(token) > MAX_INTEGER:
            raise InvalidExpression(offset, "this number does not fit into 64 bits")
    elif float(token) == float("inf"):
        raise InvalidExpression(offset, "this number is too large")


def _match_bracket(brackets: list[tuple[str, int]], offset: int, kind: str, token: str) -> None:
    if kind == "open":
        brackets.append((token, offset))
        if len(brackets) > MAX_NESTING:
            message = f"brackets are nested deeper than {MAX_NESTING}"
            raise InvalidExpression(offset, message)
    elif kind == "close":
        if not brackets:
            raise InvalidExpression(offset, f"this {token} was never opened")
        sign, _ = brackets.pop()
        if _CLOSES[sign] != token:
            raise InvalidExpression(offset, f"{_CLOSES[sign]} was expected here", _CLOSES[sign])


def _refuse_sign(text: str, offset: int) -> NoReturn:
    for sign, message, suggestion in _HINTS:
        if text.startswith(sign, offset):
            raise InvalidExpression(offset, message, suggestion)
    if text[offset] in ".0123456789":
        raise InvalidExpression(offset, "this is not a number as it is written here")
    if text[offset].isascii() and text[offset].isalpha():
        raise InvalidExpression(offset, "a text has no letters before its quote")
    if text[offset].isalpha():
        message = "names are made of the letters a to z, digits and underscores"
        raise InvalidExpression(offset, message)
    raise InvalidExpression(offset, "this character is not part of the language")


def _syntax_error(text: str, lead: int, error: SyntaxError) -> InvalidExpression:
    """Python's own message is about Python: its place is kept, and what it helps to know."""
    end = len(text.rstrip())
    offset = lead + (error.offset or 0) - 1
    if error.lineno != 1 or not lead <= offset < end:
        return InvalidExpression(end, "the expression ends too early")
    if "expected 'else'" in error.msg:
        return InvalidExpression(offset, "this choice has no else", "a if condition else b")
    if "forgot a comma" in error.msg:
        return InvalidExpression(offset, "a sign or a comma is missing between two values here")
    word = _WORD.match(text, offset)
    what = word.group()[:40] if word else text[offset]
    return InvalidExpression(offset, f"{what} was not expected here")


def _locate(tree: ast.expr, source: str, lead: int) -> None:
    """Turn Python's offsets in bytes into offsets in characters, and refuse deep trees."""
    encoded = None if source.isascii() else source.encode()

    def characters(offset: int) -> int:
        return lead + (offset if encoded is None else len(encoded[:offset].decode()))

    level: list[ast.AST] = [tree]
    depth = 0
    while level:
        depth += 1
        below: list[ast.AST] = []
        for node in level:
            if isinstance(node, (ast.expr, ast.keyword)):
                node.col_offset = characters(node.col_offset)
                node.end_col_offset = characters(node.end_col_offset or 0)
                if depth > MAX_DEPTH:
                    message = f"the expression is nested deeper than {MAX_DEPTH} parts"
                    raise InvalidExpression(node.col_offset, message)
            below.extend(ast.iter_child_nodes(node))
        level = below
