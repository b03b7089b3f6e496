"""``POST /flows/simulate``: the way a definition takes for given outcomes and data."""

from starlette.requests import Request
from starlette.responses import Response

from api.answers import json_answer
from api.bodies import read_body
from api.operations import SIMULATE
from api.resources import resources_of
from api.strict_routes import strict_router

router = strict_router()


@router.post("/flows/simulate", response_model=None, **SIMULATE)
async def simulate(request: Request) -> Response:
    """Run a definition in memory: nothing is stored, queued or called."""
    resources = resources_of(request)
    body = await read_body(request, resources.settings)
    types = await resources.workers.task_types()
    return json_answer(await resources.simulations.simulate(body, types.params_schemas))
