"""Stored definitions as JSON, as models: for the OpenAPI document and for tests."""

from datetime import datetime

from pydantic import BaseModel, JsonValue

from api.shapes import Finding, Shape


class VersionSummary(Shape):
    """One version of a stored definition."""

    flow_id: str
    version: int
    """Counted from 1; a number is never given twice."""
    hash: str
    """SHA-256 of its JSON."""
    created_at: datetime
    links: dict[str, str]


class StoredVersion(VersionSummary):
    """What was stored, and what is doubtful about it."""

    warnings: list[Finding]


class StoredDefinition(VersionSummary):
    """A stored definition."""

    definition: dict[str, JsonValue]
    """As it was sent."""


class DefinitionPage(Shape):
    """Some stored definitions, each in its newest version."""

    definitions: list[VersionSummary]
    next_cursor: str | None


class VersionPage(Shape):
    """Some versions of a stored definition."""

    versions: list[VersionSummary]
    next_cursor: str | None


DEFINITION_SHAPES: tuple[type[BaseModel], ...] = (
    StoredVersion,
    StoredDefinition,
    DefinitionPage,
    VersionPage,
)
"""What the operations name."""
