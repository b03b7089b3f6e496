"""Random definitions whose tasks come to what a script in their params says.

What a run of one comes to does not depend on which branch is quicker, so that an executed run can
be held against a simulated one.
"""

from typing import Any, Literal

from hypothesis import strategies as st
from pydantic import BaseModel, JsonValue

from flow_manager import BaseTask, TaskContext
from tests.unit.strategies import flows

ComeTo = Literal["yes", "no", "raise"]


class Script(BaseModel):
    """What the visits come to, and what the task tells of what it saw."""

    script: list[ComeTo]
    by_iteration: bool = False
    """Whether each visit goes on in the script, and not only each attempt."""
    told: JsonValue = None


class Follows(BaseTask):
    """Comes to what its script says."""

    name = "follows"
    Params = Script

    async def run(self, context: TaskContext) -> dict[str, object]:
        """Do so."""
        params: Script = context.params
        place = context.attempt - 1 + (context.index or 0)
        if params.by_iteration:
            place += context.iteration - 1
        come_to = params.script[min(place, len(params.script) - 1)]
        if come_to == "raise":
            raise RuntimeError(f"{context.task_name} raises")
        return {"success": come_to == "yes", "data": {"told": params.told, "of": come_to}}


_SCRIPTS = st.lists(st.sampled_from(["yes", "yes", "yes", "no", "raise"]), min_size=1, max_size=3)
_WHENS = ["true", "len(previous) > 1", "previous.of == 'yes'", "input.n > 2", "previous.missing"]


@st.composite
def _task(draw: st.DrawFn, name: str, tells: dict[str, Any], *, loops: bool) -> dict[str, Any]:
    """A task with a script, and sometimes with attempts, a list, or a wait instead."""
    if not loops and draw(st.integers(0, 7)) == 0:
        return draw(
            st.sampled_from(
                [
                    {"name": name, "type": "sleep", "params": {"for": 0.05}},
                    {"name": name, "type": "transform", "params": {"told": tells}},
                    {"name": name, "type": "noop"},
                ]
            )
        )
    params = {"script": draw(_SCRIPTS), "told": tells, "by_iteration": loops}
    task: dict[str, Any] = {"name": name, "type": "follows", "params": params}
    if draw(st.integers(0, 3)) == 0:
        on = draw(st.sampled_from([["error"], ["failure"], ["error", "failure"]]))
        task["retry"] = {"max_attempts": draw(st.integers(1, 3)), "delay": 0, "on": on}
    if draw(st.integers(0, 4)) == 0:
        task["for_each"] = draw(st.sampled_from(["input.items", "[]", "[1]"]))
        params["told"] = {**tells, "item": "${item}", "index": "${index}"}
        # One after another where a failure ends it: else it is chance which of them have begun.
        task |= draw(st.sampled_from([{"tolerate": "all"}, {"concurrency": 1, "tolerate": 1}]))
    return task


@st.composite
def _plain_task(draw: st.DrawFn, name: str, tells: dict[str, Any]) -> dict[str, Any]:
    """A task that runs at the end of a run."""
    params = {"script": draw(_SCRIPTS), "told": tells, "by_iteration": True}
    retry = draw(st.sampled_from([{}, {"retry": {"max_attempts": 2, "delay": 0}}]))
    return {"name": name, "type": "follows", "params": params, **retry}


@st.composite
def forking(draw: st.DrawFn, *, each: bool = False) -> dict[str, Any]:
    """One with forks and joins, or with tasks that run for each branch that comes."""
    flow = draw(flows())
    definition = flow.definition.model_dump(mode="json", exclude_none=True)
    for condition in definition["conditions"]:
        condition.pop("when", None)
        if not each and draw(st.integers(0, 3)) == 0:
            condition["when"] = draw(st.sampled_from(_WHENS))
    tasks = []
    for task in definition["tasks"]:
        is_start = task["name"] == definition["start_task"]
        tells = (
            {} if is_start or each else {"before": "${len(previous)}", "t0": "${tasks.t0.success}"}
        )
        scripted = draw(_task(task["name"], tells, loops=False))
        scripted["route"] = task["route"]
        if each and draw(st.booleans()):
            scripted["join"] = "each"
        elif draw(st.integers(0, 3)) == 0 and "for_each" not in scripted:
            scripted["tolerate"] = draw(st.sampled_from([1, "50%", "all"]))
        tasks.append(scripted)
    output = None if each else {"t0": "${tasks.t0.data}", "n": "${input.n}"}
    return {**definition, "tasks": tasks, "output": output, "max_task_runs": 200}


@st.composite
def looping(draw: st.DrawFn) -> dict[str, Any]:
    """One without forks that goes back."""
    count = draw(st.integers(1, 4))
    names = [f"t{number}" for number in range(count)]
    anywhere = st.sampled_from([*names, "end"])
    tells = {"visit": "${iteration}"}
    tasks = [draw(_task(name, tells, loops=True)) for name in names]
    ending = draw(st.sampled_from([{}, {"finally": "last"}]))
    if ending:
        told = {"status": "${run.status}", "of": "${run.error.type if run.error else 0}"}
        tasks.append(draw(_plain_task("last", told)))
    for task in tasks[:count]:
        if draw(st.integers(0, 3)) == 0:
            told = {"previous": "${previous.of}", "visit": "${iteration}"}
            if "for_each" in task:
                told["item"] = "${item}"
            task["compensate"] = f"un{task['name']}"
            tasks.append(draw(_plain_task(task["compensate"], told)))
    return {
        "id": "looping",
        "start_task": "t0",
        "tasks": tasks,
        **ending,
        "conditions": [
            {
                "source_task": name,
                "target_task_success": following,
                "target_task_failure": draw(anywhere),
                **draw(st.sampled_from([{}, {"target_task_error": "t0"}])),
                **draw(st.sampled_from([{}, {"when": "iteration < 3"}])),
            }
            for name, following in zip(names, [*names[1:], "end"], strict=True)
        ],
        "max_task_runs": 25,
    }
