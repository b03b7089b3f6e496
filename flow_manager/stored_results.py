"""What the service answers about stored definitions, typed as :mod:`flow_manager.results` is."""

from datetime import datetime

from pydantic import Field, JsonValue

from flow_manager.results import Answer


class DefinitionSummary(Answer):
    """A version of a flow."""

    flow_id: str
    version: int
    """Counted from 1; no number is given twice."""
    hash: str = ""
    created_at: datetime | None = None


class StoredVersion(DefinitionSummary):
    """The newest version of a flow after it was put."""

    warnings: list[dict[str, JsonValue]] = Field(default_factory=list)
    """What is doubtful about the definition."""
    created: bool = True
    """False where the newest version had this content already."""


class Definition(DefinitionSummary):
    """A version of a flow, with what it is."""

    definition: JsonValue = None


class DefinitionPage(Answer):
    """Some flows by their ids, each with its newest version."""

    definitions: list[DefinitionSummary]
    next_cursor: str | None = None


class VersionPage(Answer):
    """Some versions of a flow, the newest first."""

    versions: list[DefinitionSummary]
    next_cursor: str | None = None
