"""Times as JSON has them."""

from datetime import UTC, datetime


def iso_time(at: datetime) -> str:
    """ISO 8601 in UTC with microseconds and ``Z``: texts of one form, which sort as times do."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
