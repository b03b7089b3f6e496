"""The examples hold together: their definitions fit their tasks, and their tasks run."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from shared.dataflow import holds_expression
from shared.definition import FlowDefinition
from shared.flow import prepare_flow
from shared.registry import load_registry
from shared.settings import Settings
from shared.task_context import Json
from worker.execution import AttemptResult, Execution, Executor

EXAMPLES = Path(__file__).parents[2] / "examples"
DEFINITIONS = sorted(EXAMPLES.glob("*.json"))
MODULES = [str(path) for path in sorted([*EXAMPLES.glob("tasks/*.py"), EXAMPLES / "media.py"])]


def read(path: Path) -> tuple[FlowDefinition, Json]:
    document = orjson.loads(path.read_bytes())
    return FlowDefinition.model_validate(document["flow"]), document.get("input")


@pytest.fixture
async def executor() -> AsyncIterator[Executor]:
    executor = Executor(load_registry(MODULES), Settings())
    yield executor
    executor.close()


@pytest.mark.parametrize("path", DEFINITIONS, ids=lambda path: path.name)
def test_every_task_of_a_definition_is_registered_and_takes_its_params(path: Path) -> None:
    registry = load_registry(MODULES)
    definition, _ = read(path)
    for task in definition.tasks:
        params = registry.get(task.task_type).Params
        if params is not None and not holds_expression(task.params or {}):
            params.model_validate(task.params or {})


def test_the_media_example_meets_at_its_approval() -> None:
    definition, _ = read(EXAMPLES / "media.json")
    graph = prepare_flow(definition, "").graph
    assert [graph.names[number] for number in graph.joins] == ["approve"]


async def test_the_branches_of_the_media_example(executor: Executor) -> None:
    definition, given = read(EXAMPLES / "media.json")
    params = {task.name: task.params for task in definition.tasks}

    async def attempt(name: str, previous: Any = None, number: int = 1) -> AttemptResult:
        return await executor.execute(
            Execution(
                task_type=name,
                name=name,
                params=params[name],
                input=given,
                previous=previous,
                attempt=number,
            )
        )

    assert (await attempt("split")).kind == "success"
    resized = await attempt("resize")
    assert (resized.kind, resized.data) == ("failure", b'{"widest":1600}')
    shrunk = await attempt("shrink", orjson.loads(resized.data or b""))
    assert shrunk.data == b'{"width":1600,"height":900}'
    assert (await attempt("tag")).data == b'{"tags":["harbour","old"]}'
    assert (await attempt("scan")).kind == "error"
    assert (await attempt("scan", number=2)).kind == "success"


async def test_a_large_picture_is_resized(executor: Executor) -> None:
    picture = {"picture": {"width": 4_000, "height": 3_000}}
    result = await executor.execute(
        Execution(task_type="resize", name="resize", params={"width": 400}, input=picture)
    )
    assert result.data == b'{"width":400,"height":300}'
