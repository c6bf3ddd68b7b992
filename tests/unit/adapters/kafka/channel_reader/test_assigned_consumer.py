"""The consumer to which partitions are assigned from outside, without a Kafka: when it is replaced
by a new one.
"""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from structlog.testing import capture_logs

from headrace.adapters.kafka.channel_reader import assigned_consumer
from headrace.adapters.kafka.channel_reader.assigned_consumer import (
    AssignedConsumer,
    AssignedConsumerListener,
)
from headrace.adapters.kafka.consumer.alarms import ConsumerAlarm
from headrace.adapters.kafka.consumer.config import ConsumerConfig
from headrace.adapters.kafka.consumer.shared_resources import SharedConsumerResources
from headrace.adapters.kafka.options import KafkaOptions
from headrace.domain.feed import AlarmKind
from headrace.domain.record import Partition, StoredRecord
from tests.support.wait_until import wait_until_async
from tests.unit.adapters.kafka.consumer import test_poll_loop as poll_loop
from tests.unit.adapters.kafka.consumer.test_poll_loop import (
    OUT_OF_RANGE,
    PARTITION_END,
    ReceivedMessage,
)

OPTIONS = KafkaOptions(bootstrap_servers="127.0.0.1:1", health_check_seconds=0.01)
PARTITION = Partition("retries", 0)


class ScriptedConsumer:
    """A consumer that receives these messages; `fail` is what its next poll does."""

    made: list["ScriptedConsumer"]
    fail: Callable[[], None] = staticmethod(lambda: None)
    received: Sequence[ReceivedMessage] = ()
    answered = True

    def __init__(self, settings: Mapping[str, Any], **_: object) -> None:
        self.settings = settings
        self.assigned: list[TopicPartition] = []
        self.closed = False
        self.made.append(self)

    def incremental_assign(self, partitions: list[TopicPartition]) -> None:
        self.assigned += partitions

    def consume(self, _count: int, _seconds: float) -> list[object]:
        # Only the first one fails.
        if self is self.made[0]:
            self.fail()
        received, self.received = self.received, ()
        return list(received)

    def get_watermark_offsets(self, *_: object, **__: object) -> tuple[int, int]:
        return 20, 30

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


def new_consumer(listener: AssignedConsumerListener) -> AssignedConsumer:
    shared = replace(SharedConsumerResources.create(OPTIONS), topic_ids=AnsweredTopicIds())  # type: ignore[arg-type]
    config = ConsumerConfig(options=OPTIONS, group="reader", topics=("channel",))
    return AssignedConsumer(config, shared, listener, purpose="retries of")


async def replaced(scripted: type[ScriptedConsumer]) -> ConsumerAlarm:
    """Read a partition until the consumer was replaced; return the alarm."""
    listener = RereadingListener()
    consumer = listener.consumer = new_consumer(listener)
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


class WaitingListener(RereadingListener):
    """Takes one record at a time, if it has room."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[object] = []
        self.room = 0

    def on_records(
        self, partition: Partition, ticket: int, records: Sequence[StoredRecord], end: int | None
    ) -> int:
        """See the protocol."""
        if not self.room:
            return 0
        self.room -= 1
        self.calls += [records[0].offset, *([("end", end)] if len(records) == 1 else [])]
        return 1

    def on_reset(self, partition: Partition, ticket: int, low: int) -> None:
        """See the protocol."""
        self.calls.append(("low", low))


async def test_a_log_is_reset_after_what_was_read_before_that(
    scripted: type[ScriptedConsumer],
) -> None:
    """Also if there was no room for it: it would be lost, or be progress in another log."""
    scripted.received = [
        ReceivedMessage(5),
        ReceivedMessage(6),
        ReceivedMessage(7, PARTITION_END),
        ReceivedMessage(7, OUT_OF_RANGE),
    ]
    listener = WaitingListener()
    consumer = new_consumer(listener)
    try:
        consumer.read(poll_loop.PARTITION, 5)
        await wait_until_async(lambda: len(consumer._kept) == 2, 5, "all is received")
        assert listener.calls == []
        for _ in range(2):
            listener.room = 1
            consumer.offer_again()
        assert listener.calls == [5, 6, ("end", 7), ("low", 20)]
        assert (consumer._flow.records, consumer._flow.bytes) == (0, 0)
    finally:
        consumer.close()
        assert await asyncio.to_thread(consumer.has_ended, 5)


async def test_errors_are_counted_as_those_of_other_consumers(
    scripted: type[ScriptedConsumer],
) -> None:
    """Errors of a partition, and of the client."""
    before = OPTIONS.measurements.errors()
    scripted.received = [ReceivedMessage(5, KafkaError.NOT_LEADER_FOR_PARTITION)]
    listener = RereadingListener()
    consumer = new_consumer(listener)
    try:
        consumer.read(poll_loop.PARTITION, 5)
        await wait_until_async(lambda: listener.alarms, 5, "an alarm")
        scripted.made[0].settings["error_cb"](KafkaError(KafkaError._TRANSPORT))
    finally:
        consumer.close()
        assert await asyncio.to_thread(consumer.has_ended, 5)
    counted = OPTIONS.measurements.errors()
    assert {
        ("consumer", "NOT_LEADER_FOR_PARTITION"): 1,
        ("consumer", "_TRANSPORT"): 1,
    } == {key: count - before.get(key, 0) for key, count in counted.items()}
