"""The type of what a query gives back: its columns are known to whoever wrote the query."""

from typing import Any

from sqlalchemy import Row

AnyRow = Row[*tuple[Any, ...]]
"""A row, whose columns are read by their names."""
