"""From a syntax tree to closures: the whole language is in the table at the end.

A kind of node that the table does not name is refused, so what Python may add later is not
in the language by accident.
"""

import ast
import re
from collections.abc import Callable, Sequence
from typing import TypeAlias

from shared.errors import InvalidExpression
from shared.expressions import closures, loops
from shared.expressions.budget import Json, Part
from shared.expressions.calls import Function
from shared.expressions.closures import Evaluate
from shared.expressions.functions import FUNCTIONS
from shared.expressions.loops import Items
from shared.expressions.operations import ARITHMETIC, COMPARISONS, Access, negative
from shared.expressions.references import (
    CONSTANTS,
    ROOTS,
    VALUES,
    Reference,
    finished_reference,
    key_reference,
    nearest,
    refuse_bare,
    task_reference,
)

MAX_LOOPS = 6
"""``for`` in one comprehension: what the innermost gives is handed through all of them."""

_SHOWN_LENGTH = 60

_REST_OF_NAME = re.compile("(?:-[A-Za-z0-9_]+)+")
"""Of a task called ``fetch-data``, which Python would read as a subtraction."""

_REFUSED = {
    ast.Tuple: ("a list is written in square brackets", "[...]"),
    ast.Set: ("a list is written in square brackets, an object as {key: value}", "[...]"),
    ast.SetComp: ("a list is written in square brackets", "[... for ...]"),
    ast.Lambda: ("functions cannot be written in expressions", None),
    ast.Starred: ("* in front of a value is not part of this language", None),
    ast.GeneratorExp: ("this needs square brackets around it", "[... for ...]"),
}


class Compiler:
    """Compiles one tree, and keeps what it found on the way."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._has_secrets = "secrets" in text
        self._variables: dict[str, int] = {}
        """Variables that can be read at this point, with their slots."""
        self.slots = 0
        self.references: list[Reference] = []

    def compile(self, node: ast.expr) -> Evaluate:
        """The closure for a node.

        Raises:
            InvalidExpression: it holds what the language does not have.
        """
        handler = _HANDLERS.get(type(node))
        if handler is None:
            message, meant = _REFUSED.get(
                type(node), ("this kind of Python is not part of the language", None)
            )
            raise InvalidExpression(node.col_offset, message, meant)
        return handler(self, node)

    def part(self, node: ast.expr) -> Part:
        """What messages call a node: the text it was written as."""
        return Part(node.col_offset, self._shown(node))

    def _shown(self, node: ast.expr) -> str:
        # No more than can be shown is looked at: long parts hold other long parts.
        end = min(node.end_col_offset or 0, node.col_offset + 4 * _SHOWN_LENGTH)
        text = " ".join(self._text[node.col_offset : end].split())
        return text if len(text) <= _SHOWN_LENGTH else f"{text[: _SHOWN_LENGTH - 3]}..."

    def constant(self, node: ast.Constant) -> Evaluate:
        """Numbers, texts, True, False and None."""
        value = node.value
        if isinstance(value, str):
            if any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in value):
                message = "this text holds a character that JSON cannot carry everywhere"
                raise InvalidExpression(node.col_offset, message)
        elif not isinstance(value, (bool, int, float, type(None))):
            raise InvalidExpression(node.col_offset, "this is not a value of JSON")
        return closures.constant(value)

    def name(self, node: ast.Name) -> Evaluate:
        """A variable, a root or a constant."""
        name = node.id
        if name in self._variables:
            return closures.variable(self._variables[name])
        if name in CONSTANTS:
            return closures.constant(CONSTANTS[name])
        if name in VALUES:
            self.references.append(Reference(None, name, node.col_offset))
            return closures.root(name)
        if name in ROOTS:
            raise refuse_bare(name, node.col_offset)
        if name in FUNCTIONS:
            message = f"{name} is a function: {FUNCTIONS[name].form}"
            raise InvalidExpression(node.col_offset, message)
        known = (*ROOTS, *CONSTANTS, *self._variables)
        message = f"{name[:_SHOWN_LENGTH]!r} is not a name of this language"
        raise InvalidExpression(node.col_offset, message, nearest(name, known))

    def attribute(self, node: ast.Attribute) -> Evaluate:
        """A dot, which reads a key."""
        return self._key(node, node.attr)

    def subscript(self, node: ast.Subscript) -> Evaluate:
        """Brackets behind a value: a key, a place or a slice."""
        if isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
            return self._key(node, node.slice.value)
        target = self.compile(node.value)
        part = self._access(node, self._shown(node.slice))
        if isinstance(node.slice, ast.Slice):
            bounds = [
                closures.constant(None) if bound is None else self.compile(bound)
                for bound in (node.slice.lower, node.slice.upper, node.slice.step)
            ]
            return closures.slice_of(target, bounds, part)
        return closures.item_of(target, self.compile(node.slice), part)

    def _key(self, node: ast.Attribute | ast.Subscript, key: str) -> Evaluate:
        """A key that is written out: of a task, the run, the secrets, or of a value."""
        reference = task_reference(node) or key_reference(node)
        if reference is None:
            self._refuse_half(node)
            target = self.compile(node.value)
            return closures.key_of(target, key, self._access(node, repr(key[:40])))
        self.references.append(reference)
        if reference.task is not None:
            return closures.task_result(reference.task, reference.kind, self.part(node))
        return closures.fact(reference.kind, key, self.part(node))

    def _access(self, node: ast.Attribute | ast.Subscript, key: str) -> Access:
        part, path = self.part(node), self._shown(node.value)
        return Access(part.offset, part.text, path, key, not self._has_secrets)

    def _refuse_half(self, node: ast.Attribute | ast.Subscript) -> None:
        """Refuse a task without saying what of it, with the likely rest."""
        if isinstance(node.value, ast.Name) and node.value.id == "tasks":
            message = "a task is no value itself; its data is, and success, error and iteration"
            meant = f"{self._shown(node)}.data"
            rest = _REST_OF_NAME.match(self._text, node.end_col_offset or 0)
            if rest is not None and isinstance(node, ast.Attribute):
                message = "a task whose name is more than one word is read with brackets"
                meant = f'tasks["{(node.attr + rest.group())[:_SHOWN_LENGTH]}"].data'
            raise InvalidExpression(node.col_offset, message, meant)

    def binary(self, node: ast.BinOp) -> Evaluate:
        """``+ - * / // %``."""
        apply = ARITHMETIC.get(type(node.op).__name__)
        if apply is None:
            raise InvalidExpression(node.col_offset, "this sign is not part of the language")
        if isinstance(node.op, ast.Mod) and _is_text(node.left):
            message = "% does not fill in texts; in a template, values stand as ${...} in the text"
            raise InvalidExpression(node.col_offset, message)
        left, right = self.compile(node.left), self.compile(node.right)
        return closures.binary(apply, left, right, self.part(node))

    def unary(self, node: ast.UnaryOp) -> Evaluate:
        """``-`` and ``not``."""
        value = self.compile(node.operand)
        if isinstance(node.op, ast.Not):
            return closures.negation(value)
        if not isinstance(node.op, ast.USub):
            message = "+ in front of a value is not part of the language"
            raise InvalidExpression(node.col_offset, message)
        return closures.unary(negative, value, self.part(node))

    def boolean(self, node: ast.BoolOp) -> Evaluate:
        """``and`` and ``or``."""
        values = [self.compile(value) for value in node.values]
        if isinstance(node.op, ast.And):
            return closures.conjunction(values)
        return closures.disjunction(values)

    def compare(self, node: ast.Compare) -> Evaluate:
        """Comparisons, one or several in a row."""
        finished = finished_reference(node)
        if finished is not None and finished.task is not None:
            self.references.append(finished)
            return closures.task_finished(finished.task, isinstance(node.ops[0], ast.In))
        first = self.compile(node.left)
        steps = []
        for sign, side in zip(node.ops, node.comparators, strict=True):
            apply = COMPARISONS.get(type(sign).__name__)
            if apply is None:
                meant = "!=" if isinstance(sign, ast.IsNot) else "=="
                raise InvalidExpression(
                    node.col_offset, "is is not part of the language; values are compared", meant
                )
            steps.append((apply, self.compile(side)))
        if len(steps) == 1:
            return closures.binary(steps[0][0], first, steps[0][1], self.part(node))
        return closures.chain(first, steps, self.part(node))

    def choice(self, node: ast.IfExp) -> Evaluate:
        """``a if c else b``."""
        condition = self.compile(node.test)
        return closures.choice(condition, self.compile(node.body), self.compile(node.orelse))

    def list_literal(self, node: ast.List) -> Evaluate:
        """A list literal."""
        return closures.list_of([self.compile(each) for each in node.elts], self.part(node))

    def object_literal(self, node: ast.Dict) -> Evaluate:
        """An object literal."""
        pairs = []
        for key, value in zip(node.keys, node.values, strict=True):
            if key is None:
                raise InvalidExpression(value.col_offset, "** is not part of the language")
            if isinstance(key, ast.Constant) and not isinstance(key.value, str):
                message = "the keys of an object are text"
                raise InvalidExpression(key.col_offset, message, f'"{self._shown(key)}"')
            pairs.append((self.compile(key), self.compile(value)))
        return closures.object_of(pairs, self.part(node))

    def call(self, node: ast.Call) -> Evaluate:
        """A call of one of the functions."""
        name, function = self._function(node)
        if not function.least <= len(node.args) <= function.most:
            message = f"{name} is called as {function.form}"
            raise InvalidExpression(node.col_offset, message)
        option = None
        for keyword in node.keywords:
            if keyword.arg is None or keyword.arg != function.option or option is not None:
                message = f"{name} is called as {function.form}"
                raise InvalidExpression(keyword.value.col_offset, message)
            option = self.compile(keyword.value)
        arguments = [self._argument(function, each) for each in node.args]
        return closures.call(function, arguments, option, self.part(node))

    def _function(self, node: ast.Call) -> tuple[str, Function]:
        called = node.func
        if isinstance(called, ast.Name) and called.id in FUNCTIONS:
            return called.id, FUNCTIONS[called.id]
        if isinstance(called, ast.Name):
            message = f"there is no function {called.id[:_SHOWN_LENGTH]!r}"
            raise InvalidExpression(called.col_offset, message, nearest(called.id, FUNCTIONS))
        if isinstance(called, ast.Attribute):
            meant = FUNCTIONS[called.attr].form if called.attr in FUNCTIONS else None
            message = "values have no methods; functions stand in front, as in lower(text)"
            raise InvalidExpression(called.col_offset, message, meant)
        raise InvalidExpression(called.col_offset, "only a function's name can be called")

    def _argument(self, function: Function, node: ast.expr) -> Evaluate:
        if not isinstance(node, ast.GeneratorExp):
            return self.compile(node)
        items = self._items(node.generators, [node.elt])
        return items if function.streams else loops.collected(items)

    def list_comprehension(self, node: ast.ListComp) -> Evaluate:
        """``[element for name in list if condition]``."""
        return loops.collected(self._items(node.generators, [node.elt]))

    def object_comprehension(self, node: ast.DictComp) -> Evaluate:
        """``{key: value for name in list if condition}``."""
        items = self._items(node.generators, [node.key, node.value])
        return loops.collected_object(items, self.part(node))

    def _items(self, generators: Sequence[ast.comprehension], results: list[ast.expr]) -> Items:
        """The loops of a comprehension, from the outermost in; its variables end with it."""
        if len(generators) > MAX_LOOPS:
            message = f"a comprehension has at most {MAX_LOOPS} times for"
            raise InvalidExpression(generators[MAX_LOOPS].target.col_offset, message)
        generator, further = generators[0], generators[1:]
        if generator.is_async:
            raise InvalidExpression(
                generator.target.col_offset, "async is not part of the language"
            )
        source, outer = self.compile(generator.iter), self._variables
        self._variables = dict(outer)
        slots = [self._declare(name) for name in _targets(generator.target)]
        conditions = [self.compile(each) for each in generator.ifs]
        condition = closures.conjunction(conditions) if conditions else None
        weight = _weight(*generator.ifs, *further, *results)
        turns = loops.loop(source, slots, condition, weight, self.part(generator.iter))
        if further:
            items = loops.nested(turns, self._items(further, results))
        else:
            parts = [self.compile(each) for each in results]
            element = parts[0] if len(parts) == 1 else loops.pair(*parts)
            items = loops.elements(turns, element)
        self._variables = outer
        return items

    def _declare(self, target: ast.expr) -> int:
        if not isinstance(target, ast.Name):
            message = "for is followed by a name, or by names with commas between"
            raise InvalidExpression(target.col_offset, message)
        if target.id in ROOTS or target.id in FUNCTIONS or target.id in CONSTANTS:
            message = f"{target.id} has a meaning already; the variable needs another name"
            raise InvalidExpression(target.col_offset, message)
        self._variables[target.id] = self.slots
        self.slots += 1
        return self.slots - 1


def _targets(target: ast.expr) -> list[ast.expr]:
    return target.elts if isinstance(target, ast.Tuple) else [target]


def _weight(*nodes: ast.AST) -> int:
    """Steps that one turn of a comprehension may take, but for what depends on sizes."""
    return 3 + sum(_cost(part) for node in nodes for part in ast.walk(node))


def _cost(node: ast.AST) -> int:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return FUNCTIONS[node.func.id].cost if node.func.id in FUNCTIONS else 1
    if isinstance(node, (ast.List, ast.Dict, ast.comprehension)):
        return 4
    return 1 if isinstance(node, ast.expr) else 0


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


Handler: TypeAlias = Callable[[Compiler, Json], Evaluate]

_HANDLERS: dict[type[ast.expr], Handler] = {
    ast.Attribute: Compiler.attribute,
    ast.BinOp: Compiler.binary,
    ast.BoolOp: Compiler.boolean,
    ast.Call: Compiler.call,
    ast.Compare: Compiler.compare,
    ast.Constant: Compiler.constant,
    ast.Dict: Compiler.object_literal,
    ast.DictComp: Compiler.object_comprehension,
    ast.IfExp: Compiler.choice,
    ast.List: Compiler.list_literal,
    ast.ListComp: Compiler.list_comprehension,
    ast.Name: Compiler.name,
    ast.Subscript: Compiler.subscript,
    ast.UnaryOp: Compiler.unary,
}
