"""JSON with ``${expression}`` in its strings.

A string that is one whole ``${...}`` becomes the expression's value with its type; inside
longer text the value is put in as text. ``$${`` stands for ``${`` itself. Keys of objects are
never filled in. Parts without an expression are handed out as they are, not copied.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from shared.errors import ExpressionError, InvalidExpression
from shared.expressions.budget import Budget, Json, Part
from shared.expressions.calls import text_of
from shared.expressions.expression import Expression, parse_expression
from shared.expressions.references import Scope
from shared.expressions.syntax import MAX_TEXT

MAX_EXPRESSIONS = 1_000
"""Expressions of one template."""

MAX_EXPRESSION_TEXT = 50_000
"""Characters of all expressions of one template."""

MAX_PROBLEMS = 1_000
"""Problems that are told of one template; nobody reads on from there."""

MAX_TEMPLATE_DEPTH = 200
"""Lists and objects in one another."""

_QUOTED_OR_BRACE = re.compile(
    r"""
    "(?:[^"\\]|\\.)*"?       # An open quote runs to the end, so that this is never tried twice.
  | '(?:[^'\\]|\\.)*'?
  | [{}]
    """,
    re.VERBOSE | re.DOTALL,
)

Render: TypeAlias = Callable[[Scope, Budget], Json]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a template, and where."""

    pointer: str
    """RFC 6901 pointer to the string, from the template's own root."""
    offset: int
    """Where in the string, in characters."""
    message: str
    suggestion: str | None = None


@dataclass(frozen=True, slots=True)
class TemplateReference:
    """One use of a name in a template, and where."""

    pointer: str
    """RFC 6901 pointer to the string."""
    task: str | None
    kind: str
    offset: int
    """Where in the string, in characters."""
    key: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """JSON that was read for its expressions. Immutable, so it may be kept and shared."""

    problems: tuple[Problem, ...]
    """All that is wrong, in the order of the text. One with problems cannot be rendered."""
    references: tuple[TemplateReference, ...]
    task_names: frozenset[str]
    """The tasks whose results are read or asked for."""
    names: frozenset[str]
    """The roots that are used."""
    is_constant: bool
    """Whether there is no expression in it."""
    _constant: Json
    _render: Render | None

    def render(self, scope: Scope) -> Json:
        """The JSON with its expressions filled in. All of them share one budget.

        What it gives may share lists and objects with the template and the scope.

        Raises:
            ExpressionError: the values do not fit, or a limit was passed; the message begins
                with the pointer to the string.
        """
        if self._render is None:
            if self.problems:
                raise ExpressionError(self.problems[0].message, self.problems[0].offset)
            return self._constant
        try:
            return self._render(scope, Budget())
        except RecursionError:
            raise ExpressionError("the values are nested too deeply") from None


def parse_template(value: Json) -> Template:
    """Read JSON for its expressions. Raises nothing: see :attr:`Template.problems`."""
    reader = _Reader()
    constant, render = reader.read_whole(value)
    references = tuple(reader.references)
    return Template(
        problems=tuple(reader.problems),
        references=references,
        task_names=frozenset(r.task for r in references if r.task is not None),
        names=frozenset("tasks" if r.task is not None else r.kind for r in references),
        is_constant=not reader.count and not reader.problems,
        _constant=constant,
        _render=None if reader.problems else render,
    )


Pointer: TypeAlias = tuple["Pointer", str | int] | None
"""The way to a value, from its end; written out only where it is told."""

Read: TypeAlias = tuple[Json, Render | None]
"""A value that is the same always, or how to make it."""


class _Reader:
    """Goes through the JSON once and collects what it finds."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.references: list[TemplateReference] = []
        self.count = 0
        self._characters = 0
        self._is_full = False

    def _tell(
        self, pointer: Pointer, offset: int, message: str, suggestion: str | None = None
    ) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(_written(pointer), offset, message, suggestion))

    def read_whole(self, value: Json) -> Read:
        """Read a template from its root."""
        try:
            return self.read(value, None, 0)
        except RecursionError:
            # The depth is limited; only a caller that is deep down itself can get here.
            self._tell(None, 0, "nested too deeply")
            return value, None

    def read(self, value: Json, pointer: Pointer, depth: int) -> Read:
        if type(value) is str:
            return self._read_text(value, pointer) if "${" in value else (value, None)
        if type(value) is not dict and type(value) is not list:
            return value, None
        if depth >= MAX_TEMPLATE_DEPTH:
            message = f"nested deeper than {MAX_TEMPLATE_DEPTH} levels"
            self._tell(pointer, 0, message)
            return value, None
        if type(value) is dict:
            return self._read_object(value, pointer, depth)
        inside = [self.read(item, (pointer, i), depth + 1) for i, item in enumerate(value)]
        if all(render is None for _, render in inside):
            items = [constant for constant, _ in inside]
            return _unless_changed(value, items, zip(value, items, strict=True)), None
        makers = [_maker(each) for each in inside]
        return None, lambda scope, budget: [make(scope, budget) for make in makers]

    def _read_object(self, value: dict[str, Json], pointer: Pointer, depth: int) -> Read:
        inside = {}
        for key, item in value.items():
            place = (pointer, key)
            if "${" in key:
                message = "keys are not filled in; an object is made with ${ {key: value} }"
                self._tell(place, key.index("${"), message)
            inside[key] = self.read(item, place, depth + 1)
        if all(render is None for _, render in inside.values()):
            items = {key: constant for key, (constant, _) in inside.items()}
            pairs = zip(value.values(), items.values(), strict=True)
            return _unless_changed(value, items, pairs), None
        makers = {key: _maker(each) for key, each in inside.items()}
        return None, lambda scope, budget: {
            key: make(scope, budget) for key, make in makers.items()
        }

    def _read_text(self, text: str, pointer: Pointer) -> Read:
        pieces: list[str | tuple[int, Expression]] = []
        written = 0
        start = text.find("${")
        while start >= 0:
            if start > written and text[start - 1] == "$":
                pieces.append(text[written : start - 1] + "${")
                written = start + 2
            else:
                pieces.append(text[written:start])
                end = _closing_brace(text, start + 2)
                if end is None:
                    message = f"this ${{ is not closed within {MAX_TEXT} characters"
                    self._tell(pointer, start, message, "}")
                    return None, None
                expression = self._read_expression(text[start + 2 : end], pointer, start + 2)
                if expression is not None:
                    pieces.append((start + 2, expression))
                written = end + 1
            start = text.find("${", written)
        pieces.append(text[written:])
        return _filled(tuple(piece for piece in pieces if piece != ""), _written(pointer))

    def _read_expression(self, text: str, pointer: Pointer, offset: int) -> Expression | None:
        if self._is_full:
            return None
        self.count += 1
        self._characters += len(text)
        if self.count > MAX_EXPRESSIONS or self._characters > MAX_EXPRESSION_TEXT:
            self._is_full = True
            message = (
                f"more than {MAX_EXPRESSIONS} expressions, or {MAX_EXPRESSION_TEXT} characters "
                "of them; what follows was not read"
            )
            self._tell(pointer, offset, message)
            return None
        try:
            expression = parse_expression(text)
        except InvalidExpression as error:
            place = offset + error.offset
            self._tell(pointer, place, error.message, error.suggestion)
            return None
        for found in expression.references:
            place = offset + found.offset
            self.references.append(
                TemplateReference(_written(pointer), found.task, found.kind, place, found.key)
            )
        return expression


def _written(pointer: Pointer) -> str:
    """The pointer as RFC 6901 writes it."""
    keys = []
    while pointer is not None:
        pointer, key = pointer
        keys.append(str(key).replace("~", "~0").replace("/", "~1"))
    return "".join(f"/{key}" for key in reversed(keys))


def _closing_brace(text: str, start: int) -> int | None:
    """Where the expression that starts here ends: at the } that closes no { of its own."""
    open_braces = 0
    # An expression may be as long as the limit, and one more shows that it is not.
    for match in _QUOTED_OR_BRACE.finditer(text, start, start + MAX_TEXT + 1):
        if match.group() == "{":
            open_braces += 1
        elif match.group() == "}":
            if not open_braces:
                return match.start()
            open_braces -= 1
    return None


def _filled(pieces: tuple[str | tuple[int, Expression], ...], pointer: str) -> Read:
    """A string of several pieces: an expression alone keeps its type."""
    if all(isinstance(piece, str) for piece in pieces):
        return "".join(piece for piece in pieces if isinstance(piece, str)), None
    whole = Part(0, "the text" if not pointer else f"the text at {pointer[:100]}")

    def fill(scope: Scope, budget: Budget) -> Json:
        if len(pieces) == 1 and isinstance(pieces[0], tuple):
            return _evaluated(pieces[0], scope, budget, pointer)
        texts = []
        for piece in pieces:
            if isinstance(piece, str):
                texts.append(piece)
            else:
                value = _evaluated(piece, scope, budget, pointer)
                texts.append(text_of(value, budget, Part(piece[0], whole.text)))
        budget.build_text(sum(map(len, texts)), whole)
        return "".join(texts)

    return None, fill


def _evaluated(piece: tuple[int, Expression], scope: Scope, budget: Budget, pointer: str) -> Json:
    """The value of an expression in a template; its errors say where in the template."""
    offset, expression = piece
    try:
        return expression.evaluate(scope, budget)
    except ExpressionError as error:
        message = f"{pointer}: {error.message}" if pointer else error.message
        raise ExpressionError(message, offset + error.offset) from None


def _maker(read: Read) -> Render:
    constant, render = read
    return render if render is not None else lambda scope, budget: constant


def _unless_changed(value: Json, copy: Json, pairs: Iterable[tuple[Json, Json]]) -> Json:
    """The value itself where the copy is the same in all its parts."""
    return value if all(old is new for old, new in pairs) else copy
