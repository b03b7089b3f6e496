"""Where an expression has a value, it is the one that Python gives."""

import json
import math
import warnings

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import ExpressionError, InvalidExpression
from shared.expressions import Scope, parse_expression
from shared.expressions.budget import MAX_INTEGER, MIN_INTEGER, Json


def _got(target: Json, key: Json, default: Json) -> Json:
    try:
        return default if target is None else target[key]
    except LookupError:
        return default


INPUT = {"n": 3, "f": -2.5, "t": "aba", "xs": [3, 1, 2], "ts": ["b", "a"], "o": {"k": 1, "m": "a"}}
ALIKE = (len, sum, min, max, any, all, sorted, round, int, float)
PYTHON = {
    "__builtins__": {},
    "input": INPUT,
    "index": 1,
    **{function.__name__: function for function in ALIKE},
    "lower": str.lower,
    "upper": str.upper,
    "split": str.split,
    "join": lambda items, separator="": separator.join(items),
    "get": lambda target, key, default=None: _got(target, key, default),
    "keys": lambda target: list(target.keys()),
    "values": lambda target: list(target.values()),
}
SCOPE = Scope(input=INPUT, index=1)

names = st.sampled_from(
    ["input['n']", "input['f']", "input['t']", "input['xs']", "input['ts']", "input['o']", "index"]
)
literals = st.one_of(
    st.integers(-5, 12).map(str),
    st.sampled_from(
        ["0.5", "1e3", "'a'", "'ab'", "''", "True", "False", "None", "[]", "{}", "'k'"]
    ),
    st.sampled_from(["9223372036854775807", "1e308", "[1, 2]", "['a']", "{'k': 2}"]),
)


def _deeper(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    signs = ["+", "-", "*", "/", "//", "%", "==", "!=", "<", "<=", ">", ">=", "and", "or"]
    functions = ["len", "sum", "min", "max", "any", "all", "sorted", "round", "int", "float"]
    functions += ["lower", "upper", "split", "join", "keys", "values"]
    return st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from([*signs, "in", "not in"]), inner),
        st.builds("({} < {} <= {})".format, inner, inner, inner),
        st.builds("({} if {} else {})".format, inner, inner, inner),
        st.builds("(-{})".format, inner),
        st.builds("(not {})".format, inner),
        st.builds("{}[{}]".format, inner, inner),
        st.builds("{}[{}:{}]".format, inner, inner, inner),
        st.builds("{}[::{}]".format, inner, inner),
        st.builds("[{}, {}]".format, inner, inner),
        st.builds("{{'p': {}, 'q': {}}}".format, inner, inner),
        st.builds("[{} for v in {} if {}]".format, st.just("v") | inner, inner, inner),
        st.builds("[[v, {}] for v in {}]".format, inner, inner),
        st.builds("{{v: {} for v in {}}}".format, inner, inner),
        st.builds("{}({})".format, st.sampled_from(functions), inner),
        st.builds("{}(v for v in {})".format, st.sampled_from(functions[1:7]), inner),
        st.builds(
            "{}({}, {})".format, st.sampled_from(["min", "max", "round", "join"]), inner, inner
        ),
        st.builds("get({}, {}, {})".format, inner, inner, inner),
        st.builds("sorted({}, reverse=True)".format, inner),
    )


anything = st.recursive(names | literals, _deeper, max_leaves=10)

whole = st.recursive(
    st.integers(0, 9).map(str) | st.sampled_from(["input['n']", "index"]),
    lambda inner: st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from(["+", "-", "*", "//", "%"]), inner),
        st.builds("(-{})".format, inner),
        st.builds("({} if {} < {} else {})".format, inner, inner, inner, inner),
        st.builds("sum([v * {} for v in [{}, {}] if v != {}])".format, inner, inner, inner, inner),
        st.builds("max({}, {})".format, inner, inner),
        st.builds("[{}, {}][-1]".format, inner, inner),
        st.builds("len([{}] * ({} % 5))".format, inner, inner),
    ),
    max_leaves=14,
)


def _python(text: str) -> Json:
    with warnings.catch_warnings():
        # Python warns about code such as 0["k"], which is only written here to be wrong.
        warnings.simplefilter("ignore", SyntaxWarning)
        return eval(text, dict(PYTHON))


def _typed(value: Json) -> str:
    """Text in which 1, 1.0 and true differ, inside lists and objects as well."""
    return json.dumps(value)


@settings(max_examples=800, deadline=None)
@given(anything)
def test_a_value_is_always_the_one_that_python_gives(text: str) -> None:
    try:
        found = parse_expression(text).evaluate(SCOPE)
    except (ExpressionError, InvalidExpression):
        return
    assert _typed(found) == _typed(_python(text))


@settings(max_examples=500, deadline=None)
@given(whole)
def test_whole_numbers_have_a_value_wherever_python_has_one_of_64_bits(text: str) -> None:
    try:
        expected = _python(text)
    except ZeroDivisionError:
        expected = None
    found, message = None, "beyond 64 bits"
    try:
        found = parse_expression(text).evaluate(SCOPE)
    except ExpressionError as error:
        message = error.message
    if found is None:
        # A step on the way may be too large though the end is not; nothing else may fail.
        assert "beyond 64 bits" in message or expected is None
    else:
        assert found == expected
        assert MIN_INTEGER <= found <= MAX_INTEGER


@settings(max_examples=300, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**63), 2**63 - 1))
def test_numbers_calculate_like_pythons(left: float, right: int) -> None:
    scope = Scope(input=[left, right])

    for sign in ["+", "-", "*", "/", "//", "%", "<", "<=", "==", "!="]:
        text = f"input[0] {sign} input[1]"
        try:
            expected = eval(text, {"input": [left, right]})
        except ZeroDivisionError:
            continue
        if math.isfinite(expected):
            assert parse_expression(text).evaluate(scope) == expected
