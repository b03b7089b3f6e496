"""JSON Schemas that users write: what is wrong with one, and that none costs more than it may."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from shared import patterns
from shared.findings import Findings
from shared.input_schema import check_input, check_input_schema
from shared.schema_validator import TooMuchWork, errors_of

PATIENCE_SECONDS = 10.0
"""What takes no more than its steps takes a fraction of this, what has no bound far more."""

PAIRS = {"$defs": {str(n): {"allOf": [{"$ref": f"#/$defs/{n + 1}"}] * 2} for n in range(40)}}
BOMB: Any = {**PAIRS, "$ref": "#/$defs/0", "$defs": {**PAIRS["$defs"], "40": {"type": "string"}}}


def _found(schema: Any) -> list[tuple[str, str]]:
    findings = Findings(20)
    check_input_schema(schema, "/input_schema", findings)
    return [(one.pointer.removeprefix("/input_schema"), one.code) for one in findings.errors]


@pytest.mark.parametrize(
    ("schema", "pointer", "code"),
    [
        ({"type": "strin"}, "/type", "bad_schema"),
        ({"pattern": "("}, "/pattern", "bad_pattern"),
        ({"pattern": "(?=a)"}, "/pattern", "bad_pattern"),
        ({"pattern": r"(a)\1"}, "/pattern", "bad_pattern"),
        ({"pattern": "a" * 2_001}, "/pattern", "bad_pattern"),
        ({"pattern": "((a{100}){100}){100}"}, "/pattern", "bad_pattern"),
        ({"pattern": "[" * 2_000}, "/pattern", "bad_pattern"),
        ({"pattern": "(" * 2_000}, "/pattern", "bad_pattern"),
        ({"anyOf": [{"pattern": f"a{n}"} for n in range(101)]}, "/anyOf/0/pattern", "too_many"),
        ({"pattern": r"\w{101}"}, "/pattern", "bad_pattern"),
        (
            {"allOf": [{"pattern": rf"\w{{90}}{n}"} for n in range(9)]},
            "/allOf/6/pattern",
            "bad_pattern",
        ),
        ({"patternProperties": {"a/(": {}}}, "/patternProperties/a~1(", "bad_pattern"),
        ({"items": {"anyOf": [{}, {"pattern": "("}]}}, "/items/anyOf/1/pattern", "bad_pattern"),
        ({"$ref": "https://example.org/s.json"}, "/$ref", "remote_reference"),
        ({"items": {"$ref": "file:///etc/passwd"}}, "/items/$ref", "remote_reference"),
        ({"$ref": "#/$defs/a"}, "/$ref", "bad_reference"),
        ({"$ref": "#/allOf/7", "allOf": [{}]}, "/$ref", "bad_reference"),
        ({"$ref": "#/const", "const": {"type": 7}}, "/const/type", "bad_schema"),
        ({"$ref": "#/const", "const": {"pattern": "("}}, "/const/pattern", "bad_pattern"),
        ({"$ref": "#/const", "const": 7}, "/const", "bad_schema"),
        ({"items": {"$id": "x"}}, "/items/$id", "bad_schema"),
        ({"unevaluatedProperties": False}, "/unevaluatedProperties", "unsupported_keyword"),
    ],
)
def test_a_bad_schema_is_told_where_it_is_bad(schema: Any, pointer: str, code: str) -> None:
    assert (pointer, code) in _found(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"pattern": {"type": "string"}, "$ref": {}, "$id": {}, "enum": {}}},
        {"const": {"$ref": "https://example.org", "pattern": "("}, "examples": [{"pattern": "("}]},
        {"$defs": {"tree": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}},
        {"$defs": {"a/b c": {}}, "$ref": "#/$defs/a~1b%20c"},
        {"$ref": "#"},
        {"$id": "https://example.org/order", "$anchor": "here", "$ref": "#here"},
        {"pattern": r"^\p{L}[\w.-]+\u0041$"},
        True,
        None,
    ],
)
def test_a_good_schema_is_left_alone(schema: Any) -> None:
    assert _found(schema) == []


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"pattern": "^(a+)+$"}, "a" * 100_000 + "!"),
        ({"pattern": r"^(\w+\s?)*$"}, "word " * 20_000 + "!"),
        ({"pattern": "^(a|a)*$"}, "a" * 100_000 + "!"),
        ({"pattern": "([ab]{0,900}[ab]{0,900}){3}[^ab]"}, "ab" * 50_000),
        ({"patternProperties": {"^(a+)+$": False}}, {"a" * 50 + "!": 1}),
        (
            {"patternProperties": {"^(a+)+$": {}}, "additionalProperties": False},
            {"a" * 50 + "!": 1},
        ),
        ({"uniqueItems": True}, [{"n": n} for n in range(20_000)]),
        ({"uniqueItems": True}, [[n, str(n)] for n in range(20_000)]),
        ({"items": {"enum": [{"n": n} for n in range(2_000)]}}, [{"n": -1}] * 2_000),
        ({"items": {"required": [str(n) for n in range(20_000)]}}, [{}] * 20_000),
        (BOMB, "x"),
        (BOMB, 7),
    ],
)
def test_no_schema_holds_a_process(schema: Any, value: Any) -> None:
    assert _found(schema) == []
    began = time.monotonic()
    check_input(schema, value, 20)
    assert time.monotonic() - began < PATIENCE_SECONDS


def test_no_schema_takes_long_to_be_judged_itself() -> None:
    costly = {"allOf": [{"pattern": rf"\w{{90}}{n}"} for n in range(100)]}
    began = time.monotonic()
    _found(costly)
    # A twentieth of what it takes without the bound on all of them.
    assert time.monotonic() - began < 1


def test_what_takes_too_much_work_is_refused_with_a_sentence() -> None:
    (finding,) = check_input(BOMB, "x", 20)
    assert (finding.pointer, finding.code) == ("/input", "bad_input")
    assert "too much work" in finding.message


def test_a_large_input_that_fits_takes_few_steps_an_item() -> None:
    item: Any = {"properties": {"id": {"type": "integer"}, "name": {"pattern": "^[a-z]+$"}}}
    items: Any = [{"id": n, "name": "abcdefghij"} for n in range(10_000)]
    assert check_input({"items": item | {"required": ["id"]}}, items, 20) == []


def test_the_steps_of_one_value_are_not_those_of_the_next() -> None:
    with pytest.raises(TooMuchWork):
        errors_of(b'{"items":{"type":"integer"}}', list(range(100)), steps=50)
    assert errors_of(b'{"items":{"type":"integer"}}', list(range(20)), steps=50) == []


# --- agreement with the library ---------------------------------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.0, 1.0, 0.5, "", "a", "b"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2)
    ),
    max_leaves=6,
)
SCHEMAS = st.recursive(
    st.booleans()
    | st.fixed_dictionaries(
        {},
        optional={
            "enum": st.lists(VALUES, max_size=3),
            "const": VALUES,
            "uniqueItems": st.booleans(),
            "pattern": st.sampled_from(["a", "^a$", "^$", "[^a]"]),
            "type": st.sampled_from(["object", "array", "string", "integer"]),
        },
    ),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "properties": st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
            "patternProperties": st.dictionaries(
                st.sampled_from(["^a", "b", "."]), inner, max_size=2
            ),
            "additionalProperties": inner,
            "items": inner,
            "anyOf": st.lists(inner, min_size=1, max_size=2),
            "not": inner,
        },
    ),
    max_leaves=5,
)


@given(schema=SCHEMAS, value=VALUES)
def test_a_value_fits_exactly_where_the_library_says_so(schema: Any, value: Any) -> None:
    fits = Draft202012Validator(schema).is_valid(value)
    assert (check_input(schema, value, 20) == []) == fits


# --- patterns ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "states"),
    [
        ("", 0),
        ("abc", 3),
        ("a{5}", 5),
        ("a{2,7}b", 8),
        ("(ab){3}", 6),
        ("((a{10}){10}){10}", 1_000),
        (r"[a{9}]{3}", 3),
        (r"a\{9}", 4),
        (r"\p{Greek}{3}", 300),
        (r"\w{2}[\d.]", 300),
        ("a{99999999999999}", 999_999_999),
    ],
)
def test_the_states_of_a_pattern_grow_with_its_repetitions(pattern: str, states: int) -> None:
    assert patterns.states(pattern) == states


@given(st.text(max_size=60) | st.text(alphabet="ab(){}[]\\^*+?|,12pu", max_size=60))
def test_whatever_is_found_usable_can_be_used(pattern: str) -> None:
    if patterns.why_unusable(pattern) is None:
        patterns.finds(pattern, "ab(1")
