"""What is undone, in which order, and what a run comes to by that."""

import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.definition import FlowDefinition
from shared.status import Outcome, RunStatus
from shared.undoing import (
    FAILURES_KEPT,
    Ending,
    Succeeded,
    Told,
    Undoing,
    parse_ending,
    plan,
    read_undoing,
)

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
BOOM: Told = {"type": "ValueError", "message": "boom", "traceback": "Traceback ..."}


def _undoing(*tasks: dict[str, object], last: str | None = None) -> Undoing | None:
    return read_undoing(
        FlowDefinition.model_validate(
            {"id": "f", "start_task": "a", "tasks": list(tasks), "finally": last}
        )
    )


SAGA = _undoing(
    {"name": "a", "compensate": "undo"},
    {"name": "list", "compensate": "undo", "for_each": "input"},
    {"name": "plain"},
    {"name": "undo"},
) or pytest.fail("it says something")


def _done(
    task: str, *, position: int = 0, seconds: int = 0, item: int | None = None, id: str = "x"
) -> Succeeded:
    return Succeeded(id, task, 1, item, position, AT + timedelta(seconds=seconds))


def test_a_definition_that_says_nothing_about_endings_costs_nothing() -> None:
    assert _undoing({"name": "a"}) is None


def test_a_last_task_alone_undoes_nothing() -> None:
    undoing = _undoing({"name": "a"}, {"name": "tidy"}, last="tidy")
    assert undoing is not None
    assert (undoing.last, set(undoing.tasks)) == ("tidy", {"tidy"})
    assert plan(undoing, [_done("a")]) == []


def test_what_followed_from_something_is_undone_before_it_whatever_the_clocks_say() -> None:
    first, second = _done("a", position=1, seconds=60), _done("a", position=2)
    assert [done for _, done in plan(SAGA, [first, second])] == [second, first]


def test_what_happened_side_by_side_is_undone_by_the_clock() -> None:
    early, late = _done("a", position=1), _done("a", position=1, seconds=1)
    assert [done for _, done in plan(SAGA, [late, early])] == [late, early]


def test_of_a_list_the_items_are_undone_and_not_the_list() -> None:
    whole, item = _done("list", position=9), _done("list", item=0)
    assert plan(SAGA, [whole, item]) == [("undo", item)]


@given(
    st.lists(
        st.builds(
            _done,
            st.sampled_from(["a", "list", "plain", "undo"]),
            position=st.integers(0, 5),
            seconds=st.integers(-3, 3),
            item=st.none() | st.integers(0, 3),
            id=st.uuids().map(str),
        ),
        max_size=12,
    ),
    st.randoms(use_true_random=False),
)
def test_the_plan_does_not_depend_on_the_order_in_which_rows_are_read(
    done: list[Succeeded], chance: random.Random
) -> None:
    shuffled = list(done)
    chance.shuffle(shuffled)
    assert plan(SAGA, shuffled) == plan(SAGA, done)


@pytest.mark.parametrize(
    ("ending", "undoes"),
    [
        (Ending(RunStatus.COMPLETED, Outcome.SUCCESS), False),
        (Ending(RunStatus.COMPLETED, Outcome.FAILURE), True),
        (Ending(RunStatus.FAILED, error=BOOM), True),
        (Ending(RunStatus.CANCELLED), True),
    ],
)
def test_what_did_not_end_well_is_undone(ending: Ending, undoes: bool) -> None:
    assert ending.undoes is undoes
    assert ending.concluded() == ending
    assert parse_ending(ending.to_json()) == ending


def test_failed_compensations_make_a_run_failed_and_keep_what_it_failed_of() -> None:
    ending = Ending(RunStatus.CANCELLED, planned=3).with_failure("undo", "a", BOOM)
    ending = ending.with_failure("undo", "b", BOOM).with_failure("tidy", None, BOOM)
    stored = parse_ending(ending.to_json())
    assert stored == ending
    over = stored.concluded()
    assert (over.status, over.outcome) == (RunStatus.FAILED, Outcome.FAILURE)
    assert over.error is not None
    assert over.error["message"] == (
        "2 of 3 compensations failed: undo (of a), undo (of b); the last task, tidy, failed as well"
    )
    assert over.error["cause"] is None
    assert over.error["traceback"] == BOOM["traceback"]


def test_an_error_names_so_many_compensations_and_counts_the_others() -> None:
    ending = Ending(RunStatus.FAILED, error=BOOM, planned=50)
    for number in range(FAILURES_KEPT + 5):
        ending = ending.with_failure("undo", f"t{number}", BOOM)
    error = ending.concluded().error
    assert error is not None
    assert str(error["message"]).startswith(f"{FAILURES_KEPT + 5} of 50 compensations failed")
    assert str(error["message"]).endswith("and 5 more")
    assert isinstance(error["failures"], list)
    assert len(error["failures"]) == FAILURES_KEPT
    assert error["cause"] == BOOM
    # One traceback is kept: the row does not grow with what goes wrong.
    assert ending.to_json().count(b"Traceback") == 2


def test_a_last_task_that_failed_changes_no_status_but_that_of_a_good_run() -> None:
    good = Ending(RunStatus.COMPLETED, Outcome.SUCCESS).with_failure("tidy", None, BOOM)
    cancelled = Ending(RunStatus.CANCELLED).with_failure("tidy", None, BOOM)
    failed = Ending(RunStatus.FAILED, error={**BOOM, "task": "a"}).with_failure("tidy", None, BOOM)
    for ending in (good, cancelled):
        error = ending.concluded().error
        assert error is not None
        assert (error["type"], error["task"]) == ("FinallyFailed", "tidy")
    assert good.concluded().status is RunStatus.FAILED
    assert cancelled.concluded().status is RunStatus.CANCELLED
    assert failed.concluded().error == {**BOOM, "task": "a"}
