"""Timestamps in resources."""

from datetime import UTC, datetime


def write_time(moment: datetime) -> str:
    """A time as in metadata and conditions: RFC 3339, UTC, whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def write_seconds(seconds: float) -> str:
    """The same for Unix seconds."""
    return write_time(datetime.fromtimestamp(seconds, UTC))
