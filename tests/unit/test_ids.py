"""Ids: the layout of RFC 9562, their order, and that no two are the same."""

import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.ids import is_id, new_id


def test_an_id_is_a_version_7_uuid_of_now() -> None:
    before = time.time_ns() // 1_000_000
    text = new_id()
    parsed = uuid.UUID(text)
    assert str(parsed) == text
    assert parsed.version == 7
    assert parsed.variant == uuid.RFC_4122
    # Ids made faster than the counter has room for may run ahead of the clock a little.
    assert before <= parsed.int >> 80 <= time.time_ns() // 1_000_000 + 1_000


def test_ids_of_one_process_sort_as_they_were_made() -> None:
    made = [new_id() for _ in range(5_000)]
    assert made == sorted(set(made))


def test_a_clock_that_goes_back_makes_no_id_that_sorts_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = new_id()
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000_000_000)
    second, third = new_id(), new_id()
    assert first < second < third


def test_threads_never_get_the_same_id() -> None:
    with ThreadPoolExecutor(8) as pool:
        batches = list(pool.map(lambda _: [new_id() for _ in range(2_000)], range(8)))
    assert len({text for batch in batches for text in batch}) == 16_000
    assert all(batch == sorted(batch) for batch in batches)


def test_every_id_has_the_form_of_one() -> None:
    assert all(is_id(new_id()) for _ in range(100))


GOOD = "0199a1b2-c3d4-7e5f-8a6b-7c8d9e0f1a2b"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "0" * 36,
        "-" * 36,
        GOOD.upper(),
        GOOD[:-1],
        GOOD + "0",
        GOOD.replace("-", "_"),
        GOOD[:-1] + "\u0663",
    ],
)
def test_what_has_another_form_is_no_id(text: str) -> None:
    assert not is_id(text)


@given(st.text(max_size=40))
def test_any_text_can_be_asked_about(text: str) -> None:
    if is_id(text):
        assert str(uuid.UUID(text)) == text
