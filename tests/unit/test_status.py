"""The tables of states: every state has its moves, and what is final stays so."""

from collections.abc import Mapping
from enum import StrEnum

import pytest

from shared.status import (
    BRANCH_MOVES,
    RUN_MOVES,
    TASK_RUN_MOVES,
    BranchState,
    RunStatus,
    TaskRunStatus,
    is_terminal,
)

Moves = Mapping[StrEnum, frozenset[StrEnum]]

TABLES = [
    pytest.param(RunStatus, RUN_MOVES, id="run"),
    pytest.param(TaskRunStatus, TASK_RUN_MOVES, id="task_run"),
    pytest.param(BranchState, BRANCH_MOVES, id="branch"),
]


@pytest.mark.parametrize(("states", "moves"), TABLES)
def test_every_state_has_its_moves_and_none_leads_to_itself(
    states: type[StrEnum], moves: Moves
) -> None:
    assert set(moves) == set(states)
    assert all(state not in following for state, following in moves.items())


@pytest.mark.parametrize(("states", "moves"), TABLES)
def test_every_state_leads_to_a_final_one(states: type[StrEnum], moves: Moves) -> None:
    final = {state for state in states if not moves[state]}
    for state in states:
        reached, pending = {state}, [state]
        while pending:
            for following in moves[pending.pop()] - reached:
                reached.add(following)
                pending.append(following)
        assert reached & final


def test_the_final_states_are_those_that_are_promised() -> None:
    assert {status for status in RunStatus if is_terminal(status)} == {
        RunStatus.COMPLETED,
        RunStatus.FAILED,
        RunStatus.CANCELLED,
    }
    assert {status for status in TaskRunStatus if is_terminal(status)} == {
        TaskRunStatus.SUCCESS,
        TaskRunStatus.FAILED,
        TaskRunStatus.CANCELLED,
    }
    assert [state for state in BranchState if not BRANCH_MOVES[state]] == [BranchState.DONE]


def test_only_a_waiting_task_run_comes_back_to_running() -> None:
    sources = [s for s, following in TASK_RUN_MOVES.items() if TaskRunStatus.RUNNING in following]
    assert sources == [TaskRunStatus.WAITING]
