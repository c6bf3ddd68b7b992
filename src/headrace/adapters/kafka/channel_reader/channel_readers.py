"""The channel readers of one process, one for each topic."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from headrace.adapters.kafka.channel_reader.channel_reader import ChannelReader
from headrace.adapters.kafka.channel_reader.record_guard import GuardFactory, no_guard
from headrace.adapters.kafka.channel_reader.subscription_feed import SubscriptionFeed
from headrace.adapters.kafka.consumer.config import ConsumerConfig
from headrace.adapters.kafka.consumer.shared_resources import SharedConsumerResources
from headrace.adapters.kafka.group_offsets.group_offsets import GroupOffsets
from headrace.adapters.kafka.group_offsets.topic_offsets import TopicOffsets
from headrace.domain.feed import FeedAlarm, FeedBounds, FeedConfig
from headrace.domain.reader_group import reader_group

READER_BOUNDS: Final = FeedBounds(records_max=512, bytes_max=2 * 1024 * 1024)


class ChannelReaders:
    """Opens feeds with the reader of their topic."""

    def __init__(self, shared: SharedConsumerResources, guard_of: GuardFactory = no_guard) -> None:
        self._shared = shared
        self._guard_of = guard_of
        self._offsets: GroupOffsets | None = None
        self._by_topic: dict[str, ChannelReader] = {}
        self._closing: dict[str, list[asyncio.Event]] = {}
        """Each is set when an earlier reader of the topic has left its group; forgotten some time
        later.
        """

    def open(
        self,
        config: FeedConfig,
        defaults: ConsumerConfig,
        instance: str | None,
        alarm: Callable[[FeedAlarm], None],
    ) -> SubscriptionFeed:
        """Open a feed; its reader starts with its first feed."""
        (own_topic,) = config.topics
        topic = config.assigned_with or own_topic
        reader = self._by_topic.get(topic)
        if reader is None:
            options = defaults.options
            if self._offsets is None:
                self._offsets = GroupOffsets(options)
            consumer = replace(
                defaults,
                group=reader_group(topic),
                topics=(topic,),
                bounds=READER_BOUNDS,
                instance=f"{instance}-{topic}" if instance else None,
            )
            reader = ChannelReader(
                consumer,
                self._shared,
                self._offsets,
                TopicOffsets(self._offsets.connections, options.bootstrap_servers),
                guard=self._guard_of(topic),
                previous=self._closing.get(topic, ()),
                on_closing=self._on_closing,
            )
            self._by_topic[topic] = reader
        return SubscriptionFeed(config, reader.reader_of(own_topic), alarm)

    def _on_closing(self, reader: ChannelReader) -> None:
        if self._by_topic.get(reader.topic) is reader:
            del self._by_topic[reader.topic]
            closing = {
                topic: [each for each in events if not each.is_set()]
                for topic, events in self._closing.items()
            }
            self._closing = {topic: events for topic, events in closing.items() if events}
            self._closing.setdefault(reader.topic, []).append(reader.closed)

    async def close(self) -> None:
        """Close the connections for offsets. The feeds were stopped before. Idempotent."""
        if self._offsets is not None:
            await self._offsets.close()
            self._offsets = None
