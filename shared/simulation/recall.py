"""What the branches of a simulated run know of the tasks before them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from shared.expressions.budget import Json
from shared.flow import Flow
from shared.graph import Mask
from shared.simulation.values import Result, load


@dataclass(frozen=True, slots=True)
class Memory:
    """What one branch knows. Never changed, so heads of a fork share it."""

    results: Mapping[str, Result] = field(default_factory=dict)
    source: str | None = None
    """The task that it visited last."""
    content: bytes | None = None
    """The data of that visit."""
    joined: Mapping[str, bytes | None] | None = None
    """Instead, behind a join of several: the data of each by the task it came from."""

    @property
    def previous(self) -> Json:
        """What expressions and tasks see as ``previous``."""
        if self.joined is not None:
            return {task: load(content) for task, content in self.joined.items()}
        return load(self.content)


class Recall:
    """Keeps the results of a run, and says which of them a branch knows.

    Only results that some expression names are remembered, or all where tasks ask for them.
    """

    def __init__(self, flow: Flow, *, everything: bool) -> None:
        self._flow = flow
        named = (data.before | data.after for data in flow.data.tasks.values())
        wanted = flow.tasks.keys() if everything else frozenset[str]().union(*named)
        self._wanted = tuple(sorted(wanted & flow.tasks.keys()))
        self._bits = {name: 1 << place for place, name in enumerate(self._wanted)}
        self._before: tuple[tuple[Mask, Mask], ...] | None = None
        self.last: dict[str, Result] = {}
        """The last finished visit of each task of the run."""

    def after(self, memory: Memory, task: str, result: Result) -> Memory:
        """What a branch knows when its visit of ``task`` came to ``result``."""
        results = memory.results
        if task in self._bits:
            results = {**results, task: result}
        return Memory(results, task, result.content)

    def join(self, join: str, memories: Sequence[Memory]) -> Memory:
        """What the branch knows that ``join`` makes of those that came: whatever can have run
        before it, also on branches that did not come."""
        joined = {memory.source or "": memory.content for memory in memories}
        last = memories[-1]
        return Memory(
            self._known_at(join) if self._wanted else {},
            last.source,
            last.content,
            dict(sorted(joined.items())) if len(joined) > 1 else None,
        )

    def _known_at(self, task: str) -> dict[str, Result]:
        if self._before is None:
            self._before = self._flow.graph.known_before(self._wanted)
        mask = self._before[self._flow.graph.numbers[task]][0]
        return {
            name: result for name, result in self.last.items() if self._bits.get(name, 0) & mask
        }
