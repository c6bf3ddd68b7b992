"""The readers of one process, without a Kafka."""

from headrace.adapters.kafka.channel_reader.channel_readers import ChannelReaders
from headrace.adapters.kafka.consumer.config import ConsumerConfig
from headrace.adapters.kafka.consumer.shared_resources import SharedConsumerResources
from headrace.domain.feed import FeedBounds, FeedConfig
from tests.contract.feeds import RecordingListener
from tests.unit.adapters.kafka.channel_reader.memory_offsets import OPTIONS


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
