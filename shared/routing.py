"""Where the conditions of one task send a branch, in one place for all who ask.

The conditions are taken in the order written, those left out whose ``when`` is false. The
first with the outcome of the visit decides by its ``target_task_success``; where none has that
outcome, the first of them decides by its ``target_task_failure``; where there is none at all,
the branch ends. With ``route: all`` it is not the first but every one that decides. An error
goes where ``target_task_error`` says, and where no condition says anything it is unhandled.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from shared.definition import END, Condition, Target
from shared.status import Outcome

Applies = Callable[[int], bool]
"""Whether the ``when`` of the n-th condition of a task is true. Asked only where there is one,
in the order written, and only as far as it matters."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What one condition says, its targets as tasks' numbers."""

    outcome: Outcome
    matched: tuple[int, ...]
    """Where it leads when the visit came to its outcome."""
    otherwise: tuple[int, ...]
    raised: tuple[int, ...] | None
    """Where it leads after an error; None where it says nothing about errors."""
    is_conditional: bool
    """Whether it has a ``when``."""


@dataclass(frozen=True, slots=True)
class Possible:
    """Everything that may follow after one outcome."""

    targets: tuple[int, ...]
    """Each once, in the order written."""
    may_end: bool


@dataclass(frozen=True, slots=True)
class Routes:
    """The conditions of one task."""

    rules: tuple[Rule, ...] = ()
    takes_all: bool = False
    """``route: all``."""

    @property
    def is_conditional(self) -> bool:
        """Whether data decides, not outcomes alone."""
        return any(rule.is_conditional for rule in self.rules)

    def choose(self, outcome: Outcome, applies: Applies | None = None) -> tuple[int, ...] | None:
        """The tasks that follow, each once; none where the branch ends.

        None instead of a tuple where the outcome is an error that nobody handles. Without
        ``applies`` every condition does.
        """
        for group in self._groups(outcome):
            applying = (
                leads_to
                for number, leads_to in group
                if applies is None or not self.rules[number].is_conditional or applies(number)
            )
            found = list(applying if self.takes_all else islice(applying, 1))
            if found:
                return _union(found)
        return None if outcome is Outcome.ERROR else ()

    def possible(self, outcome: Outcome) -> Possible:
        """All that :meth:`choose` may say for ``outcome``, whatever the conditions ask."""
        if not self.rules:
            return _NOTHING if outcome is Outcome.ERROR else _THE_END
        if len(self.rules) == 1 and not self.rules[0].is_conditional:
            return self._possible_of_one(outcome)
        found: list[tuple[int, ...]] = []
        may_end = False
        for group in self._groups(outcome):
            sure: list[tuple[int, ...]] = []
            for number, leads_to in group:
                found.append(leads_to)
                if not self.rules[number].is_conditional:
                    sure.append(leads_to)
                elif not leads_to:
                    may_end = True
                if sure and not self.takes_all:
                    break
            if sure:
                return Possible(_union(found), may_end or not any(sure))
        return Possible(_union(found), may_end or outcome is not Outcome.ERROR)

    def _possible_of_one(self, outcome: Outcome) -> Possible:
        """What most tasks have: one condition that always applies."""
        rule = self.rules[0]
        if outcome is Outcome.ERROR:
            leads_to = rule.raised
            return _NOTHING if leads_to is None else Possible(leads_to, not leads_to)
        leads_to = rule.matched if rule.outcome is outcome else rule.otherwise
        return Possible(leads_to, not leads_to) if leads_to else _THE_END

    def _groups(self, outcome: Outcome) -> Iterator[list[tuple[int, tuple[int, ...]]]]:
        """The numbers and targets of the rules that may decide; later groups only where none of
        an earlier one applies."""
        if outcome is Outcome.ERROR:
            yield [(n, r.raised) for n, r in enumerate(self.rules) if r.raised is not None]
            return
        yield [(n, r.matched) for n, r in enumerate(self.rules) if r.outcome is outcome]
        yield [(n, r.otherwise) for n, r in enumerate(self.rules) if r.outcome is not outcome]


def read_routes(
    conditions: Sequence[Condition], takes_all: bool, numbers: dict[str, int]
) -> Routes:
    """The routes of one task by its conditions; ``numbers`` are those of the tasks."""

    def numbered(target: Target) -> tuple[int, ...]:
        if isinstance(target, str):
            return () if target == END else (numbers[target],)
        return tuple([numbers[name] for name in target])

    if not conditions:
        return Routes((), takes_all)

    rules = tuple(
        Rule(
            outcome=condition.outcome,
            matched=numbered(condition.target_task_success),
            otherwise=numbered(condition.target_task_failure),
            raised=None
            if condition.target_task_error is None
            else numbered(condition.target_task_error),
            is_conditional=condition.when is not None,
        )
        for condition in conditions
    )
    return Routes(rules, takes_all)


_THE_END = Possible((), may_end=True)
_NOTHING = Possible((), may_end=False)
"""An error that nobody handles leads nowhere and ends no branch: it fails the run."""


def _union(found: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(number for leads_to in found for number in leads_to))
