"""Stored definitions: every change of a flow is a version of its own, counted from 1."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Table, bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite

from shared.models import DefinitionVersion, StoredDefinition

definitions = StoredDefinition.__table__
versions = DefinitionVersion.__table__


@dataclass(frozen=True, slots=True)
class NewVersion:
    """A definition that was found valid, to be the newest of its flow."""

    flow_id: str
    hash: str
    content: bytes
    """JSON."""
    created_at: datetime


@dataclass(frozen=True, slots=True)
class PutVersion:
    """The newest version of a flow after it was put."""

    version: int
    created_at: datetime
    created: bool
    """False where the newest version had that content already."""


@dataclass(frozen=True, slots=True)
class DeleteFlow:
    """A flow of which no more runs shall be started."""

    flow_id: str
    at: datetime


def put_versions(connection: Connection, items: Sequence[NewVersion]) -> list[PutVersion]:
    """Store definitions, each as the newest version of its flow."""
    return [put_version(connection, item) for item in items]


def delete_flows(connection: Connection, items: Sequence[DeleteFlow]) -> list[bool]:
    """Hide flows from new runs; of each, whether there was a version to hide."""
    return [delete_versions(connection, item.flow_id, item.at) for item in items]


def put_version(connection: Connection, item: NewVersion) -> PutVersion:
    """Make ``item`` the newest version of its flow, unless it is that already."""
    _keep_content(connection, item)
    while True:
        newest = connection.execute(_NEWEST, {"flow": item.flow_id}).first()
        if newest is not None and newest.deleted_at is None and newest.hash == item.hash:
            return PutVersion(newest.version, newest.created_at, created=False)
        version = 1 if newest is None else newest.version + 1
        row = {
            "flow_id": item.flow_id,
            "version": version,
            "hash": item.hash,
            "created_at": item.created_at,
            "deleted_at": None,
        }
        statement = _insert(connection, versions).on_conflict_do_nothing()
        if connection.execute(statement.returning(versions.c.version), row).first() is not None:
            return PutVersion(version, item.created_at, created=True)
        # Somebody took the number first, and has committed: each turn finds a higher one.


def delete_versions(connection: Connection, flow_id: str, at: datetime) -> bool:
    """Hide all versions of a flow from new runs; whether there was one to hide.

    Numbers are never given twice: a flow that is put again goes on counting.
    """
    return connection.execute(_DELETE, {"flow": flow_id, "at": at}).rowcount > 0


def _keep_content(connection: Connection, item: NewVersion) -> None:
    # An unused definition may be pruned at this moment: with a new time it no longer is old,
    # and PostgreSQL looks at that again once this transaction has let go of the row.
    statement = _insert(connection, definitions)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[definitions.c.hash],
            set_={"created_at": statement.excluded.created_at},
        ),
        {"hash": item.hash, "content": item.content, "created_at": item.created_at},
    )


def _insert(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)


_NEWEST = (
    select(versions.c.version, versions.c.hash, versions.c.created_at, versions.c.deleted_at)
    .where(versions.c.flow_id == bindparam("flow"))
    .order_by(versions.c.version.desc())
    .limit(1)
)

_DELETE = (
    update(versions)
    .where(versions.c.flow_id == bindparam("flow"), versions.c.deleted_at.is_(None))
    .values(deleted_at=bindparam("at"))
)
