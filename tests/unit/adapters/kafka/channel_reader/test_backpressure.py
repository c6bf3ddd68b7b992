"""When a reader waits for feeds that have no room, without a Kafka."""

import pytest

from headrace.adapters.kafka.channel_reader.backpressure import Backpressure
from headrace.adapters.kafka.channel_reader.subscription_feed import SubscriptionFeed
from tests.contract.feeds import RecordingListener
from tests.support.wait_until import wait_until_async
from tests.unit.adapters.kafka.channel_reader.test_subscription_feed import give, open_feed

LONG = 60.0


def feed_with(records: int) -> tuple[SubscriptionFeed, RecordingListener]:
    """A feed with room for four records, of which so many are in use."""
    feed, _, listener = open_feed(records_max=4)
    give(feed, 0, *range(records))
    return feed, listener


@pytest.fixture
def overdue() -> list[bool]:
    """An entry for each time that feeds with room have waited for too long."""
    return []


@pytest.fixture
async def backpressure(overdue: list[bool]) -> Backpressure:
    """With a long time to wait."""
    return Backpressure(LONG, lambda: overdue.append(True))


async def test_nothing_is_waited_for_if_all_was_taken(backpressure: Backpressure) -> None:
    feed, _ = feed_with(4)
    assert not backpressure.begin([feed], [])
    assert not backpressure.waiting


async def test_the_only_feed_is_waited_for(backpressure: Backpressure) -> None:
    """However long that takes."""
    feed, _ = feed_with(4)
    assert backpressure.begin([feed], [feed])
    assert backpressure.waiting
    assert backpressure._timer is None


async def test_a_feed_with_room_for_the_rest_is_not_left_behind(
    backpressure: Backpressure,
) -> None:
    """It was offered more than it takes at once: it takes the rest a moment later, which harms no
    feed without records. That one has nothing to report.
    """
    asked, _ = feed_with(1)
    short, _ = feed_with(0)
    assert backpressure.begin([asked, short], [asked])
    assert (backpressure.waiting, short.full) == (True, False)


async def test_a_feed_that_would_go_short_is_not_made_to_wait(backpressure: Backpressure) -> None:
    """It has half of its room free, whether it has records or not."""
    full, _ = feed_with(4)
    for records in (0, 2):
        short, _ = feed_with(records)
        assert not backpressure.begin([full, short], [full])
        assert (backpressure.waiting, short.full) == (False, False)


async def test_each_feed_reports_its_room(backpressure: Backpressure) -> None:
    """Also one that had room for all: the reader reads on for it when it goes short."""
    full, _ = feed_with(4)
    busy, listener = feed_with(3)
    assert backpressure.begin([full, busy], [full])
    assert busy.full
    listener.finish(listener.records[:1])
    assert not busy.full


async def test_a_feed_with_room_waits_for_a_time(overdue: list[bool]) -> None:
    """After that the one without room is left behind; then the time starts again."""
    full, _ = feed_with(4)
    busy, _ = feed_with(3)
    backpressure = Backpressure(0.01, lambda: overdue.append(True))
    assert backpressure.begin([full, busy], [full])
    await wait_until_async(lambda: bool(overdue), 5, "the time is over")
    assert not backpressure.waiting
    assert not backpressure.begin([full, busy], [full])
    assert backpressure.begin([full, busy], [full])
    backpressure.end()


async def test_a_time_that_was_over_does_not_count_after_all_was_taken(
    overdue: list[bool],
) -> None:
    full, _ = feed_with(4)
    busy, _ = feed_with(3)
    backpressure = Backpressure(0.01, lambda: overdue.append(True))
    assert backpressure.begin([full, busy], [full])
    await wait_until_async(lambda: bool(overdue), 5, "the time is over")
    assert not backpressure.begin([full, busy], [])
    assert backpressure.begin([full, busy], [full])
    backpressure.end()


async def test_an_end_stops_the_time(backpressure: Backpressure) -> None:
    full, _ = feed_with(4)
    busy, _ = feed_with(3)
    assert backpressure.begin([full, busy], [full])
    timer = backpressure._timer
    assert timer is not None
    for _ in range(2):
        backpressure.end()
    assert timer.cancelled()
