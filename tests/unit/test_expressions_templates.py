"""JSON with expressions in its strings."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import ExpressionError
from shared.expressions import Problem, Scope, TemplateReference, parse_template
from shared.expressions.budget import Json

SCOPE = Scope(input={"n": 3, "t": "text", "xs": [1, None], "o": {"k": "ü"}, "f": 1.0}, index=0)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("${input.n}", 3),
        ("${ input.xs }", [1, None]),
        ("${input.t}", "text"),
        ("n=${input.n}", "n=3"),
        (" ${input.n}", " 3"),
        ("${input.t}${input.n}", "text3"),
        (
            "${input.xs} ${input.o} ${input.f} ${null} ${1 < 2}",
            '[1, null] {"k": "ü"} 1.0 null true',
        ),
        ("$${input.n}", "${input.n}"),
        ("$${a} ${input.n} $${b}", "${a} 3 ${b}"),
        ("$ $$ {} ${input.n}$", "$ $$ {} 3$"),
        ("${'$'}${input.n}", "$3"),
        ("${'}'}", "}"),
        ('${"{" + "}}"}', "{}}"),
        (r"${'\'}'}", "'}"),
        ("${ {'a': {'b': input.n}} }", {"a": {"b": 3}}),
        ("${{'a': 1}['a']}", 1),
        ("${'${'}", "${"),
        ("ü${input.o.k}ü", "üüü"),
        ({"a": ["${input.n}", {"b": "x${index}"}], "c": None}, {"a": [3, {"b": "x0"}], "c": None}),
        ([], []),
        (5, 5),
        (None, None),
        ("plain", "plain"),
        ("", ""),
    ],
)
def test_a_template_gives(template: Json, expected: Json) -> None:
    read = parse_template(template)

    assert read.problems == ()
    assert read.render(SCOPE) == expected
    assert type(read.render(SCOPE)) is type(expected)


def test_a_template_without_expressions_is_given_back_itself() -> None:
    value = {"a": [1, {"b": "text"}], "c": "$ {"}
    template = parse_template(value)

    assert template.is_constant
    assert template.render(SCOPE) is value


def test_an_escape_alone_makes_a_constant() -> None:
    value = {"a": "$${x}", "b": [1]}
    template = parse_template(value)

    assert template.is_constant
    assert template.render(SCOPE) == {"a": "${x}", "b": [1]}
    assert template.render(SCOPE) is template.render(SCOPE)
    assert value == {"a": "$${x}", "b": [1]}


def test_all_problems_are_told_each_with_its_place() -> None:
    template = parse_template(
        {"a/b": ["${1 +}", "fine ${inptu} ${}"], "~": "${open", "${key}": 1, "ok": "${input.n}"}
    )

    assert [(p.pointer, p.offset, p.suggestion) for p in template.problems] == [
        ("/a~1b/0", 5, None),
        ("/a~1b/1", 7, "input"),
        ("/a~1b/1", 16, None),
        ("/~0", 0, "}"),
        ("/${key}", 0, None),
    ]
    assert not template.is_constant
    assert template.names == {"input"}
    with pytest.raises(ExpressionError, match="ends too early"):
        template.render(SCOPE)


def test_references_are_told_with_pointer_and_offset() -> None:
    template = parse_template({"x": ["a ${tasks.fetch.data} ${secrets.K}", "${item}"]})

    assert template.references == (
        TemplateReference("/x/0", "fetch", "data", 4),
        TemplateReference("/x/0", None, "secrets", 24, "K"),
        TemplateReference("/x/1", None, "item", 2),
    )
    assert template.task_names == {"fetch"}
    assert template.names == {"tasks", "secrets", "item"}


def test_an_error_names_the_string_and_the_place_in_it() -> None:
    template = parse_template({"x": ["abc ${1 + input.zz}"]})

    with pytest.raises(ExpressionError, match=r"^/x/0: input has no key 'zz'") as caught:
        template.render(SCOPE)
    assert caught.value.offset == 10


def test_rendering_changes_neither_template_nor_scope() -> None:
    value = {"a": "${input.xs}", "b": [{"c": "${input.n}"}], "d": [1]}
    before = json.dumps([value, SCOPE.input])

    first = parse_template(value).render(SCOPE)

    assert json.dumps([value, SCOPE.input]) == before
    assert first["b"] is not value["b"]


def test_all_expressions_of_a_template_share_one_budget() -> None:
    one = "${[x + y for x in input for y in input]}"
    scope = Scope(input=list(range(100)))

    parse_template([one]).render(scope)
    with pytest.raises(ExpressionError, match="too much work"):
        parse_template([one] * 20).render(scope)


def test_a_value_repeated_in_many_strings_is_counted_each_time() -> None:
    scope = Scope(input="x" * 1_000_000)

    with pytest.raises(ExpressionError, match="too large"):
        parse_template(["${input}"] * 20).render(scope)
    with pytest.raises(ExpressionError, match="too large"):
        parse_template("-${input}" * 20).render(scope)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (["${1}"] * 1_001, "more than 1000 expressions"),
        (["${'" + "x" * 3_900 + "'}"] * 30, "50000 characters"),
        ("${'" + "x" * 5_000 + "'}", "is not closed within 4000 characters"),
    ],
)
def test_a_template_has_its_limits(value: Json, message: str) -> None:
    problems = parse_template(value).problems

    assert len(problems) == 1
    assert message in problems[0].message


def test_problems_without_end_are_told_in_part() -> None:
    assert len(parse_template(["${"] * 5_000).problems) == 1_000


def test_a_template_nested_too_deeply_is_a_problem_and_no_crash() -> None:
    value: Json = "${1}"
    for _ in range(50_000):
        value = [value]

    assert [p.message for p in parse_template(value).problems] == ["nested deeper than 200 levels"]
    # Taken apart by hand: Python's own way of freeing it is not what is tested here.
    while isinstance(value, list):
        value = value.pop()


def test_open_quotes_and_braces_are_told_in_linear_time() -> None:
    hostile = "${" + '"\\"' * 300_000

    assert parse_template(hostile).problems[0] == Problem(
        "", 0, "this ${ is not closed within 4000 characters", "}"
    )


texts = st.lists(
    st.sampled_from(
        ["$", "{", "}", "${", "$${", "'", '"', "\\", "input", ".n", "1", " ", "ü", "+"]
    ),
    max_size=12,
).map("".join) | st.text(max_size=12)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=800, deadline=None)
@given(values)
def test_reading_a_template_raises_nothing(value: Json) -> None:
    template = parse_template(value)

    if template.is_constant:
        assert template.problems == ()
    for problem in template.problems:
        assert problem.offset >= 0


@settings(max_examples=300, deadline=None)
@given(st.text())
def test_text_with_every_opening_escaped_comes_out_as_it_was(text: str) -> None:
    # A dollar sign right before an opening cannot be written down without an expression.
    plain = text.replace("$", "")
    escaped = f"{plain}$${{{plain}$${{"

    assert parse_template(escaped).render(SCOPE) == f"{plain}${{{plain}${{"
