"""Stored definitions as they are shown: one version, the versions of a flow, the newest ones."""

from sqlalchemy import Connection, func, select

from shared.models import DefinitionVersion, StoredDefinition
from shared.queries.rows import AnyRow
from shared.queries.runs import Page

definitions = StoredDefinition.__table__
versions = DefinitionVersion.__table__

_SUMMARY = (versions.c.flow_id, versions.c.version, versions.c.hash, versions.c.created_at)


def get_version(connection: Connection, flow_id: str, version: int | None = None) -> AnyRow | None:
    """A version with its definition, the newest where none is named; None for an unknown one."""
    statement = (
        select(*_SUMMARY, definitions.c.content.label("definition"))
        .join_from(versions, definitions, definitions.c.hash == versions.c.hash)
        .where(versions.c.flow_id == flow_id, versions.c.deleted_at.is_(None))
        .order_by(versions.c.version.desc())
        .limit(1)
    )
    if version is not None:
        statement = statement.where(versions.c.version == version)
    return connection.execute(statement).one_or_none()


def list_definitions(connection: Connection, cursor: str | None, limit: int) -> Page:
    """The newest version of each flow by its id, from behind ``cursor``, a flow's id, on."""
    newest = (
        select(versions.c.flow_id, func.max(versions.c.version).label("version"))
        .where(versions.c.deleted_at.is_(None))
        .group_by(versions.c.flow_id)
        .order_by(versions.c.flow_id)
        .limit(limit + 1)
    )
    if cursor is not None:
        newest = newest.where(versions.c.flow_id > cursor)
    found = newest.subquery()
    statement = (
        select(*_SUMMARY)
        .join(
            found,
            (found.c.flow_id == versions.c.flow_id) & (found.c.version == versions.c.version),
        )
        .order_by(versions.c.flow_id)
    )
    rows = connection.execute(statement).all()
    if len(rows) <= limit:
        return Page(rows, None)
    return Page(rows[:limit], str(rows[limit - 1].flow_id))


def list_versions(connection: Connection, flow_id: str, cursor: int | None, limit: int) -> Page:
    """The versions of a flow, the newest first, from behind version ``cursor`` on."""
    statement = (
        select(*_SUMMARY)
        .where(versions.c.flow_id == flow_id, versions.c.deleted_at.is_(None))
        .order_by(versions.c.version.desc())
        .limit(limit + 1)
    )
    if cursor is not None:
        statement = statement.where(versions.c.version < cursor)
    rows = connection.execute(statement).all()
    if len(rows) <= limit:
        return Page(rows, None)
    return Page(rows[:limit], str(rows[limit - 1].version))


def flow_ids(connection: Connection, limit: int) -> list[str]:
    """The ids of the flows that are stored, at most so many of them."""
    found = connection.execute(
        select(versions.c.flow_id)
        .where(versions.c.deleted_at.is_(None))
        .group_by(versions.c.flow_id)
        .order_by(versions.c.flow_id)
        .limit(limit)
    )
    return list(found.scalars())
