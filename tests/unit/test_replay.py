"""Which results of a run its rerun keeps."""

import random
from typing import Any

import pytest

from shared.definition import FlowDefinition
from shared.graph import Graph, build_graph
from shared.replay import (
    Past,
    PastVisit,
    Point,
    Replay,
    changed_tasks,
    is_replayed,
    plan_replay,
    read_origins,
)
from shared.status import Reason, TaskRunStatus

SUCCESS, FAILED, CANCELLED = TaskRunStatus.SUCCESS, TaskRunStatus.FAILED, TaskRunStatus.CANCELLED


def _definition(**following: Any) -> FlowDefinition:
    """Tasks, each with the tasks that follow a success."""
    return FlowDefinition.model_validate(
        {
            "id": "f",
            "start_task": next(iter(following)),
            "tasks": [{"name": name} for name in following],
            "conditions": [
                {"source_task": name, "target_task_success": targets}
                for name, targets in following.items()
                if targets
            ],
        }
    )


def _graph(**following: Any) -> Graph:
    return build_graph(_definition(**following))


def _visit(
    name: str,
    *origins: str,
    status: TaskRunStatus = SUCCESS,
    raised: bool = False,
    reason: str | None = None,
    path: str = "main",
) -> PastVisit:
    """The visit ``task`` or, in a loop, ``task2``: its name is the id of its task run, too."""
    task = name.rstrip("0123456789")
    iteration = int(name[len(task) :] or 1)
    return PastVisit(name, task, iteration, path, frozenset(origins), status, reason, raised)


def _plan(
    graph: Graph,
    *visits: PastVisit,
    task: str | None = None,
    changed: tuple[str, ...] = (),
    undone: tuple[str, ...] = (),
    is_completed: bool = True,
) -> Replay:
    passed = frozenset(origin for visit in visits for origin in visit.origins)
    past = Past(visits, passed, frozenset(undone), is_completed)
    return plan_replay(past, Point(task), changed, graph)


def _whole(replay: Replay) -> set[str]:
    return {kept.task_run_id for kept in replay.kept.values() if kept.whole}


CHAIN = _graph(a="b", b="c", c=None)
FORK = _graph(split=["l", "r"], l="meet", r="meet", meet=None)
LOOP = _graph(begin="poll", poll="look", look=["poll", "done"], done=None)


def test_a_visit_is_kept_only_for_what_it_came_from() -> None:
    replay = _plan(CHAIN, _visit("a"), _visit("b", "a"), _visit("c", "b"))
    assert replay.of("b", frozenset({"a"})) is not None
    for others in (frozenset[str](), frozenset({"c"}), frozenset({"a", "c"})):
        assert replay.of("b", others) is None


def test_origins_are_known_only_where_all_of_them_were_kept() -> None:
    assert read_origins([]) == frozenset()
    assert read_origins(["kept:x", "kept:y"]) == frozenset({"x", "y"})
    for reasons in ([None], ["kept:x", None], ["raised"], ["kept:x", "returned_failure"]):
        assert read_origins(reasons) is None


@pytest.mark.parametrize(
    ("last", "task", "is_completed", "kept"),
    [
        (_visit("c", "b"), None, True, {"a", "b", "c"}),
        (_visit("c", "b", status=FAILED), None, True, {"a", "b"}),
        # A failure that ended its branch is a result, where another point was named.
        (_visit("c", "b", status=FAILED), "other", True, {"a", "b", "c"}),
        (_visit("c", "b", status=FAILED), "other", False, {"a", "b"}),
        (_visit("c", "b", status=FAILED, raised=True), "other", True, {"a", "b"}),
        (_visit("c", "b", status=CANCELLED), None, False, {"a", "b"}),
        (_visit("c", "b"), "b", True, {"a", "c"}),
        (_visit("c", "b", reason=Reason.RUN_FINISHED), None, True, {"a", "b"}),
        (_visit("c", "b", reason=Reason.CANCELLED_OTHERS), None, True, {"a", "b"}),
        (_visit("c", "b", reason="kept:x"), None, True, {"a", "b", "c"}),
    ],
)
def test_what_ended_badly_is_not_kept(
    last: PastVisit, task: str | None, is_completed: bool, kept: set[str]
) -> None:
    replay = _plan(CHAIN, _visit("a"), _visit("b", "a"), last, task=task, is_completed=is_completed)
    assert _whole(replay) == kept


def test_a_failure_from_which_a_branch_went_on_is_kept() -> None:
    failed = _visit("b", "a", status=FAILED, raised=True)
    assert _whole(_plan(CHAIN, _visit("a"), failed, _visit("c", "b"))) == {"a", "b", "c"}


def test_a_join_that_a_point_missed_is_not_kept() -> None:
    visits = [
        _visit("split"),
        _visit("l", "split"),
        _visit("r", "split", status=FAILED),
        _visit("meet", "l"),
    ]
    assert _whole(_plan(FORK, *visits)) == {"split", "l"}
    # It failed for good where nothing asks for it to be run again.
    assert _whole(_plan(FORK, *visits, task="split")) == {"l", "r"}


def test_a_join_of_an_earlier_round_is_kept() -> None:
    graph = _graph(split=["l", "r"], l="meet", r="meet", meet=["split", "end_"], end_=None)
    first = [_visit("split"), _visit("l", "split"), _visit("r", "split"), _visit("meet", "l", "r")]
    second = [
        _visit("split2", "meet"),
        _visit("l2", "split2"),
        _visit("r2", "split2", status=FAILED),
        _visit("meet2", "l2"),
    ]
    replay = _plan(graph, *first, *second)
    assert _whole(replay) == {"split", "l", "r", "meet", "split2", "l2"}


def test_in_a_loop_the_first_visit_of_the_point_counts() -> None:
    visits = [
        _visit("begin"),
        _visit("poll", "begin"),
        _visit("look", "poll"),
        _visit("poll2", "look"),
        _visit("look2", "poll2"),
        _visit("done", "look2"),
    ]
    # What comes after it has other origins by then.
    assert _whole(_plan(LOOP, *visits, task="look")) == {"begin", "poll", "poll2", "done"}


def test_what_was_undone_is_not_kept_and_what_undid_it_neither() -> None:
    undoing = _visit("c", "b", path="ending/undo:b")
    replay = _plan(CHAIN, _visit("a"), _visit("b", "a"), undoing, undone=("b",))
    assert _whole(replay) == {"a"}
    assert replay.of("c", frozenset({"b"})) is None
    assert not is_replayed(undoing.path)
    assert all(is_replayed(path) for path in ("main", "main/split:ending", "main/a:b[2]"))


@pytest.mark.parametrize(
    ("task", "changed", "undone", "items"),
    [(None, (), (), True), ("b", (), (), False), (None, ("b",), (), False), (None, (), "b", False)],
)
def test_items_are_kept_where_only_the_list_has_to_be_gone_through_again(
    task: str | None, changed: tuple[str, ...], undone: str, items: bool
) -> None:
    failed = _visit("b", "a", status=FAILED)
    replay = _plan(CHAIN, _visit("a"), failed, task=task, changed=changed, undone=tuple(undone))
    kept = replay.of("b", frozenset({"a"}))
    assert kept is not None
    assert (kept.whole, kept.items) == (False, items)


def test_a_task_changed_that_does_something_else() -> None:
    def tasks(**fields: Any) -> FlowDefinition:
        task = {"name": "a", "type": "t", "params": {"x": 1}, **fields}
        return FlowDefinition.model_validate({"id": "f", "start_task": "a", "tasks": [task]})

    same = {"description": "d", "timeout": 3, "retry": 2, "tolerate": 1, "queue": "q"}
    assert changed_tasks(tasks(), tasks(**same)) == frozenset()
    for other in ({"type": "u"}, {"params": {"x": 2}}, {"for_each": "[1]"}):
        assert changed_tasks(tasks(), tasks(**other)) == {"a"}
    assert changed_tasks(_definition(a=None), _definition(b="a", a=None)) == frozenset()


def test_a_long_loop_and_a_wide_fan_are_judged_quickly() -> None:
    rounds, width = 3_000, 3_000
    graph = _graph(begin="poll", poll=["begin", "head"], head="meet", meet=None)
    visits = [_visit("begin"), _visit("poll", "begin")]
    for number in range(2, rounds):
        visits.append(_visit(f"begin{number}", visits[-1].task_run_id))
        visits.append(_visit(f"poll{number}", visits[-1].task_run_id))
    last = visits[-1].task_run_id
    visits += [_visit(f"head{n}", last, status=FAILED) for n in range(2, width)]
    random.Random(7).shuffle(visits)
    replay = _plan(graph, *visits)
    assert len(_whole(replay)) == 2 * (rounds - 1)
