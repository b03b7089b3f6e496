"""What a transaction still has to do before it commits, and whom to ring for once it has.

Several store functions may write in one transaction. Some work is left for its end, done once
for all of them: whatever locks more than runs and branches, so that locks are taken in the same
order everywhere. It may make branches ready that none of the callers asked for; the writer has
them rung for after the commit.

What is noted here is a matter of speed only. Should it get lost, the upkeep does the same.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from sqlalchemy import Connection

from shared.ids import BranchId

Ready: TypeAlias = Mapping[BranchId, str]
"""Branches that are ready, with their queues."""
Work: TypeAlias = Callable[[Connection, Sequence[Any]], Ready]
"""Does what was noted; gives the branches that it made ready."""

_NOTED = "afterwards"


def at_the_end(connection: Connection, work: Work, items: Iterable[object]) -> None:
    """Have ``work`` done once, before the commit, with these items and all others noted for it.

    An item that is noted twice is handed over once.
    """
    once = dict.fromkeys(items)
    if once:
        noted: dict[Work, dict[object, None]] = connection.info.setdefault(_NOTED, {})
        noted.setdefault(work, {}).update(once)


def ring_for(connection: Connection, ready: Ready) -> None:
    """Have these branches rung for after the commit."""
    at_the_end(connection, _as_they_are, ready.items())


def finish(connection: Connection) -> Ready:
    """Do what was noted; the branches to ring for after the commit."""
    noted: dict[Work, dict[object, None]] | None = connection.info.pop(_NOTED, None)
    ready: dict[BranchId, str] = {}
    for work, items in (noted or {}).items():
        ready |= work(connection, list(items))
    return ready


def _as_they_are(_connection: Connection, items: Sequence[tuple[BranchId, str]]) -> Ready:
    return dict(items)
