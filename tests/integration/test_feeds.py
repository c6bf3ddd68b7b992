"""What the feeds of a process query from Kafka in addition to their own records."""

import uuid

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from headrace.adapters.kafka.feeds_with_backlog import FeedsWithBacklog
from headrace.adapters.kafka.options import GroupProtocol, KafkaOptions
from headrace.domain.errors import LogUnavailable
from headrace.domain.record import Partition
from tests.support.kafka import KafkaUnderTest

pytestmark = pytest.mark.kafka


def produce(kafka: KafkaUnderTest, topic: str, count: int) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    for _ in range(count):
        producer.produce(topic, b"x")
    assert 0 == producer.flush(10)


async def test_backlog_is_what_a_group_has_not_committed(kafka: KafkaUnderTest) -> None:
    """That is the whole topic if there is no committed offset, the rest if there is one, and zero
    if the topic is empty or missing.
    """
    topic, empty, group = (
        kafka.create_topic("waiting"),
        kafka.create_topic("empty"),
        f"group-{uuid.uuid4().hex[:8]}",
    )
    produce(kafka, topic, 5)
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": group})
    consumer.commit(offsets=[TopicPartition(topic, 0, 3)], asynchronous=False)
    consumer.close()
    feeds = FeedsWithBacklog(KafkaOptions(bootstrap_servers=kafka.bootstrap_servers))
    try:
        found = await feeds.backlog(
            {group: [topic], "new": [topic], "idle": [empty], "lost": ["no-such-topic"]}
        )
        assert {group: 2, "new": 5, "idle": 0, "lost": 0} == {
            each: found.exactly(each) for each in found.waiting
        }
        assert {Partition(topic, 0): 2} == found.waiting[group]
    finally:
        await feeds.close()


async def test_kip_848_is_chosen_if_it_detects_a_dead_member_soon(kafka: KafkaUnderTest) -> None:
    """The test broker's consumer session is 6 s; a static member uses the classic protocol in any
    case.
    """
    options = KafkaOptions(bootstrap_servers=kafka.bootstrap_servers)
    chosen = {}
    for name, instance, choose in (
        ("dynamic", None, True),
        ("static", "pod-0", True),
        ("configured", None, False),
    ):
        feeds = FeedsWithBacklog(options, instance=instance, choose_protocol=choose)
        try:
            await feeds.prepare()
            chosen[name] = feeds.group_protocol
        finally:
            await feeds.close()
    assert {
        "dynamic": GroupProtocol.CONSUMER,
        "static": GroupProtocol.CLASSIC,
        "configured": GroupProtocol.CLASSIC,
    } == chosen


async def test_a_kafka_that_does_not_answer_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is temporary and names what could not be read."""
    monkeypatch.setattr("headrace.adapters.kafka.feeds_with_backlog.BACKLOG_SECONDS", 0.2)
    feeds = FeedsWithBacklog(KafkaOptions(bootstrap_servers="127.0.0.1:1"))
    try:
        with pytest.raises(LogUnavailable, match="did not answer a query about consumer groups"):
            await feeds.backlog({"group": ["topic"]})
    finally:
        await feeds.close()
