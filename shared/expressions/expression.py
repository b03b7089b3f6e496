"""An expression that was read and can be evaluated."""

from dataclasses import dataclass
from functools import lru_cache

from shared.errors import ExpressionError, InvalidExpression
from shared.expressions.budget import Budget, Json, Part, shape
from shared.expressions.closures import Evaluate, Frame
from shared.expressions.compiler import Compiler
from shared.expressions.references import Reference, Scope
from shared.expressions.syntax import parse


@dataclass(frozen=True, slots=True, eq=False)
class Expression:
    """One expression. Immutable, so it may be kept and shared."""

    text: str
    references: tuple[Reference, ...]
    """Every use of a root, in the order of the text."""
    task_names: frozenset[str]
    """The tasks whose results are read or asked for."""
    names: frozenset[str]
    """The roots that are used."""
    _compiled: Evaluate
    _slots: int
    _whole: Part

    def evaluate(self, scope: Scope, budget: Budget | None = None) -> Json:
        """The value, in a scope. It may share lists and objects with the scope's values.

        Args:
            scope: what the names stand for.
            budget: what is left, where several expressions share one.

        Raises:
            ExpressionError: the values do not fit, or a limit was passed.
        """
        if budget is None:
            budget = Budget()
        try:
            value = self._compiled(Frame(scope, budget, self._slots))
        except RecursionError:
            raise self._whole.fail("the values are nested too deeply") from None
        except OverflowError:
            # Documents hold no such integers; values that were never written down may.
            raise self._whole.fail(f"{self._whole.text}: a number is too large") from None
        kind = type(value)
        if kind is str or kind is list or kind is dict:
            budget.result(value, self._whole)
        return value

    def evaluate_bool(self, scope: Scope) -> bool:
        """The value of an expression that decides something.

        Raises:
            ExpressionError: as for :meth:`evaluate`, and for any value but true and false.
        """
        value = self.evaluate(scope)
        if value is True or value is False:
            return value
        raise ExpressionError(
            f"{self._whole.text} must give true or false, and gives {shape(value)}",
            self._whole.offset,
        )


def parse_expression(text: str) -> Expression:
    """Read an expression.

    Raises:
        InvalidExpression: it is not one; says where and, if it can, what was meant.
    """
    return _kept(text) if len(text) <= _KEPT_LENGTH else _parse(text)


def _parse(text: str) -> Expression:
    tree = parse(text)
    compiler = Compiler(text)
    try:
        compiled = compiler.compile(tree)
    except RecursionError:
        # The depth is limited; only a caller that is deep down itself can get here.
        raise InvalidExpression(0, "the expression is nested too deeply") from None
    references = tuple(sorted(compiler.references, key=lambda reference: reference.offset))
    return Expression(
        text=text,
        references=references,
        task_names=frozenset(r.task for r in references if r.task is not None),
        names=frozenset("tasks" if r.task is not None else r.kind for r in references),
        _compiled=compiled,
        _slots=compiler.slots,
        _whole=compiler.part(tree),
    )


_KEPT_LENGTH = 200
"""Only short texts are kept: what is kept must be small, whatever is asked for."""

_kept = lru_cache(maxsize=1_024)(_parse)
