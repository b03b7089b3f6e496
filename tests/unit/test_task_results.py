"""What a task may return, and how what it may not is told."""

import enum
import uuid
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel

from shared.errors import InvalidTaskResult, LimitExceeded
from shared.task_results import Returned, Suspension, encode_data, read_result
from shared.tasks import Suspend, TaskResult

LIMIT = 1_000_000


class Colour(enum.Enum):
    RED = "red"


class Weird(enum.Enum):
    NOT_A_NUMBER = float("nan")


@dataclass
class Row:
    x: int


class Picture(BaseModel):
    width: int
    taken: datetime


@pytest.mark.parametrize(
    ("returned", "success", "data"),
    [
        ({"success": True, "data": {"x": 1}}, True, b'{"x":1}'),
        ({"success": False, "data": {"x": 1}}, False, b'{"x":1}'),
        ({"success": True}, True, b"{}"),
        ({"success": True, "data": None}, True, b"null"),
        ({"success": True, "data": [1, "a", None]}, True, b'[1,"a",null]'),
        (TaskResult(success=False, data="text"), False, b'"text"'),
        (TaskResult(success=True), True, b"{}"),
        (None, True, b"{}"),
        (True, True, b"{}"),
        (False, False, b"{}"),
    ],
)
def test_result_is_read(returned: object, success: bool, data: bytes) -> None:
    assert read_result(returned, LIMIT) == Returned(success, data)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ({"rows": 3}, 'the returned dict has no "success"'),
        ({}, 'the returned dict has no "success"'),
        ({"success": 1}, "success must be True or False, not int"),
        ({"success": "yes", "data": {}}, "success must be True or False, not str"),
        (TaskResult(success=None), "success must be True or False, not NoneType"),  # type: ignore[arg-type]  # what is tested
        ({"success": True, "rows": 3}, r"holds 'rows'; only \"success\" and \"data\" are kept"),
        (3, r"run\(\) returned int"),
        ([True], r"run\(\) returned list"),
        (object, r"run\(\) returned type"),
    ],
)
def test_other_shapes_are_refused(returned: object, message: str) -> None:
    with pytest.raises(InvalidTaskResult, match=message):
        read_result(returned, LIMIT)


def test_coroutine_is_refused_and_closed() -> None:
    async def forgotten() -> None: ...

    with pytest.raises(InvalidTaskResult, match="returned a coroutine"):
        read_result(forgotten(), LIMIT)


def test_suspend_gives_the_time_to_wake_in_utc() -> None:
    east = timezone(timedelta(hours=2))
    until = Suspend(until=datetime(2030, 1, 1, 2, tzinfo=east))
    assert read_result(until, LIMIT) == Suspension(datetime(2030, 1, 1, tzinfo=UTC))
    found = read_result(Suspend(seconds=60), LIMIT)
    assert isinstance(found, Suspension)
    assert found.wake_at is not None
    assert timedelta(seconds=50) < found.wake_at - datetime.now(UTC) <= timedelta(seconds=60)


def test_suspend_names_the_signal_that_ends_it() -> None:
    assert read_result(Suspend(signal="paid"), LIMIT) == Suspension(None, "paid")


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


def cyclic() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"rows": [{}, {}, {}, {"when": datetime(2030, 1, 1, tzinfo=UTC)}]},
            "data.rows[3].when: datetime is not JSON",
        ),
        ({"a": {"b": date(2030, 1, 1)}}, "data.a.b: date is not JSON"),
        ({"price": Decimal(1)}, "data.price: Decimal is not JSON"),
        ({"ids": {1, 2}}, "data.ids: set is not JSON"),
        ({"raw": b"x"}, "data.raw: bytes is not JSON"),
        ({"row": Row(1)}, "data.row: Row is not JSON"),
        ({"p": Picture(width=1, taken=datetime(2030, 1, 1, tzinfo=UTC))}, "data.p: Picture is not"),
        ({"odd key": object()}, "data['odd key']: object is not JSON"),
        ({"x": float("nan")}, "data.x: nan is not JSON"),
        ({"x": [1.0, float("-inf")]}, "data.x[1]: -inf is not JSON"),
        ({"x": None, "y": float("inf")}, "data.y: inf is not JSON"),
        ({"x": Weird.NOT_A_NUMBER}, "data.x: nan is not JSON"),
        ({"x": {1: "a"}}, "data.x: the key 1 is int, not a text"),
        ({None: "a"}, "data: the key None is NoneType, not a text"),
        ({"n": 2**64}, "data.n: the number is beyond 64 bits"),
        ({"n": -(2**63) - 1}, "data.n: the number is beyond 64 bits"),
        ({"t": "a\x00b"}, "data.t: the text holds NUL"),
        ({"a\x00b": 1}, "data: the key 'a\\x00b' holds NUL"),
        ({"t": "\ud800"}, "data.t: the text holds half of a surrogate pair"),
        ({"\ud800": 1}, "data: the key '\\ud800' holds half of a surrogate pair"),
        (nested(300), "nested deeper than 200 levels"),
        (cyclic(), "nested deeper than 200 levels"),
    ],
)
def test_what_is_not_json_is_refused_with_the_path(data: Any, message: str) -> None:
    with pytest.raises(InvalidTaskResult) as caught:
        encode_data(data, LIMIT)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 400


def test_what_can_be_written_without_loss_is_accepted() -> None:
    counts: defaultdict[str, int] = defaultdict(int, a=1)
    key = uuid.UUID(int=7)
    data = {"t": (1, 2), "c": counts, "u": key, "e": Colour.RED, "n": None, "s": "null \\u0000"}
    assert encode_data(data, LIMIT) == (
        b'{"t":[1,2],"c":{"a":1},"u":"00000000-0000-0000-0000-000000000007","e":"red","n":null,'
        b'"s":"null \\\\u0000"}'
    )


def test_pydantic_model_is_accepted_as_data() -> None:
    picture = Picture(width=3, taken=datetime(2030, 1, 1, tzinfo=UTC))
    assert encode_data(picture, LIMIT) == b'{"width":3,"taken":"2030-01-01T00:00:00Z"}'


def test_too_large_data_is_refused_with_limit_and_size() -> None:
    with pytest.raises(LimitExceeded, match=r"data is 1002 bytes .* max_result_bytes \(1000\)"):
        encode_data("x" * 1000, 1000)
    assert len(encode_data("x" * 998, 1000)) == 1000
