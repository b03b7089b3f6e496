"""What goes into a simulation and comes out of it, as models for the OpenAPI document."""

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from api.shapes import Finding, RunError
from shared.definition import FlowDefinition
from shared.status import Outcome, RunStatus, TaskRunStatus

_EXACT = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class SimulatedFlow(BaseModel):
    """A definition with what its tasks come to."""

    model_config = _EXACT

    flow: FlowDefinition
    input: JsonValue = Field(default_factory=dict)
    outcomes: dict[str, JsonValue] = Field(default_factory=dict)
    """By the names of tasks: `true`, `false`, `"error"`, `"timeout"`, `{"success": true, "data":
    {}}`, `{"error": {"type": "ValueError", "message": "no"}}`, a list of these for consecutive
    attempts, or `{"items": [...]}` for those of a list. A task without any succeeds."""
    signals: dict[str, JsonValue] = Field(default_factory=dict)
    """What comes with the signals that are waited for, by their names."""


class SimulatedTaskRun(BaseModel):
    """One attempt at one visit of a task, by the clock of the simulation."""

    model_config = _EXACT

    name: str
    type: str
    branch: str
    iteration: int
    index: int | None
    attempt: int
    status: TaskRunStatus
    success: bool | None
    reason: str | None
    params: JsonValue
    """With their expressions filled in, and `***` for secrets."""
    data: JsonValue
    error: RunError | None
    waits_for: str | None
    """The signal that it waits for."""
    started_seconds: float
    finished_seconds: float | None


class SimulatedRun(BaseModel):
    """What a run would come to."""

    model_config = _EXACT

    flow_id: str
    status: RunStatus
    """`running` where it waits for what never comes."""
    outcome: Outcome | None
    input: JsonValue
    output: JsonValue
    error: RunError | None
    path: list[str]
    tasks: list[SimulatedTaskRun]
    seconds: float
    """What it would take: waits, and delays between attempts."""
    assumed: list[str]
    """Tasks that ran although nothing was said of them."""
    warnings: list[Finding]


SIMULATION_SHAPES: tuple[type[BaseModel], ...] = (SimulatedFlow, SimulatedRun)
