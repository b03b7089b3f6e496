"""The task type ``flow``: runs a stored definition as a part of this run."""

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from shared.definition import MAX_VERSION
from shared.errors import SubFlowCancelled, SubFlowFailed, SubFlowRefused
from shared.task_context import FlowRunResult, TaskContext
from shared.tasks import BaseTask, RunFlow, TaskOutput, TaskResult


class SubFlowParams(BaseModel):
    """Which definition is run, and with what."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    flow_id: str = Field(min_length=1, max_length=200)
    """The id of a stored definition."""
    version: int | None = Field(default=None, ge=1, le=MAX_VERSION)
    """One of its versions; the newest where it is not given."""
    input: JsonValue = Field(default_factory=dict)
    """What its run is started with."""


class SubFlow(BaseTask):
    """Runs a stored definition and waits for its end; the output of that run is the data. Holds
    no worker meanwhile. Where the run fails or is cancelled, so does this task; when this task
    is cancelled, so is the run."""

    name = "flow"
    Params = SubFlowParams
    needs_results = False

    async def run(self, context: TaskContext) -> TaskOutput:
        """Ask for the run."""
        params: SubFlowParams = context.params
        return RunFlow(params.flow_id, params.version, params.input)

    async def resume(self, context: TaskContext) -> TaskOutput:
        """It is over."""
        run = context.flow_run
        if run is None:
            flow_id = context.params.flow_id
            raise SubFlowRefused(f"flow {flow_id!r} refuses another run while one goes on")
        if run.status == "completed":
            return TaskResult(success=run.outcome == "success", data=run.output)
        told = f"run {run.flow_run_id} of flow {run.flow_id!r}"
        if run.status == "cancelled":
            raise SubFlowCancelled(f"{told} was cancelled")
        raise SubFlowFailed(f"{told} failed{_cause(run)}")


def _cause(run: FlowRunResult) -> str:
    error = run.error
    if not isinstance(error, dict):
        return ""
    place = f" at {error['task']!r}" if error.get("task") else ""
    return f"{place}: {error.get('type')}: {error.get('message')}"
