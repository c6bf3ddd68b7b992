"""The reading for feeds that are behind, without a Kafka."""

import asyncio
from typing import Any

import pytest

from headrace.adapters.kafka.channel_reader.assigned_consumer import AssignedConsumer
from headrace.adapters.kafka.channel_reader.catch_up import (
    TOGETHER_SECONDS,
    TOGETHER_SECONDS_MAX,
    CatchUp,
)
from headrace.adapters.kafka.channel_reader.event_matcher import EventMatcher
from headrace.adapters.kafka.channel_reader.record_guard import NoGuard
from headrace.adapters.kafka.channel_reader.subscription_feed import SubscriptionFeed
from headrace.adapters.kafka.consumer.alarms import ConsumerAlarm
from headrace.adapters.kafka.consumer.config import ConsumerConfig
from headrace.adapters.kafka.consumer.positions import Position
from headrace.adapters.kafka.consumer.shared_resources import SharedConsumerResources
from headrace.domain.feed import AlarmKind, FeedAlarm, FeedBounds, FeedConfig
from headrace.domain.record import Partition
from tests.contract.feeds import RecordingListener
from tests.support.wait_until import wait_until_async
from tests.unit.adapters.kafka.channel_reader.memory_offsets import (
    CHANNEL,
    OPTIONS,
    MemoryOffsets,
    OpenedReader,
)
from tests.unit.adapters.kafka.channel_reader.test_subscription_feed import RecordedReader


class ReaderWithFeedsBehind:
    """A `Reader` whose feeds are behind."""

    def __init__(self, behind: int) -> None:
        self._behind = behind

    def behind(self, number: int) -> int:
        """See the protocol."""
        return self._behind

    def goal(self, number: int) -> int:
        """See the protocol."""
        return 1_000

    def caught_up(self, feed: SubscriptionFeed, number: int) -> None: ...
    def log_is_shorter(self, number: int) -> None: ...


@pytest.mark.parametrize(
    ("behind", "seconds"), [(1, TOGETHER_SECONDS), (1_000, TOGETHER_SECONDS_MAX)]
)
async def test_a_feed_waits_for_those_that_are_behind(
    shared: SharedConsumerResources, behind: int, seconds: float
) -> None:
    """Not for all of the reader: with a hundred subscriptions, one that is full again and again
    would be read for seven times in a second.
    """
    config = ConsumerConfig(options=OPTIONS, group="reader", topics=("channel",))
    catch_up = CatchUp(config, shared, ReaderWithFeedsBehind(behind), EventMatcher(NoGuard()))
    feed = SubscriptionFeed(
        FeedConfig(group="group", topics=("channel",), bounds=FeedBounds()),
        RecordedReader(),
        lambda _: None,
    )
    now = asyncio.get_running_loop().time()
    catch_up.request(feed, 0)
    assert catch_up._timers[0].when() - now == pytest.approx(seconds, abs=0.001)
    catch_up.close()


async def test_a_failed_consumer_is_an_alarm_of_the_feeds_that_it_reads_for(
    shared: SharedConsumerResources, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of one partition is not: the reader of the channel reports it for all feeds."""
    config = ConsumerConfig(options=OPTIONS, group="reader", topics=("channel",))
    catch_up = CatchUp(config, shared, ReaderWithFeedsBehind(0), EventMatcher(NoGuard()))
    consumer: Any = catch_up._consumer
    monkeypatch.setattr(consumer, "read", lambda *_: 1)
    alarms = list[FeedAlarm]()
    feed = SubscriptionFeed(
        FeedConfig(group="group", topics=("channel",), bounds=FeedBounds()),
        RecordedReader(),
        alarms.append,
    )
    feed.start(RecordingListener())
    feed.assign(Position(Partition("channel", 0), 5, ""))
    catch_up.request(feed, 0)
    await wait_until_async(lambda: catch_up._turns, 5, "a turn")
    catch_up.on_error(
        Partition("channel", 0), ConsumerAlarm(AlarmKind.UNAVAILABLE, "the leader moves")
    )
    catch_up.on_error(None, ConsumerAlarm(AlarmKind.REBUILT, "no answer", fatal=True))
    assert [(each.kind, each.detail) for each in alarms] == [(AlarmKind.REBUILT, "no answer")]
    catch_up.close()


async def test_a_log_that_has_become_shorter_begins_again_for_all_feeds(
    shared: SharedConsumerResources, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if only one that is behind notices: the events up to its position would be skipped, and
    the reader may have nothing to read now.
    """
    monkeypatch.setattr(AssignedConsumer, "read", lambda *_: 1)
    monkeypatch.setattr(AssignedConsumer, "stop_reading", lambda *_: None)
    first = Partition(CHANNEL, 0)
    offsets = MemoryOffsets()
    offsets.stored = {("behind", first): 700, ("ahead", first): 70_000}
    reader = OpenedReader(shared, offsets)
    listeners = RecordingListener(), RecordingListener()
    feeds = reader.open_feed("behind", listeners[0]), reader.open_feed("ahead", listeners[1])
    await reader.assign(0)
    await wait_until_async(lambda: reader._catch_up._turns, what="a turn")
    reader._catch_up.on_reset(first, 1, 0)
    assert [first] == list(reader._consumer.recreated_partitions)
    reader.read(0, [70_000])  # It was received before.
    reader._consumer.on_topic_recreated(first, 0, high_watermark=500)
    assert [0, 0] == [each.next_offset(0) for each in feeds]
    for each in listeners:
        assert ([], [AlarmKind.TOPIC_RECREATED]) == (
            each.records,
            [alarm.kind for alarm in each.alarms],
        )
