"""Signals: what a run waits for from outside, such as a person's approval."""

from datetime import UTC, datetime
from http import HTTPStatus

import orjson
from pydantic import JsonValue
from starlette.requests import Request
from starlette.responses import Response

from api import representations
from api.answers import json_answer
from api.bodies import read_body
from api.operations import SEND_SIGNAL
from api.parameters import idempotency_key, run_id, unknown_run
from api.refusals import InvalidRequest, invalid
from api.resources import resources_of
from api.strict_routes import strict_router
from shared.dataflow import holds_expression
from shared.definition import MAX_NAME_LENGTH
from shared.documents import parse_document
from shared.errors import Finding, RunIsOver
from shared.input_schema import check_input
from shared.queries import runs
from shared.status import RunStatus
from shared.store.signals import NewSignal, send_signals

router = strict_router()

_MAX_FINDINGS = 20


@router.post("/flows/{flow_run_id}/signals/{signal}", response_model=None, **SEND_SIGNAL)
async def send_signal(request: Request, signal: str) -> Response:
    """Send a signal to a run; its body becomes the data of the task that waits for it."""
    resources = resources_of(request)
    settings = resources.settings
    flow_run_id = run_id(request)
    if len(signal) > MAX_NAME_LENGTH or not signal.isprintable():
        raise invalid("path", "signal", f"A signal has 1 to {MAX_NAME_LENGTH} characters.")
    key = idempotency_key(request)
    body = await read_body(request, settings)
    data: JsonValue = None
    if body.strip():
        data = parse_document(
            body, max_depth=settings.max_depth, max_bytes=settings.max_result_bytes
        )
    flow_id, content = await _definition(request)
    wrong = _misfits(content, signal, data)
    if wrong:
        raise InvalidRequest(wrong)
    sent = await resources.writer.call(
        send_signals,
        NewSignal(
            flow_run_id=flow_run_id,
            name=signal,
            data=orjson.dumps(data),
            received_at=datetime.now(UTC),
            ready_at=resources.clock.now(),
            idempotency_key=key,
        ),
    )
    if sent.result == "unknown":
        raise unknown_run()
    if sent.result == "over":
        raise RunIsOver("The run is over: nobody waits for the signal any more.")
    if sent.branch_id is not None:
        resources.ringer.ring([sent.branch_id], queues={sent.branch_id: sent.queue})
    headers = {"Location": f"/flows/{flow_run_id}"}
    if sent.result == "again":
        headers["Idempotent-Replayed"] = "true"
    answer = representations.accepted(flow_run_id, flow_id, RunStatus.RUNNING)
    return json_answer(answer, HTTPStatus.ACCEPTED, headers)


async def _definition(request: Request) -> tuple[str, bytes]:
    resources = resources_of(request)
    found = await resources.reader.call(runs.definition_of_run, run_id(request))
    if found is None:
        raise unknown_run()
    return found


def _misfits(content: bytes, signal: str, data: JsonValue) -> list[Finding]:
    """What is wrong with the data, by the schemas of the tasks that wait for the signal."""
    wrong: list[Finding] = []
    for task in orjson.loads(content)["tasks"]:
        params = task.get("params") or {}
        waits = (task.get("type") or task["name"]) == "wait_for_signal"
        if not waits or params.get("signal") != signal:
            continue
        schema = params.get("schema")
        if holds_expression(schema):
            # What it says is known when the task runs, which judges by it then.
            return []
        found = check_input(schema, data, _MAX_FINDINGS)
        if not found:
            # It fits one of them, which may be the one that waits.
            return []
        wrong = wrong or [
            Finding(one.pointer.removeprefix("/input"), "bad_data", one.message) for one in found
        ]
    return wrong
