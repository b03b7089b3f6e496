"""Why a run stands where it does."""

from dataclasses import asdict
from datetime import UTC, datetime

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from api.answers import json_answer
from api.operations import EXPLAIN
from api.parameters import run_id, unknown_run
from api.representations import dump
from api.resources import resources_of
from api.strict_routes import strict_router
from shared.explanation import explain, summary
from shared.ids import FlowRunId
from shared.lease_clock import LeaseClock
from shared.queries.explain import Moment, Standing, read_standing
from shared.settings import Settings

router = strict_router()


@router.get("/flows/{flow_run_id}/explain", response_model=None, **EXPLAIN)
async def explain_flow(request: Request) -> Response:
    """A sentence for every reason why the run does not move."""
    resources, flow_run_id = resources_of(request), run_id(request)
    standing = await resources.reader.call_in_snapshot(
        _read, flow_run_id, resources.clock, resources.settings
    )
    if standing is None:
        raise unknown_run()
    return json_answer(dump(_told(flow_run_id, standing)))


def _read(
    connection: Connection, flow_run_id: FlowRunId, clock: LeaseClock, settings: Settings
) -> Standing | None:
    moment = Moment(
        now=datetime.now(UTC),
        lease_now=clock.synchronise(connection),
        lease_seconds=settings.lease_seconds,
        heartbeat_seconds=settings.heartbeat_seconds,
        max_losses=settings.max_losses,
    )
    return read_standing(connection, flow_run_id, moment)


def _told(flow_run_id: FlowRunId, standing: Standing) -> dict[str, object]:
    reasons = [explain(fact) for fact in standing.facts]
    return {
        "flow_run_id": flow_run_id,
        "status": standing.status.value,
        "summary": summary(standing.status, reasons, standing.more),
        "reasons": [asdict(reason) for reason in reasons],
        "more": standing.more,
    }
