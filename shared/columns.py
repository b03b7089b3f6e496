"""The kinds of columns that the tables have on both databases."""

from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any, ClassVar

from sqlalchemy import CheckConstraint, DateTime, Dialect, String, Table, Text, TypeDecorator
from sqlalchemy.dialects.postgresql import TIMESTAMP, UUID
from sqlmodel import SQLModel


@lru_cache(maxsize=64)
def _iso_text(value: datetime) -> str:
    # Remembered, because the rows of one transaction carry the same few times.
    return value.astimezone(UTC).isoformat(timespec="microseconds")


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC time with microseconds; naive times are refused.

    SQLite has no such type: there it is ISO 8601 text, which sorts as the times do.
    """

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(TIMESTAMP(timezone=True))
        return dialect.type_descriptor(String(32))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a time zone cannot be stored")
        if dialect.name == "postgresql":
            return value
        return _iso_text(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None or isinstance(value, datetime):
            return value.astimezone(UTC) if value is not None else None
        return datetime.fromisoformat(value)


class JsonText(TypeDecorator[bytes]):
    """JSON that is handed through as UTF-8 bytes, neither parsed nor built by the driver."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: bytes | None, dialect: Dialect) -> str | None:
        return None if value is None else value.decode()

    def process_result_value(self, value: Any, dialect: Dialect) -> bytes | None:
        return None if value is None else value.encode()


def identifier() -> Any:
    return String(36).with_variant(UUID(as_uuid=False), "postgresql")


def one_of(column: str, members: type[StrEnum]) -> CheckConstraint:
    listed = ", ".join(f"'{member.value}'" for member in members)
    return CheckConstraint(f"{column} IN ({listed})", name=f"{column}_is_known")


class Model(SQLModel):
    __table__: ClassVar[Table]
