"""``POST /run-flow``: accept a run, and answer with it once it ended where that is wished."""

from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response

from api import representations
from api.admitting import admit
from api.answers import json_answer
from api.bodies import read_body
from api.border import extend_deadline
from api.operations import SUBMIT
from api.parameters import idempotency_key, wait_seconds
from api.resources import Resources, resources_of
from api.strict_routes import strict_router
from shared.errors import IdempotencyMismatch, NotFound
from shared.ids import FlowRunId
from shared.queries.runs import get_run, run_statuses
from shared.status import RunStatus
from shared.store.runs import create_runs

router = strict_router()


@router.post("/run-flow", response_model=None, **SUBMIT)
async def run_flow(request: Request) -> Response:
    """Start a run of the flow in the body."""
    resources = resources_of(request)
    settings = resources.settings
    seconds = wait_seconds(request, settings.max_wait_seconds)
    key = idempotency_key(request)
    prepared = await resources.submissions.prepare(await read_body(request, settings))
    new_run = prepared.new_run(resources.clock, key)
    created = await resources.writer.call(create_runs, new_run)
    if created.mismatch:
        raise IdempotencyMismatch("The run of this idempotency key was started with another body.")
    admit(resources, created)
    if created.branch_id is not None:
        resources.ringer.ring([created.branch_id], queues={created.branch_id: new_run.start_queue})
    headers = {"Location": f"/flows/{created.flow_run_id}"}
    if created.replayed:
        headers["Idempotent-Replayed"] = "true"
    if seconds is not None:
        if "prefer" in request.headers:
            headers["Preference-Applied"] = f"wait={seconds:g}"
        extend_deadline(request, seconds)
        if await resources.endings.wait(created.flow_run_id, seconds):
            return await _whole(resources, created.flow_run_id, headers)
    status = RunStatus.RUNNING
    if created.replayed:
        status = await _status(resources, created.flow_run_id)
    content = representations.accepted(created.flow_run_id, new_run.flow_id, status)
    code = HTTPStatus.OK if created.replayed else HTTPStatus.ACCEPTED
    return json_answer(content, code, headers)


async def _whole(resources: Resources, flow_run_id: FlowRunId, headers: dict[str, str]) -> Response:
    stored = await resources.reader.call(get_run, flow_run_id)
    if stored is None:
        raise _pruned()
    return json_answer(representations.run(stored), HTTPStatus.OK, headers)


async def _status(resources: Resources, flow_run_id: FlowRunId) -> RunStatus:
    statuses = await resources.reader.call(run_statuses, [flow_run_id])
    if flow_run_id not in statuses:
        raise _pruned()
    return statuses[flow_run_id]


def _pruned() -> NotFound:
    return NotFound("The run was deleted while it was waited for.")
