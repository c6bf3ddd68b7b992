"""The readers of one process, without a Kafka."""

import asyncio

import pytest

from headrace.adapters.kafka.channel_reader.channel_readers import ChannelReaders
from headrace.adapters.kafka.channel_reader.reader_consumer import ReaderConsumer
from headrace.adapters.kafka.channel_reader.subscription_feed import SubscriptionFeed
from headrace.adapters.kafka.consumer.config import ConsumerConfig
from headrace.adapters.kafka.consumer.feed import KafkaFeed
from headrace.adapters.kafka.consumer.shared_resources import SharedConsumerResources
from headrace.domain.feed import FeedBounds, FeedConfig
from tests.contract.feeds import RecordingListener
from tests.support.wait_until import wait_until_async
from tests.unit.adapters.kafka.channel_reader.memory_offsets import OPTIONS


async def test_a_reader_starts_when_all_before_it_have_left(
    shared: SharedConsumerResources, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last feed of a channel is closed and opened again, twice, while the first reader still
    drains. The second one never joined.
    """
    started: list[KafkaFeed] = []
    left = asyncio.Event()

    async def stop(consumer: KafkaFeed, **_: bool) -> None:
        if consumer in started:
            await left.wait()

    monkeypatch.setattr(ReaderConsumer, "start", lambda consumer, _: started.append(consumer))
    monkeypatch.setattr(ReaderConsumer, "stop", stop)
    readers, listener = ChannelReaders(shared), RecordingListener()

    def open_feed() -> SubscriptionFeed:
        config = FeedConfig(group="g", topics=("channel",), bounds=FeedBounds())
        defaults = ConsumerConfig(options=OPTIONS, group="", topics=())
        feed = readers.open(config, defaults, "dispatcher-0", listener.alarms.append)
        feed.start(listener)
        return feed

    first = open_feed()
    await wait_until_async(lambda: started, what="the first reader joins")
    stopping = asyncio.ensure_future(first.stop())
    await wait_until_async(lambda: not readers._by_topic, what="the first reader drains")
    await open_feed().stop()
    open_feed()
    for _ in range(10):
        await asyncio.sleep(0)
    assert 1 == len(started)
    left.set()
    await stopping
    await wait_until_async(lambda: 2 == len(started), what="the next reader joins")
    await readers.close()


async def test_topics_whose_last_feed_has_left_are_forgotten(
    shared: SharedConsumerResources,
) -> None:
    """Channels come and go as long as a process runs."""
    readers, listener = ChannelReaders(shared), RecordingListener()
    defaults = ConsumerConfig(options=OPTIONS, group="", topics=())
    for number in range(10):
        config = FeedConfig(group="g", topics=(f"channel-{number}",), bounds=FeedBounds())
        feed = readers.open(config, defaults, None, listener.alarms.append)
        feed.start(listener)
        feed.abandon()
    assert len(readers._closing) <= 1
    await readers.close()
