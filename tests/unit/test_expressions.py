"""What expressions give, read and say."""

import sys
import time
import timeit
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

import pytest

from shared.errors import ExpressionError
from shared.expressions import FUNCTIONS, Reference, Scope, parse_expression
from shared.expressions.budget import MAX_SIZE, MAX_STEPS, Json
from shared.expressions.compiler import MAX_LOOPS
from shared.expressions.references import ROOTS
from shared.expressions.syntax import MAX_NESTING, MAX_TEXT, MAX_TOKENS
from shared.expressions.templates import MAX_EXPRESSION_TEXT, MAX_EXPRESSIONS


@dataclass(frozen=True)
class Result:
    data: Json = None
    success: bool | None = True
    error: Json = None
    iteration: int = 1


SCOPE = Scope(
    input={
        "n": 3,
        "rows": [{"id": 2, "tag": "b"}, {"id": 1, "tag": "a"}],
        "text": "Grüße",
        "flag": True,
        "nothing": None,
        "a key": {"from": 7},
        "pairs": [["a", 1], ["b", 2]],
        "big": [1.5, 2],
    },
    tasks={
        "fetch": Result({"count": 2, "ok": "yes"}, iteration=4),
        "my task": Result([1, 2, 3], success=False),
        "broken": Result(None, success=None, error={"type": "ValueError", "message": "no"}),
    },
    iteration=2,
    previous={"count": 2},
    item={"id": 9},
    index=5,
    run=MappingProxyType(
        {"id": "r1", "flow_id": "f1", "started_at": "2026-01-01T00:00:00.000000Z"}
    ),
    secrets={"TOKEN": "s3cret"},
    now=datetime(2026, 1, 1, 1, 0, 0, tzinfo=UTC),
)


def value(text: str) -> Json:
    return parse_expression(text).evaluate(SCOPE)


def failure(text: str, scope: Scope = SCOPE) -> ExpressionError:
    with pytest.raises(ExpressionError) as caught:
        parse_expression(text).evaluate(scope)
    return caught.value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # Names
        ("input.n", 3),
        ("input['n']", 3),
        ("input['a key']['from']", 7),
        ("tasks.fetch.data.count", 2),
        ("tasks['my task'].data[-1]", 3),
        ('tasks["fetch"]["data"]["ok"]', "yes"),
        ("tasks.fetch.success", True),
        ("tasks['my task'].success", False),
        ("tasks.broken.success", None),
        ("tasks.broken.error.type", "ValueError"),
        ("tasks.fetch.iteration", 4),
        ("'fetch' in tasks", True),
        ("'later' in tasks", False),
        ("'later' not in tasks", True),
        ("iteration", 2),
        ("previous.count", 2),
        ("item.id", 9),
        ("index", 5),
        ("run.id", "r1"),
        ("run.flow_id", "f1"),
        ("run['started_at']", "2026-01-01T00:00:00.000000Z"),
        ("secrets.TOKEN", "s3cret"),
        # Literals
        ("[true, false, null, True, False, None]", [True, False, None, True, False, None]),
        ("{'a': 1, 'b': [1.5, -2]}", {"a": 1, "b": [1.5, -2]}),
        (r"'\u00fc\x41\n\"\''", "üA\n\"'"),
        ("'one' 'two'", "onetwo"),
        ("1e3", 1000.0),
        ("-9223372036854775808", -(2**63)),
        ("18446744073709551615", 2**64 - 1),
        ("\n  input.n\n  + 1 ", 4),
        # Signs
        ("7 // 2 * 2 + 7 % 2 - 1 / 2", 6.5),
        ("-7 // 2", -4),
        ("'ab' + 'c' * 2", "abcc"),
        ("[1] + [2] * 2", [1, 2, 2]),
        ("0 * 'a'", ""),
        ("-1 * [1]", []),
        ("1 < 2 <= 2 != 3", True),
        ("1 < 1 < 1 / 0", False),
        ("'a' < 'b' and [1, 2] < [1, 3]", True),
        ("1 == 1.0 and 'a' != 1 and [1] == [1.0]", True),
        ("'id' in item and 9 not in item.id * [1]", True),
        ("'ruß' in input.text", False),
        ("'üß' in input.text", True),
        ("2 in [1, 2] and [1] in [[1]]", True),
        ("'' or input.nothing or 'else'", "else"),
        ("1 and 'x'", "x"),
        ("not input.rows", False),
        ("false and 1 / 0", False),
        ("true or 1 / 0", True),
        ("'a' if input.flag else 1 / 0", "a"),
        # Brackets
        ("input.rows[0].id", 2),
        ("input.rows[input.n - 4].tag", "a"),
        ("input.text[0] + input.text[-1]", "Ge"),
        ("input.text[1:3]", "rü"),
        ("[1, 2, 3, 4][::-2]", [4, 2]),
        ("[1, 2][5:]", []),
        ("input[input.text[:0] + 'n']", 3),
        # Comprehensions
        ("[r.id for r in input.rows if r.id > 1]", [2]),
        ("[k + str(v) for k, v in input.pairs]", ["a1", "b2"]),
        ("{r.tag: r.id for r in input.rows}", {"b": 2, "a": 1}),
        ("[[a, b] for a in [1, 2] for b in [a, 3] if a < b]", [[1, 3], [2, 3]]),
        ("[[x + y for y in [x, 1]] for x in [1, 2]]", [[2, 2], [4, 3]]),
        ("[x for x in [x for x in [1]]]", [1]),
        ("[k for k in item]", ["id"]),
        ("sum(r.id for r in input.rows)", 3),
        ("any(r.id > 1 or 1 / 0 > 0 for r in input.rows)", True),
        ("all(r.id > 2 for r in input.rows)", False),
        ("join((r.tag for r in input.rows), '-')", "b-a"),
    ],
)
def test_an_expression_gives(text: str, expected: Json) -> None:
    found = value(text)

    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("len(input.rows) + len('ab') + len(item)", 5),
        ("sum([1, 2.5])", 3.5),
        ("sum([])", 0),
        ("sum([1], 10)", 11),
        ("sum(x > 1 for x in [1, 2, 3])", 2),
        ("min([3, 1, 2]) + min(5, 4)", 5),
        ("max('a', 'c', 'b')", "c"),
        ("max([], default=null)", None),
        ("max([1], default=9)", 1),
        ("any([0, 'x'])", True),
        ("any([])", False),
        ("all([])", True),
        ("sorted([3, 1, 2.5])", [1, 2.5, 3]),
        ("sorted(['b', 'a'], reverse=True)", ["b", "a"]),
        ("[p[1] for p in sorted([r.id, r.tag] for r in input.rows)]", ["a", "b"]),
        ("round(2.5)", 2),
        ("round(2.675, 2)", 2.67),
        ("round(1234, -2)", 1200),
        ("int('42') + int(2.9) + int(1)", 45),
        ("float('1.5') + float(1)", 2.5),
        ("str('x') + str(1) + str(true) + str(null)", "x1truenull"),
        ("str({'ü': [1.0]})", '{"ü": [1.0]}'),
        ("lower('ÄB') + upper('äß')", "äbÄSS"),
        ("split('a  b ')", ["a", "b"]),
        ("split('a,,b', ',')", ["a", "", "b"]),
        ("split('', ',')", [""]),
        ("join(['a', 'b'])", "ab"),
        ("join([], ',')", ""),
        ("get(item, 'id')", 9),
        ("get(item, 'no')", None),
        ("get(item, 'no', 'else')", "else"),
        ("get([1, 2], 5, 0) + get([1, 2], -1)", 2),
        ("get(get(input.nothing, 'a'), 'b', 1)", 1),
        ("keys({'b': 1, 'a': 2})", ["b", "a"]),
        ("values({'b': 1, 'a': 2})", [1, 2]),
        ("now()", "2026-01-01T01:00:00.000000Z"),
        ("now('30m')", "2026-01-01T01:30:00.000000Z"),
        ("now(-0.5)", "2026-01-01T00:59:59.500000Z"),
        ("duration('1h30m')", 5400.0),
        ("duration(run.started_at, now())", 3600.0),
        ("duration('2026-01-01T01:00:00+01:00', run.started_at)", 0.0),
    ],
)
def test_a_function_gives(text: str, expected: Json) -> None:
    found = value(text)

    assert found == expected
    assert type(found) is type(expected)


def test_every_function_is_tried_above() -> None:
    marks = test_a_function_gives.pytestmark  # type: ignore[attr-defined]
    tried = " ".join(text for text, _ in marks[0].args[1])

    assert [name for name in FUNCTIONS if f"{name}(" not in tried] == []


@pytest.mark.parametrize(
    ("text", "offset", "message"),
    [
        (
            "1 + tasks.fetch.data.rows",
            4,
            "tasks.fetch.data has no key 'rows'; it has: count, ok",
        ),
        ("tasks.later.data", 0, "has not finished in this run"),
        ("input.n.x", 0, "input.n is a number, not an object with a key 'x'"),
        ("input.rows.x", 0, "input.rows is a list, not an object with a key 'x'"),
        ("input.nothing.x", 0, "input.nothing is null, not an object"),
        ("input.rows[2]", 0, "input.rows has 2 items, and none at 2"),
        ("input.text[9]", 0, "input.text has 5 characters, and none at 9"),
        ("input.rows['a' + 'b']", 0, "its places are whole numbers, not text"),
        ("input.rows[true]", 0, "its places are whole numbers, not true or false"),
        ("input[1]", 0, "input is an object: its keys are text, not number"),
        ("input[input.text]", 0, "input has no key input.text"),
        ("input.n[0]", 0, "input.n is a number, which has no keys or items"),
        ("input.rows['a':]", 0, "a slice takes whole numbers, not text"),
        ("input.rows[::0]", 0, "the step of a slice is not 0"),
        ("input.n[1:]", 0, "only a list or a text can be sliced"),
        ("{}.x", 0, "{} has no key 'x'; it is empty"),
        ("1 + 'a'", 0, "+ does not work with number and text"),
        ("true + 1", 0, "+ does not work with true or false and number"),
        ("1.5 * 'a'", 0, "* does not work with number and text"),
        ("-input.text", 0, "- needs a number, not text"),
        ("1 - (2 / 0)", 5, "divides by zero"),
        ("1 // 0", 0, "divides by zero"),
        ("1 % 0.0", 0, "divides by zero"),
        ("input.text % 1", 0, "% does not work with text and number"),
        ("1 < 'a'", 0, "< does not work with number and text"),
        ("{} < {}", 0, "< does not work with object and object"),
        ("1 < 2 < 'a'", 0, "< does not work with number and text"),
        ("[1] < ['a']", 0, "have no order"),
        ("1 in input.text", 0, "only text can be in text, not number"),
        ("1 in input", 0, "only text can be in an object, not number"),
        ("1 in input.n", 0, "nothing can be in a number"),
        ("18446744073709551615 + 1", 0, "beyond 64 bits"),
        ("9223372036854775807 * -9", 0, "beyond 64 bits"),
        ("1e308 * 10", 0, "too large"),
        ("[x for x in input.text]", 12, "for goes through a list or object"),
        ("[1 for a, b in input.rows]", 15, "each item must be a list of 2, not object"),
        ("[1 for a, b in [[1]]]", 15, "each item must be a list of 2, not a list of 1"),
        ("{k: 1 for k in [1]}", 0, "the keys of an object are text, not number"),
        ("{input.n: 1}", 0, "the keys of an object are text, not number"),
        ("len(1)", 0, "needs list or text or object, not number"),
        ("sum(['a'])", 0, "it holds text"),
        ("min([])", 0, "has nothing to choose from"),
        ("min([1, 'a'])", 0, "it is given number, text"),
        ("sorted([{}])", 0, "it is given object"),
        ("sorted([[1], ['a']])", 0, "have no order"),
        ("sorted([1], reverse=1)", 0, "takes reverse=true or false, not number"),
        ("round('a')", 0, "needs number, not text"),
        ("round(1.5, 21)", 0, "takes at most 20 places"),
        ("int('1.5')", 0, "a text that is no whole number"),
        ("int(true)", 0, "needs a number or text"),
        ("int(1e300)", 0, "beyond 64 bits"),
        ("float('nan')", 0, "is not a number of JSON"),
        ("float('1e999')", 0, "is not a number of JSON"),
        ("float('x')", 0, "a text that is no number"),
        ("split('a', '')", 0, "needs a separator that is not empty"),
        ("join(['a', 1])", 0, "needs a list of text; it holds number"),
        ("get('a', 0)", 0, "needs object or list, not text"),
        ("get(input, 1)", 0, "needs text, not number"),
        ("now('x')", 0, "is given a duration that must"),
        ("now(1e300)", 0, "at most ten years away"),
        ("duration('-1s')", 0, "is given a duration that must"),
        ("duration('a', 'b')", 0, "needs times with a zone"),
        ("duration('2026-01-01', '2026-01-02')", 0, "needs times with a zone"),
        ("secrets.OTHER", 0, "secrets.OTHER is not known here"),
    ],
)
def test_what_does_not_fit_is_told_with_its_place(text: str, offset: int, message: str) -> None:
    error = failure(text)

    assert message in str(error)
    assert error.offset == offset


def test_messages_name_paths_and_shapes_but_no_value() -> None:
    canary = "canary-7f3a"
    data = {"a": canary, "b": [canary], "n": 73_211}
    scope = Scope(input=data, previous=data, item=canary, secrets={"K": canary})
    wrong = [
        "input.a + 1", "input.a.x", "input[input.a]", "input.b[input.n]", "int(input.a)",
        "float(input.a)", "duration(input.a)", "now(input.a)", "sum(input.b)", "input.n / 0",
        "input.a < 1", "round(input.a)", "-secrets.K", "secrets.K.x", "{secrets.K: 1}.x",
        "[d.x for d in [{secrets.K: 1}]]", "input[secrets.K]", "duration(input.a, item)",
        "input.n * 9223372036854775807", "join([input.n], input.a)", "split(item, input.n)",
    ]  # fmt: skip

    for text in wrong:
        message = str(failure(text, scope))
        assert canary not in message
        assert "73211" not in message


def test_many_keys_are_listed_in_part() -> None:
    error = failure("input.x", Scope(input={f"k{i}" * 40: i for i in range(50)}))

    assert len(str(error)) < 600
    assert str(error).endswith(", ...")


def test_odd_keys_do_not_break_the_line_of_a_message() -> None:
    assert str(failure("input.x", Scope(input={"a\nb": 1}))).endswith(r"it has: 'a\nb'")


def test_what_is_not_json_does_not_become_text() -> None:
    for odd in (float("nan"), [datetime(2026, 1, 1, tzinfo=UTC)]):
        assert "JSON" in str(failure("str(input)", Scope(input=odd)))


def test_references_are_told_with_their_places() -> None:
    text = 'tasks.fetch.data.n + tasks["my task"].iteration > index and "x" in tasks or secrets.K'
    expression = parse_expression(text)

    assert expression.references == (
        Reference("fetch", "data", 0),
        Reference("my task", "iteration", 21),
        Reference(None, "index", text.index("index")),
        Reference("x", "finished", text.index('"x"')),
        Reference(None, "secrets", text.index("secrets"), "K"),
    )
    assert expression.task_names == {"fetch", "my task", "x"}
    assert expression.names == {"tasks", "index", "secrets"}


def test_offsets_count_characters_also_behind_wide_letters() -> None:
    assert parse_expression("'ü€😀' + input.x").references[0].offset == 8
    assert failure("'ü€😀' + input.x").offset == 8


def test_a_variable_is_no_reference() -> None:
    assert parse_expression("[x.id for x in item]").names == {"item"}


def test_a_condition_gives_true_or_false_and_nothing_else() -> None:
    assert parse_expression("input.n > 2").evaluate_bool(SCOPE) is True
    assert parse_expression("input.n > 3").evaluate_bool(SCOPE) is False
    for text, shape in [("input.n", "number"), ("input.rows", "list"), ("null", "null")]:
        with pytest.raises(ExpressionError, match=f"must give true or false, and gives {shape}"):
            parse_expression(text).evaluate_bool(SCOPE)


def test_an_evaluation_without_a_time_knows_no_now() -> None:
    assert "not known" in str(failure("now()", replace(SCOPE, now=None)))


def test_evaluating_changes_nothing_that_it_is_given() -> None:
    data = {"rows": [3, 1, 2], "o": {"a": 1}}
    scope = Scope(input=data)

    for text in ["sorted(input.rows)", "input.rows + [1]", "input.rows * 2", "keys(input.o)"]:
        parse_expression(text).evaluate(scope)

    assert data == {"rows": [3, 1, 2], "o": {"a": 1}}


def test_one_expression_serves_many_scopes_in_turn() -> None:
    expression = parse_expression("[x * index for x in input]")

    assert expression.evaluate(Scope(input=[1, 2], index=2)) == [2, 4]
    assert expression.evaluate(Scope(input=[3], index=3)) == [9]


def test_a_short_condition_takes_less_than_two_microseconds() -> None:
    expression = parse_expression("input.n + 1 > 3")
    # Processor time, and the best of many: neighbours on the machine do not count.
    runs = timeit.repeat(
        lambda: expression.evaluate(SCOPE), timer=time.process_time, number=2_000, repeat=20
    )

    limit = 2e-6 if sys.gettrace() is None else 40e-6
    assert min(runs) / 2_000 < limit


def test_the_manual_tells_every_function_name_and_limit() -> None:
    manual = (Path(__file__).parents[2] / "docs" / "expressions.md").read_text(encoding="utf-8")

    assert [name for name in FUNCTIONS if f"`{name}(" not in manual] == []
    assert [name for name in ROOTS if f"`{name}" not in manual] == []
    limits = [MAX_TEXT, MAX_TOKENS, MAX_NESTING, MAX_EXPRESSIONS, MAX_EXPRESSION_TEXT]
    limits += [MAX_STEPS, MAX_SIZE]
    assert f"{MAX_LOOPS} `for`" in manual
    assert [limit for limit in limits if f"{limit:,}" not in manual] == []
