"""Ages and durations, with the texts of kube-apiserver 1.34."""

from datetime import UTC, datetime, timedelta

import pytest

from headrace.resources.timestamps import write_time
from headrace_apiserver.tables.ages import age, duration

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3.3, "<invalid>"),
        (-2.3, "<invalid>"),
        (-1.3, "0s"),
        (0.3, "0s"),
        (59.3, "59s"),
        (60.3, "60s"),
        (119.3, "119s"),
        (120.3, "2m"),
        (121.3, "2m1s"),
        (179.3, "2m59s"),
        (180.3, "3m"),
        (599.3, "9m59s"),
        (600.3, "10m"),
        (601.3, "10m"),
        (5400.3, "90m"),
        (10799.3, "179m"),
        (10800.3, "3h"),
        (10860.3, "3h1m"),
        (28799.3, "7h59m"),
        (28800.3, "8h"),
        (172799.3, "47h"),
        (172800.3, "2d"),
        (176400.3, "2d1h"),
        (190000.3, "2d4h"),
        (691199.3, "7d23h"),
        (691200.3, "8d"),
        (31536000.3, "365d"),
        (63071999.3, "729d"),
        (63072000.3, "2y"),
        (63158400.3, "2y1d"),
        (252287999.3, "7y364d"),
        (252288000.3, "8y"),
        (400000000.3, "12y"),
    ],
)
def test_a_duration_is_shown_in_significant_units(seconds: float, text: str) -> None:
    """Rounded down, in one or two units."""
    assert text == duration(seconds)
    assert text == age((NOW - timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z"), NOW)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-24T14:00:00+03:00", "60m"),
        ("2026-11-24T11:00:00.123456789Z", "59m"),
        ("2026-11-24", "<invalid>"),
        ("2026-11-24 11:00:00Z", "<invalid>"),
        ("2026-11-24T11:00:00", "<invalid>"),
        ("2026-11-24t11:00:00z", "<invalid>"),
        ("2026-11-24T11:00Z", "<invalid>"),
        ("20261124T110000Z", "<invalid>"),
        ("0001-01-01T00:00:00Z", "<unknown>"),
        ("2026-11-24T11:00:00Z" + "x" * 100, "<invalid>"),
        ("", "<unknown>"),
        (None, "<unknown>"),
        (5, "<invalid>"),
    ],
)
def test_only_times_have_an_age(text: object, expected: str) -> None:
    """RFC 3339, and no other form of ISO 8601."""
    assert expected == age(text, NOW)


def test_a_time_is_written_as_in_metadata() -> None:
    """In UTC, in whole seconds."""
    assert "2026-11-24T12:00:00Z" == write_time(NOW + timedelta(microseconds=5))
