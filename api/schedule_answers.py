"""How schedules look as JSON."""

from datetime import datetime
from zoneinfo import ZoneInfoNotFoundError

import orjson

from api.representations import Document, dump
from shared.cron import next_tick
from shared.queries.rows import AnyRow
from shared.queries.runs import Page
from shared.queries.schedules import timing_of

_NEXT_TICKS = 5


def schedule_path(schedule_id: str) -> str:
    """Where a schedule is found."""
    return f"/schedules/{schedule_id}"


def schedule(row: AnyRow) -> bytes:
    """One schedule, with its next ticks."""
    return dump(_schedule(row) | {"next_ticks": _next_ticks(row)})


def schedule_list(page: Page) -> bytes:
    """A page of schedules."""
    rows = [_schedule(row) for row in page.rows]
    return dump({"schedules": rows, "next_cursor": page.next_cursor})


def _schedule(row: AnyRow) -> Document:
    place = schedule_path(row.id)
    return {
        "id": row.id,
        "flow_id": row.flow_id,
        "version": row.version,
        "input": orjson.Fragment(row.input),
        "cron": row.cron,
        "time_zone": row.time_zone,
        "every": row.every_seconds,
        "start": row.start,
        "overlap": row.overlap,
        "catch_up": row.catch_up,
        "paused": row.paused,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
        "next_tick": None if row.paused else row.next_tick,
        "waiting": row.waiting,
        "last_start": _last_start(row),
        "last_left_out": None
        if row.left_out_tick is None
        else {"tick": row.left_out_tick, "reason": row.left_out_reason},
        "last_error": None if row.error is None else {"at": row.error_at, "message": row.error},
        "links": {
            "self": place,
            "trigger": f"{place}/trigger",
            "runs": f"/flows?schedule_id={row.id}",
        },
    }


def _last_start(row: AnyRow) -> Document | None:
    if row.run_id is None:
        return None
    return {
        "tick": row.started_tick,
        "at": row.started_at,
        "flow_run_id": row.run_id,
        "status": row.run_status,
    }


def _next_ticks(row: AnyRow) -> list[datetime]:
    """The ticks that come, as far as nothing is changed; none for a paused schedule."""
    ticks: list[datetime] = []
    tick = None if row.paused else row.next_tick
    try:
        timing = timing_of(row)
        while tick is not None and len(ticks) < _NEXT_TICKS:
            ticks.append(tick)
            tick = next_tick(timing, tick)
    except ZoneInfoNotFoundError:
        # This machine knows fewer time zones than the one that took the schedule.
        return ticks
    return ticks
