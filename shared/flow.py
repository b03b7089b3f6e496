"""A definition made ready to run: its graph, its decider, its tasks by name.

What executes a run needs this form a thousand times for one parse, so both the API and the
workers keep it by the hash of the definition (:class:`FlowCache`).
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from shared.dataflow import DataFlow, read_data_flow
from shared.decider import Decider
from shared.definition import FlowDefinition, TaskDefinition
from shared.graph import Graph, build_graph
from shared.limits import Limit, read_limits
from shared.undoing import Undoing, read_undoing


@dataclass(frozen=True, slots=True)
class Flow:
    """A valid definition with all that is derived from it."""

    hash: str
    """SHA-256 of the stored definition, in hex."""
    definition: FlowDefinition
    graph: Graph
    decider: Decider
    tasks: dict[str, TaskDefinition]
    data: DataFlow
    is_counted: bool
    """Whether the task runs of a run must be counted: it could pass its ``max_task_runs``, or
    has to know in which order they ended."""
    undoing: Undoing | None = None
    """What its runs do before they are over; None for most."""
    limits: Mapping[str, Limit] = field(default_factory=dict)
    """The limits of its tasks; most have none."""

    @property
    def weight(self) -> int:
        """What it costs to keep, in tasks and 64-bit words of its masks."""
        return len(self.tasks) * (1 + len(self.graph.joins) // 64)


def prepare_flow(definition: FlowDefinition, definition_hash: str) -> Flow:
    """Make ``definition``, which must be valid, ready to run."""
    graph = build_graph(definition)
    undoing = read_undoing(definition)
    return Flow(
        hash=definition_hash,
        definition=definition,
        graph=graph,
        decider=Decider(graph),
        tasks={task.name: task for task in definition.tasks},
        data=read_data_flow(definition),
        is_counted=graph.may_revisit
        # Their count tells in which order things happened.
        or (undoing is not None and bool(undoing.compensations))
        or any(task.for_each is not None for task in definition.tasks)
        or _most_attempts(definition) > definition.max_task_runs,
        undoing=undoing,
        limits=read_limits(definition),
    )


def _most_attempts(definition: FlowDefinition) -> int:
    """How many attempts a run without loops has at most."""
    return sum(1 if task.retry is None else task.retry.max_attempts for task in definition.tasks)


class FlowCache:
    """The flows used last, by hash, up to a total weight.

    Not thread-safe: each event loop has its own.
    """

    def __init__(self, max_weight: int) -> None:
        self._max_weight = max_weight
        self._weight = 0
        self._flows: OrderedDict[str, Flow] = OrderedDict()

    def get(self, definition_hash: str) -> Flow | None:
        """The flow of that hash, if it is kept."""
        flow = self._flows.get(definition_hash)
        if flow is not None:
            self._flows.move_to_end(definition_hash)
        return flow

    def add(self, flow: Flow) -> Flow:
        """Keep ``flow``, and let go of the ones not used for longest."""
        if flow.hash not in self._flows:
            self._flows[flow.hash] = flow
            self._weight += flow.weight
        while self._weight > self._max_weight and len(self._flows) > 1:
            _, oldest = self._flows.popitem(last=False)
            self._weight -= oldest.weight
        return flow
