"""``POST /flows/{id}/rerun``: a new run that keeps results of one that is over."""

import asyncio
from dataclasses import replace
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response

from api import representations
from api.admitting import admit
from api.answers import json_answer
from api.bodies import LARGE_BYTES, read_body
from api.operations import RERUN
from api.parameters import idempotency_key, run_id, unknown_run
from api.rerunning import RerunRequest, check_begin, not_over, read_parts, read_request
from api.resources import resources_of
from api.strict_routes import strict_router
from shared.errors import IdempotencyMismatch
from shared.queries.runs import run_statuses
from shared.status import RunStatus
from shared.store.reruns import NewRerun, create_reruns
from shared.submissions import Submission

router = strict_router()


@router.post("/flows/{flow_run_id}/rerun", response_model=None, **RERUN)
async def rerun_flow(request: Request) -> Response:
    """Run a run again from its start, from what failed, or from a task on."""
    resources, source = resources_of(request), run_id(request)
    key = idempotency_key(request)
    asked = await _asked(request)
    parts = await resources.reader.call(read_parts, source, asked)
    prepared = await resources.submissions.prepare_parts(
        Submission(parts.definition, "/definition", parts.input)
    )
    await resources.reader.call(check_begin, source, asked.begin, parts.definition)
    new_run = prepared.new_run(resources.clock, key)
    if key is not None:
        new_run = replace(new_run, request_hash=asked.hash(source))
    created = await resources.writer.call(
        create_reruns, NewRerun(source=source, run=new_run, point=asked.point)
    )
    if created == "unknown":
        raise unknown_run()
    if created == "running":
        raise not_over()
    if created.mismatch:
        raise IdempotencyMismatch("This idempotency key started another run before.")
    admit(resources, created)
    if created.branch_id is not None:
        resources.ringer.ring([created.branch_id], queues={created.branch_id: new_run.start_queue})
    headers = {"Location": f"/flows/{created.flow_run_id}"}
    status, code = RunStatus.RUNNING, HTTPStatus.ACCEPTED
    if created.replayed:
        headers["Idempotent-Replayed"] = "true"
        statuses = await resources.reader.call(run_statuses, [created.flow_run_id])
        status, code = statuses.get(created.flow_run_id, status), HTTPStatus.OK
    content = representations.accepted(created.flow_run_id, new_run.flow_id, status)
    return json_answer(content, code, headers)


async def _asked(request: Request) -> RerunRequest:
    settings = resources_of(request).settings
    body = await read_body(request, settings)
    if len(body) <= LARGE_BYTES:
        return read_request(body, settings)
    return await asyncio.to_thread(read_request, body, settings)
