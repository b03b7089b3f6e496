"""The expression language of definitions: conditions, params, lists to go through.

It takes JSON and gives JSON. It is a strict subset of Python's expressions, read by Python's
own parser and compiled to closures; nothing of it is ever executed as Python, and nothing of
Python's objects can be reached from it. It is pure: the time comes in with the scope.
"""

from shared.expressions.expression import Expression, parse_expression
from shared.expressions.functions import FUNCTIONS
from shared.expressions.references import ENDING_RUN_KEYS, EarlierResult, Reference, Scope
from shared.expressions.templates import Problem, Template, TemplateReference, parse_template

__all__ = [
    "ENDING_RUN_KEYS",
    "FUNCTIONS",
    "EarlierResult",
    "Expression",
    "Problem",
    "Reference",
    "Scope",
    "Template",
    "TemplateReference",
    "parse_expression",
    "parse_template",
]
