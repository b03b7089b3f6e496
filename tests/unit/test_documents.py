"""Reading JSON strictly: what is refused, and where it says so."""

import contextlib
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from shared.documents import escape, locate, parse_document
from shared.errors import InvalidDocument

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


def _parse(body: bytes) -> JsonValue:
    return parse_document(body, max_depth=100, max_bytes=10_000_000)


@pytest.mark.parametrize(
    ("body", "line", "column"),
    [
        (b"", 1, 1),
        (b"  \n ", 1, 1),
        (b"{", 1, None),
        (b'{"a": tru}', 1, None),
        (b'{\n "a": 1,\n}', 3, None),
        (b"[1, NaN]", 1, None),
        (b"[Infinity]", 1, None),
        (b"[-Infinity]", 1, None),
        (b"[1e400]", 1, 2),
        (b'{"a":' + b"9" * 5_000 + b"}", 1, None),
        (b"[12345678901234567890123]", 1, 2),
        (b'{"a": 1,\n "a": 2}', 2, None),
        (b'"\xff"', 1, None),
        ('{"flow": {}}'.encode("utf-16"), 1, 1),
        ('{"flow": {}}'.encode("utf-16-le"), 1, 1),
        ('{"flow": {}}'.encode("utf-8-sig"), 1, 1),
        (b'"\\ud800"', 1, None),
        (b'["x\\u0000"]', 1, 2),
        (b'{"a\\u0000": 1}', 1, 1),
        (b"[" * 100_000, 1, None),
        (b"[1] x", 1, None),
        (b"[1,]", 1, None),
        (b"{'a': 1}", 1, None),
    ],
)
def test_what_is_not_plain_json_is_refused_with_its_place(
    body: bytes, line: int, column: int | None
) -> None:
    with pytest.raises(InvalidDocument) as caught:
        _parse(body)
    assert caught.value.line == line
    if column is None:
        assert caught.value.column is not None
        assert caught.value.column >= 1
    else:
        assert caught.value.column == column


def test_nesting_up_to_the_limit_is_read_and_beyond_it_refused() -> None:
    assert _parse(b"[" * 99 + b"]" * 99)
    with pytest.raises(InvalidDocument, match="deeper than 100"):
        _parse(b"[" * 102 + b"]" * 102)


def test_a_document_over_the_limit_is_refused() -> None:
    with pytest.raises(InvalidDocument, match="at most 10"):
        parse_document(b"[1, 2, 3, 4, 5]", max_depth=10, max_bytes=10)


def test_the_column_counts_characters() -> None:
    with pytest.raises(InvalidDocument) as caught:
        _parse('{"éééé": tru}'.encode())
    assert caught.value.column is not None
    assert 9 < caught.value.column <= 13


def test_the_input_is_not_echoed() -> None:
    secret = "hunter2" * 100
    with pytest.raises(InvalidDocument) as caught:
        _parse(f'{{"{secret}": 1, "{secret}": 2}}'.encode())
    assert len(caught.value.message) < 100


def test_ten_thousand_tasks_are_read_in_a_moment() -> None:
    body = json.dumps([{"name": f"task {n}", "description": "x" * 50} for n in range(10_000)])
    before = time.perf_counter()
    _parse(body.encode())
    assert time.perf_counter() - before < 0.5


@given(JSON)
def test_plain_json_is_read_as_it_is(value: JsonValue) -> None:
    assert _parse(json.dumps(value).encode()) == value


@given(st.binary(max_size=60))
def test_no_bytes_raise_anything_else(body: bytes) -> None:
    with contextlib.suppress(InvalidDocument):
        _parse(body)


@given(JSON, st.sampled_from([None, 0, 3]))
def test_every_value_is_located(value: JsonValue, indent: int | None) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    lines = text.split("\n")
    for pointer, inner in _walk(value):
        place = locate(text.encode(), pointer)
        assert place is not None
        line, column = place
        rest = "\n".join([lines[line - 1][column - 1 :], *lines[line:]])
        assert json.JSONDecoder().raw_decode(rest)[0] == inner


def test_what_is_not_there_has_no_place() -> None:
    assert locate(b'{"a": [1]}', "/b") is None
    assert locate(b'{"a": [1]}', "/a/1") is None
    assert locate(b'{"a": [1]}', "/a/0/c") is None


def _walk(value: JsonValue, pointer: str = "") -> list[tuple[str, JsonValue]]:
    found = [(pointer, value)]
    if isinstance(value, dict):
        for key, inner in value.items():
            found += _walk(inner, f"{pointer}/{escape(key)}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            found += _walk(inner, f"{pointer}/{index}")
    return found
