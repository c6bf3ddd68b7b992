"""The reading for feeds that are behind, without a Kafka."""

import asyncio
from collections.abc import Iterator

import pytest

from headrace.adapters.kafka.channel_reader.catch_up import (
    TOGETHER_SECONDS,
    TOGETHER_SECONDS_MAX,
    CatchUp,
)
from headrace.adapters.kafka.channel_reader.event_matcher import EventMatcher
from headrace.adapters.kafka.channel_reader.record_guard import NoGuard
from headrace.adapters.kafka.channel_reader.subscription_feed import SubscriptionFeed
from headrace.adapters.kafka.consumer.config import ConsumerConfig
from headrace.adapters.kafka.consumer.shared_resources import SharedConsumerResources
from headrace.adapters.kafka.options import KafkaOptions
from headrace.domain.feed import FeedBounds, FeedConfig
from tests.unit.adapters.kafka.channel_reader.test_subscription_feed import RecordedReader

OPTIONS = KafkaOptions(bootstrap_servers="127.0.0.1:1")


class ReaderWithFeedsBehind:
    """A `Reader` whose feeds are behind."""

    def __init__(self, behind: int) -> None:
        self._behind = behind

    def behind(self, number: int) -> int:
        """See the protocol."""
        return self._behind

    def position(self, number: int) -> int:
        """See the protocol."""
        return 1_000

    def caught_up(self, feed: SubscriptionFeed, number: int) -> None: ...


@pytest.fixture
def shared() -> Iterator[SharedConsumerResources]:
    resources = SharedConsumerResources.create(OPTIONS)
    yield resources
    resources.close()


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
