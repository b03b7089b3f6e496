"""What a run in a test came to, in a form that assertions read well with."""

from collections.abc import Iterator, Mapping, Sequence

from shared.simulation import SimulatedRun, SimulatedTaskRun
from shared.status import Outcome, RunStatus, TaskRunStatus
from shared.task_context import Json

_MARKS = {
    TaskRunStatus.SUCCESS: "",
    TaskRunStatus.FAILED: " failed",
    TaskRunStatus.CANCELLED: " cancelled",
    TaskRunStatus.WAITING: " waits",
    TaskRunStatus.RUNNING: "",
}
_MOST_SHOWN = 30


class TaskRun:
    """One visit of a task, by its last attempt."""

    def __init__(self, attempts: Sequence[SimulatedTaskRun], items: "Sequence[TaskRun]") -> None:
        self._last = attempts[-1]
        self._attempts = tuple(attempts)
        self.items = tuple(items)
        """Of a task with ``for_each``: its items that began, in their order."""

    @property
    def name(self) -> str:
        """The task."""
        return self._last.name

    @property
    def status(self) -> TaskRunStatus:
        """``success``, ``failed``, ``cancelled`` or ``waiting``."""
        return self._last.status

    @property
    def success(self) -> bool | None:
        """What the task said; None where it raised, was stopped, or waits."""
        return self._last.success

    @property
    def reason(self) -> str | None:
        """Why it did not simply succeed."""
        return self._last.reason

    @property
    def params(self) -> Json:
        """Its params with their expressions filled in."""
        return self._last.params

    @property
    def data(self) -> Json:
        """What it returned."""
        return self._last.data

    @property
    def error(self) -> Json:
        """``{"type", "message", "traceback"}`` where it raised."""
        return self._last.error

    @property
    def branch(self) -> str:
        """The branch that made the visit."""
        return self._last.branch

    @property
    def iteration(self) -> int:
        """Which visit of the task it was."""
        return self._last.iteration

    @property
    def index(self) -> int | None:
        """The place of an item in its list."""
        return self._last.index

    @property
    def attempts(self) -> int:
        """How often it was tried."""
        return len(self._attempts)

    @property
    def errors(self) -> list[Json]:
        """What each attempt raised; None for one that did not."""
        return [attempt.error for attempt in self._attempts]

    @property
    def started_seconds(self) -> float:
        """When the first attempt began, by the clock of the run."""
        return self._attempts[0].started_seconds

    @property
    def finished_seconds(self) -> float | None:
        """When it was over, by the clock of the run."""
        return self._last.finished_seconds

    def __repr__(self) -> str:
        place = "" if self.index is None else f"[{self.index}]"
        visit = "" if self.iteration == 1 else f" (visit {self.iteration})"
        told = self.error and f": {self.error['type']}: {self.error['message']}"
        return (
            f"<{self.name}{place}{visit} {self.status.value}{told or ''} data={self.data!r:.200}>"
        )


class Tasks(Mapping[str, TaskRun]):
    """The last visit of each task that ran, by name."""

    def __init__(self, visits: Sequence[TaskRun]) -> None:
        self._last = {visit.name: visit for visit in visits}

    def __getitem__(self, name: str) -> TaskRun:
        if name not in self._last:
            raise KeyError(f"{name} did not run; these did: {', '.join(self._last)}")
        return self._last[name]

    def __contains__(self, name: object) -> bool:
        return name in self._last

    def __iter__(self) -> Iterator[str]:
        return iter(self._last)

    def __len__(self) -> int:
        return len(self._last)

    def __repr__(self) -> str:
        return repr(self._last)


class FlowRun:
    """What a run came to."""

    def __init__(self, run: SimulatedRun) -> None:
        self._run = run
        self.visits = _visits(run.task_runs)
        """Every visit, in the order in which they began."""
        self.tasks = Tasks(self.visits)
        """The last visit of each task that ran, by name."""

    @property
    def status(self) -> RunStatus:
        """``completed``, ``failed``, or ``running`` where it waits for what never comes."""
        return self._run.status

    @property
    def outcome(self) -> Outcome | None:
        """``success`` where every branch ended after one, else ``failure``; None while it waits."""
        return self._run.outcome

    @property
    def is_success(self) -> bool:
        """Whether it completed, and every branch ended after a success."""
        return self._run.outcome is Outcome.SUCCESS

    @property
    def path(self) -> list[str]:
        """The tasks in the order in which they were visited."""
        return self._run.path

    @property
    def output(self) -> Json:
        """What the run gives."""
        return self._run.output

    @property
    def error(self) -> Json:
        """``{"task", "type", "message", "traceback"}`` of a run that failed."""
        return self._run.error

    @property
    def seconds(self) -> float:
        """What it took, by its own clock: waits and delays between attempts."""
        return self._run.seconds

    @property
    def assumed(self) -> list[str]:
        """Tasks that ran although the test said nothing of them: they simply succeeded."""
        return list(self._run.assumed)

    @property
    def waits_for(self) -> list[str]:
        """The signals that it waits for and that the test did not send."""
        return [one.waits_for for one in self._run.task_runs if one.waits_for is not None]

    @property
    def attempts(self) -> tuple[SimulatedTaskRun, ...]:
        """Every attempt at every visit and item, in the order in which they began."""
        return self._run.task_runs

    def visits_of(self, name: str) -> list[TaskRun]:
        """All visits of a task, in their order."""
        return [visit for visit in self.visits if visit.name == name]

    def __repr__(self) -> str:
        shown = [f"{one.name}{_MARKS[one.status]}" for one in self.visits[:_MOST_SHOWN]]
        more = len(self.visits) - len(shown)
        way = " > ".join(shown) + (f" and {more} more" if more else "")
        came, error = self.status.value, self.error
        if self.status is RunStatus.COMPLETED and self.outcome is not None:
            came += f", {self.outcome.value}"
        if error:
            place = f" in {error['task']}" if error["task"] else ""
            came += f", {error['type']}{place}: {error['message']}"
        return f"<FlowRun {self._run.flow_id} {came}; {way}>"


def _visits(task_runs: Sequence[SimulatedTaskRun]) -> list[TaskRun]:
    """Attempts and items put together into visits."""
    attempts: dict[tuple[str, int], list[SimulatedTaskRun]] = {}
    items: dict[tuple[str, int], dict[int, list[SimulatedTaskRun]]] = {}
    for run in task_runs:
        key = (run.name, run.iteration)
        if run.index is None:
            attempts.setdefault(key, []).append(run)
        else:
            items.setdefault(key, {}).setdefault(run.index, []).append(run)
    return [
        TaskRun(found, [TaskRun(one, ()) for _, one in sorted(items.get(key, {}).items())])
        for key, found in attempts.items()
    ]
