"""The consumer to which partitions are assigned from outside, without a Kafka: when it is replaced
by a new one.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from structlog.testing import capture_logs

from headrace.adapters.kafka.channel_reader import assigned_consumer
from headrace.adapters.kafka.channel_reader.assigned_consumer import AssignedConsumer
from headrace.adapters.kafka.consumer.alarms import ConsumerAlarm
from headrace.adapters.kafka.consumer.config import ConsumerConfig
from headrace.adapters.kafka.consumer.shared_resources import SharedConsumerResources
from headrace.adapters.kafka.options import KafkaOptions
from headrace.domain.feed import AlarmKind
from headrace.domain.record import Partition, StoredRecord
from tests.support.wait_until import wait_until_async

OPTIONS = KafkaOptions(bootstrap_servers="127.0.0.1:1", health_check_seconds=0.01)
PARTITION = Partition("retries", 0)


class ScriptedConsumer:
    """A consumer that receives nothing; `fail` is what its next poll does."""

    made: list["ScriptedConsumer"]
    fail: Callable[[], None] = staticmethod(lambda: None)
    answered = True

    def __init__(self, *_: object, **__: object) -> None:
        self.assigned: list[TopicPartition] = []
        self.closed = False
        self.made.append(self)

    def incremental_assign(self, partitions: list[TopicPartition]) -> None:
        self.assigned += partitions

    def consume(self, _count: int, _seconds: float) -> list[object]:
        # Only the first one fails.
        if self is self.made[0]:
            self.fail()
        return []

    def list_topics(self, _topic: str, timeout: float) -> None:
        if self is self.made[0] and not self.answered:
            raise KafkaException(KafkaError(KafkaError._ALL_BROKERS_DOWN))

    def close(self) -> None:
        self.closed = True


class RereadingListener:
    """Reads the partition again when the consumer was replaced, as the listeners do."""

    def __init__(self) -> None:
        self.alarms: list[tuple[Partition | None, ConsumerAlarm]] = []
        self.consumer: AssignedConsumer | None = None

    def on_records(
        self, partition: Partition, ticket: int, records: Sequence[StoredRecord], end: int | None
    ) -> int:
        """See the protocol."""
        return len(records)

    def on_reset(self, partition: Partition, ticket: int, low: int) -> None: ...

    def on_error(self, partition: Partition | None, alarm: ConsumerAlarm) -> None:
        """See the protocol."""
        self.alarms.append((partition, alarm))

    def on_restarted(self) -> None:
        """See the protocol."""
        assert self.consumer is not None
        self.consumer.read(PARTITION, 7)


class AnsweredTopicIds:
    """Another client, which is always answered."""

    answered_at = math.inf

    def close(self) -> None: ...


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> type[ScriptedConsumer]:
    """The class of the consumers that are created."""

    class Scripted(ScriptedConsumer):
        """Of one test."""

    Scripted.made = []
    monkeypatch.setattr(assigned_consumer, "Consumer", Scripted)
    monkeypatch.setattr(assigned_consumer, "_RESTART_SECONDS", 0.01)
    return Scripted


async def replaced(scripted: type[ScriptedConsumer]) -> ConsumerAlarm:
    """Read a partition until the consumer was replaced; return the alarm."""
    shared = replace(SharedConsumerResources.create(OPTIONS), topic_ids=AnsweredTopicIds())  # type: ignore[arg-type]
    config = ConsumerConfig(options=OPTIONS, group="reader", topics=("channel",))
    listener = RereadingListener()
    consumer = AssignedConsumer(config, shared, listener, purpose="retries of")
    listener.consumer = consumer
    try:
        consumer.read(PARTITION, 5)
        await wait_until_async(
            lambda: len(scripted.made) > 1 and scripted.made[1].assigned, 5, "a new consumer"
        )
    finally:
        consumer.close()
        assert await asyncio.to_thread(consumer.has_ended, 5)
    first, second = scripted.made
    assert [each.offset for each in first.assigned] == [5]
    assert [each.offset for each in second.assigned] == [7]
    await wait_until_async(lambda: first.closed and second.closed, 5, "both are closed")
    ((partition, alarm),) = listener.alarms
    assert partition is None
    return alarm


async def test_a_client_that_only_others_are_answered_is_replaced(
    scripted: type[ScriptedConsumer],
) -> None:
    """It may have forgotten its brokers, and reports nothing (decision 0011)."""
    scripted.answered = False
    alarm = await replaced(scripted)
    assert alarm.kind is AlarmKind.REBUILT
    assert "while another client did" in alarm.detail


async def test_a_client_that_fails_is_replaced(scripted: type[ScriptedConsumer]) -> None:
    def fail() -> None:
        raise KafkaException(KafkaError(KafkaError._TRANSPORT, "no answer"))

    scripted.fail = staticmethod(fail)
    alarm = await replaced(scripted)
    assert alarm.kind is AlarmKind.UNAVAILABLE
    assert alarm.detail == "_TRANSPORT: no answer; a new consumer is created in 0.01 s"


async def test_an_internal_error_does_not_end_the_thread(
    scripted: type[ScriptedConsumer],
) -> None:
    """It is logged with the next step."""

    def fail() -> None:
        raise ValueError("a bug")

    scripted.fail = staticmethod(fail)
    with capture_logs() as logs:
        alarm = await replaced(scripted)
    assert alarm.kind is AlarmKind.REBUILT
    assert alarm.detail.startswith("the consumer's thread failed with ValueError")
    (failed,) = [each for each in logs if each["event"] == "consumer_thread_failed"]
    assert failed["consumer"] == "retries of channel"
    assert "report this as a bug" in failed["next_step"]
