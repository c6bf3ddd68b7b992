"""Which alarms of many subscriptions are logged."""

from headrace.domain.feed import AlarmKind, FeedAlarm
from headrace.domain.record import Partition
from headrace_dispatcher.shared_alarms import _KNOWN_MAX, SharedAlarms


def alarm(detail: str, *, group: str = "g", partition: int | None = None) -> FeedAlarm:
    """Of this feed."""
    where = None if partition is None else Partition("t", partition)
    return FeedAlarm(
        kind=AlarmKind.UNAVAILABLE, group=group, detail=detail, partition=where, count=0
    )


def test_an_alarm_of_many_is_logged_once_in_ten_seconds() -> None:
    """With the number of others that had it since."""
    alarms = SharedAlarms()
    assert alarms.report(alarm("down", group="a"), 0.0) == 0
    assert [alarms.report(alarm("down", group="b"), 0.1) for _ in range(3)] == [None] * 3
    assert alarms.report(alarm("down", group="a"), 10.0) == 3
    assert alarms.report(alarm("down", group="a"), 20.0) == 0


def test_another_reason_and_a_partition_are_logged_at_once() -> None:
    alarms = SharedAlarms()
    assert alarms.report(alarm("down"), 0.0) == 0
    assert alarms.report(alarm("denied"), 0.0) == 0
    for _ in range(2):
        assert alarms.report(alarm("down", partition=1), 0.0) == 0


def test_the_reasons_that_are_known_are_bounded() -> None:
    alarms = SharedAlarms()
    for number in range(2 * _KNOWN_MAX):
        assert alarms.report(alarm(f"group g-{number}"), 0.0) == 0
    assert len(alarms._logged) <= _KNOWN_MAX
