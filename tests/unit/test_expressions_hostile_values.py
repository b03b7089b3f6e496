"""Nothing of Python can be reached, and no value makes the interpreter crash."""

import pytest

from shared.errors import ExpressionError, InvalidExpression
from shared.expressions import Scope, parse_expression, parse_template
from shared.expressions.budget import MAX_INTEGER, MAX_SIZE, MIN_INTEGER, Budget, Json


@pytest.mark.parametrize(
    "text",
    [
        "'a'.__class__", "[].append(1)", "input.items()", "tasks.x.data.__init__",
        "secrets.__class__", "run.__dict__", "now.__globals__", "len.__self__",
        "[].__class__.__base__", "input.__getitem__", "''.join(['a'])", "'{}'.format(1)",
        "get.__code__", "type(1)", "vars()", "globals()", "open('x')", "print(1)", "range(9)",
        "map(len, input)", "x", "_", "input._ + __", "@input", "del input", "input = 1",
        "import os", "raise input", "print >> 1", "`input`", "input if", "*input", "**input",
    ],
)  # fmt: skip
def test_nothing_of_python_can_be_reached(text: str) -> None:
    with pytest.raises(InvalidExpression):
        parse_expression(text)


def test_a_dot_reads_keys_and_never_attributes() -> None:
    class Odd(dict[str, Json]):
        secret = "attribute"

    for value in ({"a": 1}, [1], "text", 1, None, Odd(a=1)):
        for key in ("secret", "keys", "append", "lower", "real", "_x"):
            with pytest.raises(ExpressionError):
                parse_expression(f"input.{key}").evaluate(Scope(input=value))


def test_integers_end_at_64_bits() -> None:
    scope = Scope(input={"most": MAX_INTEGER, "least": MIN_INTEGER, "more": 10**5_000})

    assert parse_expression("input.most").evaluate(scope) == MAX_INTEGER
    for text in [
        "input.most + 1", "input.least - 1", "input.most * input.most", "-input.most",
        "sum([input.most, 1])", "round(input.most, -1)", "input.more + 1",
        "input.more * input.more", "int('99999999999999999999')", "[x * x for x in [input.most]]",
    ]:  # fmt: skip
        with pytest.raises(ExpressionError, match="64 bits"):
            parse_expression(text).evaluate(scope)


@pytest.mark.parametrize(
    "text",
    [
        "input / 2", "input + 1.5", "1.5 - input", "input * 0.5", "1.5 // input", "1.5 % input",
        "float(input)", "sum([input, 1.5])",
    ],
)  # fmt: skip
def test_an_integer_that_no_document_holds_is_an_error_and_no_crash(text: str) -> None:
    with pytest.raises(ExpressionError, match="too large"):
        parse_expression(text).evaluate(Scope(input=10**5_000))


def test_text_counts_with_the_length_that_it_has_when_it_is_written() -> None:
    budget, scope = Budget(), Scope(input=["\x01" * 1_000])

    text = parse_expression("str(input)").evaluate(scope, budget)

    assert len(text) == 6_004
    # Once where it is made, and once where it is handed out.
    assert MAX_SIZE - budget.size >= 2 * len(text)


def test_a_value_nested_without_end_is_an_error_and_no_crash() -> None:
    values: list[Json] = []
    for _ in range(2):
        value: Json = 1
        for _ in range(20_000):
            value = [value]
        values.append(value)
    scope = Scope(input={"a": values[0], "b": values[1]})

    for text in ["input.a == input.b", "input.a in [input.b]", "str(input.a)", "input.a < input.b"]:
        with pytest.raises(ExpressionError, match="nested too deeply"):
            parse_expression(text).evaluate(scope)
    with pytest.raises(ExpressionError, match="nested too deeply"):
        parse_template("x${input.a}").render(scope)
    # Taken apart by hand: Python's own way of freeing it is not what is tested here.
    for value in values:
        while isinstance(value, list):
            value = value.pop()
