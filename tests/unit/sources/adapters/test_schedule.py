"""When cron expressions fire, changes of daylight saving time included."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from itertools import islice, takewhile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_sources.adapters.schedule import NAMES, Schedule
from headrace_sources.source import SourceFault


def times(expression: str, begin: str, count: int, timezone: str = "") -> list[str]:
    """The first times after `begin`, in UTC."""
    seconds = datetime.fromisoformat(begin).timestamp()
    found = islice(Schedule(expression, timezone).times_after(seconds), count)
    return [datetime.fromtimestamp(each, UTC).isoformat(timespec="seconds")[:19] for each in found]


def test_five_fields_are_minutes() -> None:
    """In UTC if no zone is named."""
    assert times("*/15 9 * * MON", "2026-11-29T00:00Z", 3) == [
        "2026-11-30T09:00:00",
        "2026-11-30T09:15:00",
        "2026-11-30T09:30:00",
    ]


def test_six_fields_begin_with_seconds() -> None:
    """A question mark is an asterisk."""
    assert times("*/20 0 0 ? * *", "2026-11-29T00:00Z", 3) == [
        "2026-11-29T00:00:20",
        "2026-11-29T00:00:40",
        "2026-11-30T00:00:00",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_names_stand_for_expressions(name: str) -> None:
    """All of them."""
    assert times(name, "2026-11-29T10:10Z", 3) == times(NAMES[name], "2026-11-29T10:10Z", 3)


@pytest.mark.parametrize("prefix", ["TZ=Asia/Tokyo ", "CRON_TZ=Asia/Tokyo "])
def test_a_prefix_names_the_zone(prefix: str) -> None:
    """The field `timezone` overrides it."""
    assert times(f"{prefix}0 9 * * *", "2026-11-29T12:00Z", 1) == ["2026-11-30T00:00:00"]
    assert times(f"{prefix}0 9 * * *", "2026-11-29T12:00Z", 1, "UTC") == ["2026-11-30T09:00:00"]


@pytest.mark.parametrize(
    ("expression", "zone", "begin", "expected"),
    [
        # Lisbon, 29 March 2026: 01:00 becomes 02:00, which is 01:00 UTC.
        ("30 1 * * *", "Europe/Lisbon", "2026-03-28T12:00Z", ["03-29T01:00", "03-30T00:30"]),
        ("0 30 1 * * *", "Europe/Lisbon", "2026-03-28T12:00Z", ["03-29T01:00", "03-30T00:30"]),
        ("30 * * * *", "Europe/Lisbon", "2026-03-29T00:00Z", ["03-29T00:30", "03-29T01:30"]),
        # Lisbon, 25 October 2026: 02:00 becomes 01:00, which is 01:00 UTC.
        ("30 1 * * *", "Europe/Lisbon", "2026-10-24T12:00Z", ["10-25T00:30", "10-26T01:30"]),
        ("30 * * * *", "Europe/Lisbon", "2026-10-25T00:00Z", ["10-25T00:30", "10-25T01:30"]),
        # New York, 8 March 2026: 02:00 becomes 03:00, which is 07:00 UTC.
        ("30 2 * * *", "America/New_York", "2026-03-07T12:00Z", ["03-08T07:00", "03-09T06:30"]),
        # New York, 1 November 2026: 02:00 becomes 01:00, which is 06:00 UTC.
        ("30 1 * * *", "America/New_York", "2026-10-31T12:00Z", ["11-01T05:30", "11-02T06:30"]),
        ("*/30 * * * *", "America/New_York", "2026-11-01T05:10Z", ["11-01T05:30", "11-01T06:00"]),
        # It is asked in the second of two equal hours, after the time came in the first one.
        ("45 1 * * *", "Europe/Lisbon", "2026-10-25T01:40Z", ["10-26T01:45", "10-27T01:45"]),
        ("45 1 * * *", "America/New_York", "2026-11-01T06:40Z", ["11-02T06:45", "11-03T06:45"]),
        # Two times of day that do not exist.
        ("0,30 1 * * *", "Europe/Lisbon", "2026-03-28T12:00Z", ["03-29T01:00", "03-30T00:00"]),
        # With seconds.
        ("9 30 1 * * *", "Europe/Lisbon", "2026-03-28T12:00Z", ["03-29T01:00", "03-30T00:30"]),
        ("9 30 1 * * *", "Europe/Lisbon", "2026-10-24T12:00Z", ["10-25T00:30", "10-26T01:30"]),
        ("9 30 2 * * *", "America/New_York", "2026-03-07T12:00Z", ["03-08T07:00", "03-09T06:30"]),
        ("9 30 1 * * *", "America/New_York", "2026-10-31T12:00Z", ["11-01T05:30", "11-02T06:30"]),
        ("9 30 * * * *", "America/New_York", "2026-11-01T05:10Z", ["11-01T05:30", "11-01T06:30"]),
        # An asterisk in the minutes: the whole hour comes twice, or not at all.
        ("*/30 1 * * *", "Europe/Lisbon", "2026-10-25T00:10Z", ["10-25T00:30", "10-25T01:00"]),
        ("*/30 1 * * *", "Europe/Lisbon", "2026-03-28T12:00Z", ["03-30T00:00", "03-30T00:30"]),
    ],
)
def test_the_clock_is_put_forward_and_back(
    expression: str, zone: str, begin: str, expected: list[str]
) -> None:
    """A time that does not exist comes when the clock is put forward, one that exists twice comes
    once, and what follows the elapsed time is not disturbed.
    """
    assert [each[5:16] for each in times(expression, begin, 2, zone)] == expected


def test_zones_do_not_depend_on_the_machine() -> None:
    """A slim container image has no zone files."""
    program = (
        "from headrace_sources.adapters.schedule import Schedule\n"
        "print(int(next(Schedule('0 9 * * *', 'Europe/Lisbon').times_after(1785542400))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONTZPATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (0, "") == (done.returncode, done.stderr)
    assert "1785571200" == done.stdout.strip(), "8:00 UTC is 9:00 in summer"


@pytest.mark.parametrize(
    ("expression", "zone", "words"),
    [
        ("* * *", "", "Wrong number of fields"),
        ("61 * * * *", "", "Bad minute"),
        ("@every 5s", "", "unsupported descriptor @every"),
        ("* * * * *", "Mars/Base", "spec.timezone: Mars/Base"),
        ("* * * * *", "../etc/passwd", "spec.timezone"),
        ("TZ=Nowhere * * * * *", "", "spec.timezone: Nowhere"),
        ("0 0 30 2 *", "", "Bad day-of-month"),
        ("* * */20 * 1L", "", "never comes"),
    ],
)
def test_what_is_wrong_is_named(expression: str, zone: str, words: str) -> None:
    """With the field."""
    with pytest.raises(SourceFault, match=words):
        Schedule(expression, zone)


FIELDS = st.sampled_from(
    [
        "* * * * *",
        "*/7 * * * *",
        "13 4 * * *",
        "45 1 * * *",
        "0,20,40 1,2 * * *",
        "5 * * * * *",
        "5,10 15,45 1,2 * * *",
        "0 0 1 * 0",
    ]
)
ZONES = st.sampled_from(["UTC", "Europe/Lisbon", "America/New_York", "Australia/Lord_Howe"])
CHANGES = ["2026-03-29T01:00Z", "2026-10-25T01:00Z", "2026-03-08T07:00Z", "2026-11-01T06:00Z"]
BEGINS = st.integers(0, 4_000_000_000) | st.builds(
    lambda change, offset: int(datetime.fromisoformat(change).timestamp()) + offset,
    st.sampled_from(CHANGES),
    st.integers(-8_000, 8_000),
)


@given(begin=BEGINS, fields=FIELDS, zone=ZONES)
def test_times_increase(begin: int, fields: str, zone: str) -> None:
    """And all of them are after the given one."""
    found = [begin, *islice(Schedule(fields, zone).times_after(begin), 5)]
    assert sorted(set(found)) == found


@given(begin=BEGINS, fields=FIELDS, zone=ZONES, offset=st.integers(0, 20_000))
def test_times_do_not_depend_on_when_one_asks(
    begin: int, fields: str, zone: str, offset: int
) -> None:
    """Those after a later time are those of before, without the ones that have passed."""
    schedule, later = Schedule(fields, zone), begin + offset
    expected = [each for each in schedule.newest(begin, later + 20_000, 100_000) if each > later]
    assert schedule.newest(later, later + 20_000, 100_000) == expected


@given(
    begin=BEGINS, fields=FIELDS, zone=ZONES, seconds=st.floats(0, 20_000), count=st.integers(1, 9)
)
def test_the_newest_times_are_the_last_of_all(
    begin: int, fields: str, zone: str, seconds: float, count: int
) -> None:
    """With the end, without the beginning."""
    schedule, end = Schedule(fields, zone), begin + seconds
    every = list(takewhile(lambda each: each <= end, schedule.times_after(begin)))
    assert schedule.newest(begin, end, count) == every[-count:]


def test_the_newest_times_of_years_are_found_at_once() -> None:
    """Going through 150 million of them takes minutes."""
    end = 1_800_000_000.0
    found = Schedule("* * * * * *", "Europe/Lisbon").newest(end - 5 * 365 * 24 * 3600, end, 100)
    assert found == [end - 99 + each for each in range(100)]
