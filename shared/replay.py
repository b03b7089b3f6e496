"""Which results of one run another one keeps: the rules of a rerun, as values.

A rerun starts where every run starts and is driven by the same decider. The only difference:
before a visit is made, its worker asks whether the *source*, the run that is run again, has made
it already. If so, its result is recorded at once and the run goes on from there. So conditions,
joins and lists follow the one engine, also where the definition was corrected in between.

Theory of operation
-------------------
Two runs have no visit in common by its number: in a loop, or where branches go on side by side,
the second visit of a task need not be the second again. What identifies a visit is its task and
*what it came from*: the visit before it, at a join the visits of all that met there. A visit of
the rerun is the visit of the source whose task is the same and whose origins are those whose
results the rerun has kept. It follows that whatever comes after something that was done anew is
done anew as well, and that a result is only kept for what it was made from.

Some visits are *points*, from which on everything is done anew:

* those of the task that was named, or that ended their branch, or the run, badly;
* those of a task that the corrected definition runs otherwise;
* those that were undone since.

A join comes after a point, too, if the point missed it: what failed the last time may arrive the
next time, and expressions read it either way.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from shared.definition import FlowDefinition, TaskDefinition
from shared.graph import Graph
from shared.paths import is_ending
from shared.status import Reason, TaskRunStatus

KEPT_MARK = f"{Reason.KEPT}:"
"""What the reason of a task run begins with whose result was kept; the task run of the source
follows."""

Origins = frozenset[str]
"""The task runs that a visit came from; none of a run's first."""
_Key = tuple[str, Origins]

_RULED = frozenset({Reason.RUN_FINISHED.value, Reason.CANCELLED_OTHERS.value})
"""Why a task run did more than give a result: it stopped others, which a result does not."""


_MAX_BITS = 2_000_000_000
"""Visits times points: what may be spent to tell which joins of a loop came before a point."""


@dataclass(frozen=True, slots=True)
class Point:
    """From where on a run is run again."""

    task: str | None = None
    """From the visits of this task; None: from what ended badly."""


class PastVisit(NamedTuple):
    """A visit of the source, as its last attempt left it."""

    task_run_id: str
    task: str
    iteration: int
    path: str
    origins: Origins
    status: TaskRunStatus
    reason: str | None
    raised: bool


@dataclass(frozen=True, slots=True)
class Past:
    """What a run did, once it is over."""

    visits: Sequence[PastVisit]
    """Without the items of lists."""
    passed: frozenset[str]
    """The task runs from which a branch went on."""
    undone: frozenset[str]
    """The task runs that a compensation undid: items of lists, too, and then their visit."""
    is_completed: bool


@dataclass(frozen=True, slots=True)
class Kept:
    """What a rerun keeps of one visit of its source."""

    task_run_id: str
    iteration: int
    whole: bool
    """Its result. Otherwise it is visited anew."""
    items: bool
    """Where it is visited anew: of its list, what succeeded."""


@dataclass(frozen=True, slots=True)
class Replay:
    """What a rerun keeps of its source."""

    kept: Mapping[_Key, Kept] = field(default_factory=dict)
    undone: frozenset[str] = frozenset()

    def of(self, task: str, origins: Origins) -> Kept | None:
        """What is kept for a visit of ``task`` that came from these task runs of the source."""
        return self.kept.get((task, origins))

    @property
    def weight(self) -> int:
        """What it costs to remember, in visits."""
        return len(self.kept) + len(self.undone) + 1


def read_origins(reasons: Iterable[str | None]) -> Origins | None:
    """The task runs of the source whose results were kept for these, given their reasons; None
    where one of them was done anew."""
    found = list(reasons)
    if not all(reason is not None and reason.startswith(KEPT_MARK) for reason in found):
        return None
    return frozenset(str(reason).removeprefix(KEPT_MARK) for reason in found)


def is_replayed(path: str) -> bool:
    """Whether a visit on this branch may be one that the source has made."""
    return not is_ending(path)


def may_keep(status: TaskRunStatus, reason: str | None) -> bool:
    """Whether a task run came to a result, and to nothing else."""
    return status in (TaskRunStatus.SUCCESS, TaskRunStatus.FAILED) and reason not in _RULED


def changed_tasks(before: FlowDefinition, after: FlowDefinition) -> frozenset[str]:
    """The tasks that do not do the same any more.

    How often, how long and where they run may change: their results stay what they were.
    """
    earlier = {task.name: _work(task) for task in before.tasks}
    return frozenset(
        task.name for task in after.tasks if earlier.get(task.name, _work(task)) != _work(task)
    )


def _work(task: TaskDefinition) -> tuple[object, ...]:
    return (task.task_type, task.params or {}, task.for_each)


def plan_replay(past: Past, point: Point, changed: Collection[str], graph: Graph) -> Replay:
    """What a run of ``graph`` keeps of ``past`` from ``point`` on."""
    visits = [visit for visit in past.visits if is_replayed(visit.path)]
    points = [v for v in visits if _is_point(v, past, point, changed)]
    behind = _Behind(visits, points, graph)
    kept: dict[_Key, Kept] = {}
    for visit in visits:
        is_behind = behind.holds(visit)
        own = visit.task == point.task or visit.task in changed
        result = may_keep(visit.status, visit.reason)
        kept[visit.task, visit.origins] = Kept(
            task_run_id=visit.task_run_id,
            iteration=visit.iteration,
            whole=result and not is_behind and visit.task_run_id not in behind.points,
            items=not is_behind and not own and visit.task_run_id not in past.undone,
        )
    return Replay(kept, past.undone)


def _is_point(visit: PastVisit, past: Past, point: Point, changed: Collection[str]) -> bool:
    if visit.task == point.task or visit.task in changed or visit.task_run_id in past.undone:
        return True
    if visit.status is not TaskRunStatus.FAILED or visit.task_run_id in past.passed:
        return False
    # Nobody went on from it: it ended its branch or, where nobody handled it, the run.
    return point.task is None or visit.raised or not past.is_completed


class _Behind:
    """Tells the joins that come after a point although nothing of the point arrived there."""

    def __init__(
        self, visits: Sequence[PastVisit], points: Sequence[PastVisit], graph: Graph
    ) -> None:
        self.points = frozenset(point.task_run_id for point in points)
        self._graph = graph
        firsts, self._after = list(points), dict[str, int]()
        if graph.may_revisit:
            firsts, self._after = _order(visits, self.points)
        self._reach: dict[int, int] = {}
        for place, first in enumerate(firsts):
            reach = self._reach_of(first.task)
            self._reach[reach] = self._reach.get(reach, 0) | 1 << place

    def holds(self, visit: PastVisit) -> bool:
        """Whether ``visit`` is of a join, and some point could have arrived there."""
        number = self._graph.numbers.get(visit.task)
        bit = 0 if number is None else self._graph.bits[number]
        # In a loop the join may have come before the point, the last time round.
        later = self._after.get(visit.task_run_id, 0)
        return any(reach & bit and points & ~later for reach, points in self._reach.items())

    def _reach_of(self, task: str) -> int:
        number = self._graph.numbers.get(task)
        return 0 if number is None else self._graph.reach[number]


def _order(
    visits: Sequence[PastVisit], points: Collection[str]
) -> tuple[list[PastVisit], dict[str, int]]:
    """The points that come after no other, and for each visit those of them that come after it,
    a bit each."""
    following: dict[str, list[PastVisit]] = {}
    for visit in visits:
        for origin in visit.origins:
            following.setdefault(origin, []).append(visit)
    ordered = _by_cause(visits, following)
    anew: set[str] = set()
    places: dict[str, int] = {}
    firsts: list[PastVisit] = []
    for visit in ordered:
        if visit.task_run_id in points and not visit.origins & anew:
            places[visit.task_run_id] = 1 << len(firsts)
            firsts.append(visit)
        if visit.task_run_id in points or visit.origins & anew:
            anew.add(visit.task_run_id)
    after: dict[str, int] = {}
    # Beyond it every join that a point can reach counts as coming after it.
    if len(firsts) * len(visits) <= _MAX_BITS:
        for visit in reversed(ordered):
            after[visit.task_run_id] = places.get(visit.task_run_id, 0)
            for successor in following.get(visit.task_run_id, ()):
                after[visit.task_run_id] |= after[successor.task_run_id]
    return firsts, after


def _by_cause(
    visits: Sequence[PastVisit], following: Mapping[str, Sequence[PastVisit]]
) -> list[PastVisit]:
    """The visits, each behind what it came from."""
    known = {visit.task_run_id for visit in visits}
    missing = {visit.task_run_id: len(visit.origins & known) for visit in visits}
    ordered = [visit for visit in visits if not missing[visit.task_run_id]]
    for visit in ordered:
        for successor in following.get(visit.task_run_id, ()):
            missing[successor.task_run_id] -= 1
            if not missing[successor.task_run_id]:
                ordered.append(successor)
    return ordered
