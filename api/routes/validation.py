"""``POST /flows/validate``: everything that can be said about a definition without running it."""

from collections.abc import Sequence
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from api.answers import json_answer
from api.bodies import read_body
from api.operations import VALIDATE
from api.representations import dump, finding
from api.resources import resources_of
from api.strict_routes import strict_router
from shared.errors import Finding, InvalidDefinition
from shared.flow import Flow

router = strict_router()


@router.post("/flows/validate", response_model=None, **VALIDATE)
async def validate(request: Request) -> Response:
    """Judge a definition. What is wrong with it is the answer, not an error."""
    resources = resources_of(request)
    body = await read_body(request, resources.settings)
    try:
        validated = await resources.submissions.validate(body)
    except InvalidDefinition as error:
        return json_answer(_verdict(error.findings, (), None))
    return json_answer(_verdict(validated.errors, validated.warnings, validated.flow))


@router.get("/flows/validate", response_model=None, include_in_schema=False)
async def validate_by_get(_request: Request) -> Response:
    """Say that this is no run: ``GET /flows/{id}`` would look for one of that name."""
    raise HTTPException(HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": "POST"})


def _verdict(errors: Sequence[Finding], warnings: Sequence[Finding], flow: Flow | None) -> bytes:
    return dump(
        {
            "valid": not errors,
            "errors": [finding(one) for one in errors],
            "warnings": [finding(one) for one in warnings],
            "graph": None if flow is None else _graph(flow),
        }
    )


def _graph(flow: Flow) -> dict[str, object]:
    """The tasks that can be reached, and who can follow whom after which outcome."""
    graph = flow.graph
    return {
        "start_task": graph.names[graph.start],
        "tasks": [
            {
                "name": graph.names[number],
                "type": flow.tasks[graph.names[number]].task_type,
                "is_join": bool(graph.bits[number]),
            }
            for number in graph.order
        ],
        "edges": [
            {
                "source": graph.names[number],
                "target": graph.names[target],
                "outcome": outcome,
                "is_back_edge": (number, target) in graph.back_edges,
            }
            for number in graph.order
            for outcome, following in graph.possible[number].items()
            for target in following.targets
        ],
    }
