"""What a simulation asks about: attempts with their params, and what expressions see."""

from collections.abc import Mapping

from shared.evaluation import render_params
from shared.expressions import Scope
from shared.expressions.budget import Json
from shared.flow import Flow
from shared.simulation.agenda import Agenda, Event
from shared.simulation.ending import EndingBranch
from shared.simulation.recall import Memory
from shared.simulation.values import Attempt, Start
from shared.simulation.visits import Visit
from shared.times import iso_time

RUN_ID = "00000000-0000-7000-8000-000000000000"
"""What ``run.id`` is in a simulation."""


class Questions:
    """The questions of one run."""

    def __init__(
        self, flow: Flow, start: Start, agenda: Agenda, ending: EndingBranch | None
    ) -> None:
        self._flow = flow
        self._start = start
        self._agenda = agenda
        self._ending = ending

    def attempt(self, event: Event) -> Attempt:
        """An attempt, its params filled in.

        Raises:
            ExpressionError: they cannot be.
        """
        visit = event.visit
        memory, task = visit.branch.carried, self._flow.tasks[visit.task]
        params: Json = task.params
        if self._flow.data.of(visit.task).params is not None:
            params = render_params(self._flow, visit.task, self.scope(visit, memory))
        return Attempt(
            task=visit.task,
            task_type=task.task_type,
            branch=visit.path,
            iteration=visit.branch.iteration,
            attempt=visit.failed_attempts + 1,
            index=visit.place,
            item=visit.item,
            params=params,
            input=self._start.input,
            previous=memory.previous,
            tasks=memory.results,
            at=self._agenda.time,
            timeout_seconds=task.timeout,
            is_resumed=event.is_wake,
            signal=event.signal,
        )

    def scope(self, visit: Visit | None, memory: Memory) -> Scope:
        """What the names of an expression stand for."""
        self._start.check()
        secrets: Mapping[str, str] = {}
        if visit is not None:
            names = self._flow.data.of(visit.task).secrets
            secrets = {name: self._start.secrets.get(name, "***") for name in names}
        return Scope(
            input=self._start.input,
            tasks=memory.results,
            iteration=1 if visit is None else visit.branch.iteration,
            previous=memory.previous,
            item=None if visit is None else visit.item,
            index=None if visit is None else visit.place,
            run={
                "id": RUN_ID,
                "flow_id": self._flow.definition.id,
                "started_at": iso_time(self._start.at),
                **({} if self._ending is None else self._ending.told),
            },
            secrets=secrets,
            now=self._agenda.time,
        )
