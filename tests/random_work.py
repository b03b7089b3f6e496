"""Random flows of everything that a run can be about, and what each must come to.

Two kinds: *blocks* (steps, lists, loops, retries, waits, forks) put one after another and into one
another, and *tangles*, any acyclic graph. What they come to depends on outcomes alone, so the pure
simulator tells it beforehand, and no time or order can change it.
"""

import random
from collections import Counter
from dataclasses import dataclass, field
from itertools import count, pairwise
from typing import Any

from shared.definition import FlowDefinition
from shared.flow import prepare_flow
from shared.simulator import simulate
from shared.status import Outcome, RunStatus

Json = dict[str, Any]
MAX_PAUSE_SECONDS = 0.02
MAX_NAP_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Expected:
    """What a run must come to."""

    status: RunStatus
    outcome: Outcome | None
    visits: Counter[tuple[str, int]]
    """Task and iteration of each visit; of a run that fails nothing is promised."""


@dataclass(slots=True)
class Work:
    """A flow, and all that its runs are given."""

    definition: Json
    input: Json = field(default_factory=dict)
    signals: list[str] = field(default_factory=list)
    """Sent when the run has begun."""
    lists: dict[str, list[Any]] = field(default_factory=dict)
    """Task -> what its items give, in their order; None for one without a result."""
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    """Task -> what it comes to, where that is no success."""
    good_from: dict[str, int] = field(default_factory=dict)
    """Task -> the iteration from which on it succeeds."""

    def outcome_of(self, task: str, iteration: int) -> Outcome:
        """What a visit comes to."""
        if iteration < self.good_from.get(task, 1):
            return Outcome.FAILURE
        return self.outcomes.get(task, Outcome.SUCCESS)

    def expected(self) -> Expected:
        """What the pure simulation says."""
        flow = prepare_flow(FlowDefinition.model_validate(self.definition), "")
        run = simulate(flow, self.outcome_of)
        visits = Counter((visit.task, visit.iteration) for visit in run.visits)
        return Expected(run.status, run.outcome, visits)


def random_work(seed: int, *, plain: bool = False) -> Work:
    """Work that is the same for a seed; ``plain`` is without loops, retries and forks in forks."""
    builder = _Builder(random.Random(seed), plain)
    return builder.tangle() if seed % 3 == 0 else builder.blocks()


class _Builder:
    def __init__(self, draw: random.Random, plain: bool) -> None:
        self._draw = draw
        self._plain = plain
        self._numbers = count()
        self._tasks: dict[str, Json] = {}
        self._conditions: dict[str, Json] = {}
        self._work = Work({})

    def blocks(self) -> Work:
        """Blocks one after another."""
        first, last = self._sequence(depth=1 if self._plain else 2)
        if self._draw.random() < 0.1:
            self._lead(last, self._act("wreck", outcome="error"))
        return self._finished(first)

    def tangle(self) -> Work:
        """Any graph in which every edge leads to a later task."""
        names = [self._act("t", outcome=self._any_outcome()) for _ in range(9)]
        for number, name in enumerate(names[:-1]):
            later = names[number + 1 :]
            condition: Json = {"source_task": name}
            for target in ("target_task_success", "target_task_failure", "target_task_error"):
                heads = self._draw.sample(later, min(len(later), self._draw.randint(1, 3)))
                ends = self._draw.random() < 0.2
                condition[target] = "end" if ends else sorted(heads)
            self._conditions[name] = condition
        return self._finished(names[0])

    def _any_outcome(self) -> str:
        return self._draw.choices(["success", "failure", "error"], [7, 2, 1])[0]

    def _finished(self, first: str) -> Work:
        self._work.definition = {
            "id": "random",
            "start_task": first,
            "tasks": list(self._tasks.values()),
            "conditions": list(self._conditions.values()),
        }
        return self._work

    # Parts

    def _act(self, kind: str, **params: Any) -> str:
        name = f"{kind}{next(self._numbers)}"
        outcome = Outcome(params.get("outcome", "success"))
        if outcome is not Outcome.SUCCESS:
            self._work.outcomes[name] = outcome
        pause = round(self._draw.uniform(0, MAX_PAUSE_SECONDS), 4)
        params = {"pause_seconds": pause, **params}
        self._tasks[name] = {"name": name, "type": "act", "params": params}
        return name

    def _lead(self, source: str, target: str | list[str], **others: Any) -> None:
        condition = self._conditions.setdefault(source, {"source_task": source})
        condition.update(target_task_success=target, **others)

    # Blocks: each gives its first task, and the one that what follows is led from.

    def _sequence(self, depth: int) -> tuple[str, str]:
        blocks = [self._block(depth) for _ in range(self._draw.randint(1, 4))]
        for (_, source), (target, _) in pairwise(blocks):
            self._lead(source, target)
        return blocks[0][0], blocks[-1][1]

    def _block(self, depth: int) -> tuple[str, str]:
        kinds = [self._step, self._mended, self._rescued, self._nap, self._signal]
        kinds += [self._list, self._list, self._broken_list]
        if not self._plain:
            kinds += [self._flaky, self._loop]
        if depth:
            kinds += [lambda: self._fork(depth)] * 4
        return self._draw.choice(kinds)()

    def _step(self) -> tuple[str, str]:
        name = self._act("step")
        return name, name

    def _mended(self) -> tuple[str, str]:
        risky = self._act("risky", outcome=self._draw.choice(["success", "failure"]))
        mend, after = self._act("mend"), self._act("after")
        self._lead(risky, after, target_task_failure=mend)
        self._lead(mend, after)
        return risky, after

    def _rescued(self) -> tuple[str, str]:
        breaks = self._act("breaks", outcome="error")
        if not self._plain:
            self._tasks[breaks]["retry"] = {"max_attempts": 2, "delay": 0.01, "jitter": False}
        after = self._act("rescue")
        self._lead(breaks, "end", target_task_error=after)
        return breaks, after

    def _flaky(self) -> tuple[str, str]:
        name = self._act("flaky", good_from_attempt=self._draw.randint(2, 3))
        delay = self._draw.uniform(0.01, MAX_NAP_SECONDS)
        self._tasks[name]["retry"] = {"max_attempts": 3, "delay": delay, "jitter": False}
        return name, name

    def _loop(self) -> tuple[str, str]:
        good_from = self._draw.randint(2, 4)
        work, check = self._act("work"), self._act("check", good_from_iteration=good_from)
        self._work.good_from[check] = good_from
        self._lead(work, check)
        self._lead(check, "end", target_task_failure=work)
        return work, check

    def _nap(self) -> tuple[str, str]:
        name = f"nap{next(self._numbers)}"
        seconds = round(self._draw.uniform(0.01, MAX_NAP_SECONDS), 3)
        self._tasks[name] = {"name": name, "type": "sleep", "params": {"for": seconds}}
        return name, name

    def _signal(self) -> tuple[str, str]:
        name = f"signal{next(self._numbers)}"
        params = {"signal": name}
        self._tasks[name] = {"name": name, "type": "wait_for_signal", "params": params}
        self._work.signals.append(name)
        return name, name

    def _list(self) -> tuple[str, str]:
        """A list of which as many may fail as do."""
        outcomes = [self._any_outcome() for _ in range(self._draw.randint(0, 6))]
        name = self._act("list")
        self._of_items(name, outcomes, tolerate="all")
        if self._draw.random() < 0.5:
            self._tasks[name]["concurrency"] = self._draw.randint(1, 3)
        self._work.lists[name] = [
            None if outcome == "error" else number for number, outcome in enumerate(outcomes)
        ]
        return name, name

    def _broken_list(self) -> tuple[str, str]:
        """A list that breaks off at an item; one at a time, so it is known which ones ran."""
        good = self._draw.randint(0, 3)
        name, after = self._act("broken"), self._act("after")
        self._of_items(name, ["success"] * good + ["failure"] + ["success"] * 2, concurrency=1)
        self._work.outcomes[name] = Outcome.FAILURE
        self._lead(name, "end", target_task_failure=after)
        return name, after

    def _of_items(self, name: str, outcomes: list[str], **fields: Any) -> None:
        self._work.input[name] = [
            {"value": number, "outcome": outcome} for number, outcome in enumerate(outcomes)
        ]
        params = {**self._tasks[name]["params"], "value": "${item.value}"}
        self._tasks[name] |= {
            "for_each": f"input.{name}",
            "params": {**params, "outcome": "${item.outcome}"},
            **fields,
        }

    def _fork(self, depth: int) -> tuple[str, str]:
        split, meet = self._act("split"), self._act("meet")
        heads = []
        for _ in range(self._draw.randint(2, 3)):
            first, last = self._sequence(depth - 1)
            heads.append(first)
            fate = self._draw.random()
            if fate < 0.1:
                # A failure that turns away: the join is missed.
                fails = self._act("fails", outcome="failure")
                self._lead(last, fails)
                self._lead(fails, meet)
            elif fate < 0.8:
                self._lead(last, meet)
            else:
                # A success that leads elsewhere is not waited for.
                self._lead(last, self._act("aside"))
        self._lead(split, heads)
        return split, meet
