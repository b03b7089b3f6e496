"""The JSON of stored definitions and schedules, as models; used as those of ``api.shapes``."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from api.shapes import Finding


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class StoredFlowRequest(_Shape):
    """A stored definition, and the input of its run."""

    flow_id: Annotated[str, Field(min_length=1, max_length=200)]
    version: Annotated[int, Field(ge=1)] | None = None
    """The newest one where it is not given."""
    input: JsonValue = None
    """Any JSON; tasks read it as `context.input`."""


class DefinitionLinks(_Shape):
    """Where to go on from a stored definition."""

    self: str
    """This version."""
    newest: str
    versions: str


class DefinitionSummary(_Shape):
    """A version of a flow."""

    flow_id: str
    version: int
    """Counted from 1; no number is given twice."""
    hash: str
    """SHA-256 of the definition, as runs have it, too."""
    created_at: datetime
    links: DefinitionLinks


class StoredVersion(DefinitionSummary):
    """The newest version of a flow after it was put."""

    warnings: list[Finding]
    """What is doubtful about the definition."""


class Definition(DefinitionSummary):
    """A version of a flow, with what it is."""

    definition: JsonValue


class DefinitionPage(_Shape):
    """Some flows by their ids, each with its newest version."""

    definitions: list[DefinitionSummary]
    next_cursor: str | None
    """Give it as `cursor` to get the next page; null on the last one."""


class VersionPage(_Shape):
    """Some versions of a flow, the newest first."""

    versions: list[DefinitionSummary]
    next_cursor: str | None


SHAPES_OF_STORED: tuple[type[BaseModel], ...] = (
    StoredFlowRequest,
    StoredVersion,
    Definition,
    DefinitionPage,
    VersionPage,
)
