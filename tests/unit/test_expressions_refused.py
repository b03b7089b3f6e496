"""What is no expression of the language, found when it is read."""

import builtins
import string

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shared.errors import InvalidExpression
from shared.expressions import FUNCTIONS, parse_expression


def refusal(text: str) -> InvalidExpression:
    with pytest.raises(InvalidExpression) as caught:
        parse_expression(text)
    return caught.value


@pytest.mark.parametrize(
    ("text", "offset", "message", "suggestion"),
    [
        ("", 0, "is empty", None),
        ("  \n ", 0, "is empty", None),
        ("1 + ", 3, "ends too early", None),
        ("1 2", 2, "2 was not expected here", None),
        ("input.", 6, "ends too early", None),
        ("[1, 2 3]", 4, "a comma is missing", None),
        ("1 if 2", 0, "no else", "a if condition else b"),
        ("(1", 0, "this ( is never closed", None),
        ("1)", 1, "this ) was never opened", None),
        ("[1)", 2, "] was expected here", "]"),
        ("'abc", 0, "no closing quote", None),
        ("'''abc'''", 0, "not three", "'"),
        ("'a\nb'", 0, "no closing quote", None),
        (r"'\d'", 1, "is not an escape", r"\\d"),
        (r"'\N{DASH}'", 1, "is not an escape", r"\\N"),
        (r"'\777'", 1, "is not an escape", r"\\7"),
        (r"'\ud800'", 0, "cannot carry", None),
        (r"'\x00'", 0, "cannot carry", None),
        ("'\ud800'", 0, "half a character", None),
        ("f'{x}'", 0, "no letters before its quote", None),
        ("b'x'", 0, "no letters before its quote", None),
        ("1 if 1else 2", 5, "not a number as it is written", None),
        ("0x10", 0, "not a number as it is written", None),
        ("1_000", 0, "not a number as it is written", None),
        ("1j", 0, "not a number as it is written", None),
        ("007", 0, "does not start with 0", "7"),
        ("1.2.3", 0, "not a number as it is written", None),
        ("18446744073709551616", 0, "does not fit into 64 bits", None),
        ("1" * 41, 0, "too many digits", None),
        ("1e999", 0, "too large", None),
        ("...", 0, "not a value of JSON", None),
        ("input.x = 1", 8, "compared with ==", "=="),
        ("input.x === 1", 8, "===", "=="),
        ("input.x !== 1", 8, "!==", "!="),
        ("1 <> 2", 2, "<>", "!="),
        ("input.x && true", 8, "&&", "and"),
        ("input.x || true", 8, "||", "or"),
        ("!input.x", 0, "! is not a sign", "not"),
        ("a ? 1 : 2", 2, "a if condition else b", None),
        ("2 ** 3", 2, "powers", None),
        ("(x := 1)", 3, "cannot be given names", None),
        ("1 # one", 2, "comments", None),
        ("${input.x}", 0, "belongs around", None),
        ("1 | 2", 2, "not part of the language", None),
        ("1 << 2", 2, "not part of the language", None),
        ("~1", 0, "not part of the language", None),
        ("1 @ 2", 2, "not part of the language", None),
        ("1; 2", 1, "not part of the language", None),
        ("\0", 0, "not part of the language", None),
        ("input\u00a0.x", 5, "not part of the language", None),
        ("\u0131nput", 0, "letters a to z", None),
        ("\uff49\uff4e\uff50\uff55\uff54", 0, "letters a to z", None),
        ("input.\ufb01eld", 6, "letters a to z", None),
        ("input\u210c", 5, "letters a to z", None),
        ("+1", 0, "+ in front", None),
        ("inptu.x", 0, "'inptu' is not a name", "input"),
        ("len", 0, "len is a function: len(value)", None),
        ("lenn(input)", 0, "no function 'lenn'", "len"),
        ("input.x.lower()", 0, "no methods", "lower(text)"),
        ("input.x()", 0, "no methods", None),
        ("input[0]()", 0, "only a function's name", None),
        ("len()", 0, "len is called as len(value)", None),
        ("len(1, 2)", 0, "len is called as len(value)", None),
        ("len(1, default=2)", 15, "len is called as len(value)", None),
        ("sorted([1], default=2)", 20, "sorted is called as", None),
        ("len(*input)", 4, "* in front", None),
        ("len(**input)", 4, "powers", None),
        ("(1, 2)", 0, "square brackets", "[...]"),
        ("1,", 0, "square brackets", "[...]"),
        ("{1, 2}", 0, "square brackets", "[...]"),
        ("{x for x in input}", 0, "square brackets", "[... for ...]"),
        ("(x for x in input)", 0, "square brackets around", "[... for ...]"),
        ("{1: 2}", 1, "keys of an object are text", '"1"'),
        ("lambda: 1", 0, "functions cannot be written", None),
        ("lambda x=1: 1", 8, "compared with ==", "=="),
        ("[*input]", 1, "* in front", None),
        ("(yield)", 1, "not part of the language", None),
        ("await input", 0, "not part of the language", None),
        ("[x async for x in input]", 13, "async", None),
        ("[1 for input in item]", 7, "has a meaning already", None),
        ("[1 for len in item]", 7, "has a meaning already", None),
        ("[1 for x.y in item]", 7, "for is followed by a name", None),
        ("[1 for *x, y in item]", 7, "for is followed by a name", None),
        ("[x for y in item if x]", 20, "'x' is not a name", None),
        ("[x for x in x]", 12, "'x' is not a name", None),
        ("[x for x in item] + x", 20, "'x' is not a name", None),
        ("1 is 1", 0, "values are compared", "=="),
        ("1 is not 1", 0, "values are compared", "!="),
        ("input[1:2, 3]", 6, "square brackets", "[...]"),
        ("input.from", 6, "as a key it is written in brackets", '["from"]'),
        ("input.__class__", 6, "two underscores", None),
        ("__import__('os')", 0, "two underscores", None),
        ("input.a__b", 6, "two underscores", None),
        ("'%1000000000d' % 1", 0, "% does not fill in texts", None),
        # Containers whose contents must be known beforehand
        ("tasks", 0, "tasks.NAME.data", None),
        ("tasks.fetch", 0, "its data is", "tasks.fetch.data"),
        ("tasks.fetch.rows", 0, "probably in its data", "data.rows"),
        ("tasks.fetch.dta", 0, "a task has data", "data"),
        ("tasks.fetch-rows.data", 0, "read with brackets", 'tasks["fetch-rows"].data'),
        ("tasks[input.x].data", 0, "written out", None),
        ("tasks['a' + 'b'].data", 0, "written out", None),
        ("[t.data for t in tasks]", 17, "written out", None),
        ("input.x in tasks", 0, "only a name in quotes", None),
        ("get(tasks, 'x')", 4, "written out", None),
        ("run", 0, "written out", None),
        ("run.idd", 0, "run has id, flow_id, started_at", "id"),
        ("run[input.x]", 0, "written out", None),
        ("secrets", 0, "written out", None),
        ("secrets[input.x]", 0, "written out", None),
        ("keys(secrets)", 5, "written out", None),
    ],
)
def test_what_the_language_lacks_is_refused_with_place_and_hint(
    text: str, offset: int, message: str, suggestion: str | None
) -> None:
    error = refusal(text)

    assert message in error.message
    assert (error.offset, error.suggestion) == (offset, suggestion)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1" + " " * 4_000, "the limit is 4000"),
        ("[" * 31 + "]" * 31, "nested deeper than 30"),
        ("(" * 100_000, "the limit is 4000"),
        ("-" * 200 + "1", "nested deeper than 60"),
        ("1" + "+1" * 200, "nested deeper than 60"),
        ("input" + ".a" * 200, "nested deeper than 60"),
        ("1 if 1 else " * 100 + "1", "nested deeper than 60"),
        ("1" + "<1" * 401, "more than 800"),
        ("x" * 4_000, "is not a name"),
        ("[1" + " for a in input" * 7 + "]", "at most 6 times for"),
    ],
)
def test_what_is_too_large_is_refused(text: str, message: str) -> None:
    error = refusal(text)

    assert message in error.message
    assert len(error.message) < 200


def test_nothing_of_python_is_known_but_the_functions() -> None:
    for name in dir(builtins):
        if name not in FUNCTIONS and name not in ("True", "False", "None"):
            with pytest.raises(InvalidExpression):
                parse_expression(f"{name}(1)")


def _reads(text: str) -> None:
    """Whatever it is, it is read, or refused with a place in it and a short message."""
    offset, message = 0, ""
    try:
        parse_expression(text)
    except InvalidExpression as error:
        offset, message = error.offset, error.message
    assert 0 <= offset <= len(text)
    assert len(message) < 250


_PLAIN_WORDS = """
    input tasks run secrets item index previous iteration x true null if else for in not and or is
    lambda async await yield import def None as del with from class len sorted now get reverse=
    default= . , : ( ) [ ] { } + - * / // % ** == != < <= = := -> @ 'a' "b" 1 2.5 1e5 0 _ __ f''
    # $ ${ ... ; ! ~ ^ & | ? ` \\
"""
WORDS = (*_PLAIN_WORDS.split(), "\u00e9", "\uff58", "\0", "\ud800", "\n", "\t", " ")


@settings(max_examples=600, deadline=None)
@given(st.text(max_size=60))
@example("'" + "\\" * 9)
@example("1if 2else 3")
@example("\ufeffinput")
@example("\\\n1")
@example("1\r\n2")
def test_any_text_is_read_or_refused(text: str) -> None:
    _reads(text)


@settings(max_examples=1_500, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=25), st.sampled_from(["", " "]))
def test_any_row_of_words_is_read_or_refused(words: list[str], between: str) -> None:
    _reads(between.join(words))


@settings(max_examples=600, deadline=None)
@given(st.text(alphabet=string.printable, max_size=40))
def test_any_printable_text_is_read_or_refused(text: str) -> None:
    _reads(text)
