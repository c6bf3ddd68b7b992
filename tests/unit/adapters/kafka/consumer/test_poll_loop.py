"""What a consumer does when the client stops reading a partition, without a Kafka."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from confluent_kafka import KafkaError, TopicPartition

from headrace.adapters.kafka.consumer import poll_loop
from headrace.adapters.kafka.consumer.assignment import Assignment
from headrace.adapters.kafka.consumer.poll_loop import PollLoop
from headrace.adapters.kafka.consumer.positions import Position
from headrace.adapters.kafka.consumer.start_positions import PositionResolver, StartPositions
from headrace.domain.feed import AlarmKind, FeedAlarm, OutOfRange
from headrace.domain.record import Partition
from tests.support.wait_until import wait_until_async
from tests.unit.adapters.kafka.consumer.test_assignment import (
    OPTIONS,
    SlowListener,
    new_assignment,
)

PARTITION = Partition("topic", 0)
BEGIN = 5
LOW, HIGH = 2, 3
"""What the log has when a test reads it a second time."""


class ReceivedMessage:
    """A record, or an error of the client, with an offset."""

    def __init__(self, offset: int | None, code: int | None = None) -> None:
        self._offset, self._code = offset, code

    def error(self) -> KafkaError | None:
        return None if self._code is None else KafkaError(self._code)

    def topic(self) -> str:
        return PARTITION.topic

    def partition(self) -> int:
        return PARTITION.partition

    def offset(self) -> int | None:
        return self._offset

    def headers(self) -> None: ...
    def key(self) -> None: ...
    def value(self) -> bytes:
        return b"v"

    def timestamp(self) -> tuple[int, int]:
        return 1, 0


class AssignedOnce:
    """A consumer that is assigned one partition and then does what the test says."""

    def __init__(self, *_: object, **__: object) -> None:
        self.steps: deque[Callable[[], ReceivedMessage | None]] = deque()
        self.more: list[ReceivedMessage] = []
        """What is received together with the next message."""
        self.log = (LOW, HIGH)
        self.positions: list[int] = []

    def subscribe(self, _: object, *, on_assign: Callable[..., None], **__: object) -> None:
        self.steps.appendleft(lambda: on_assign(self, [TopicPartition(*PARTITION)]))

    def poll(self, _: float) -> ReceivedMessage | None:
        return self.steps.popleft()()

    def consume(self, *_: object) -> list[ReceivedMessage]:
        more, self.more = self.more, []
        return more

    def incremental_assign(self, partitions: Sequence[TopicPartition]) -> None:
        self.positions += [each.offset for each in partitions if each.offset >= 0]

    def get_watermark_offsets(self, *_: object, **__: object) -> tuple[int, int]:
        return self.log

    def __getattr__(self, _: str) -> Callable[..., None]:
        return lambda *_, **__: None


class BeginsAnywhere(PositionResolver):
    """Begins at a position that the group has not committed."""

    moves_positions = True

    def resolve(self, consumer: Any, *_: object) -> StartPositions:
        """See the base class."""
        self.read_from(consumer, PARTITION, BEGIN)
        return StartPositions([Position(PARTITION, BEGIN, "")], {PARTITION: BEGIN}, [])


OUT_OF_RANGE = KafkaError._AUTO_OFFSET_RESET
PARTITION_END = KafkaError._PARTITION_EOF
SEEK = "seek"


def new_loop(monkeypatch: pytest.MonkeyPatch, assignment: Assignment) -> tuple[PollLoop, Any]:
    """A loop, and its consumer, to which the partition is assigned."""
    monkeypatch.setattr(poll_loop, "Consumer", AssignedOnce)
    monkeypatch.setattr(
        assignment, "position_resolver", lambda: BeginsAnywhere(policy=OutOfRange.EARLIEST)
    )
    loop = PollLoop(assignment, {})
    return loop, loop._consumer


@pytest.mark.parametrize(
    ("received", "positions"),
    [
        pytest.param([(BEGIN, OUT_OF_RANGE)], [BEGIN], id="nothing is committed"),
        pytest.param([(BEGIN, OUT_OF_RANGE)] * 2, [BEGIN, LOW], id="it is not in the log"),
        pytest.param([(BEGIN, None), (BEGIN + 1, OUT_OF_RANGE)], [LOW], id="after a record"),
        pytest.param([(BEGIN, PARTITION_END), (BEGIN, OUT_OF_RANGE)], [LOW], id="after the end"),
        pytest.param([(9, SEEK), (9, OUT_OF_RANGE)], [9, 9], id="after a seek"),
    ],
)
async def test_only_the_first_report_is_that_nothing_is_committed(
    monkeypatch: pytest.MonkeyPatch, received: list[tuple[int, Any]], positions: list[int]
) -> None:
    """The client may report that while the position is determined. Once something was read, the log
    has become shorter: it is read from its start.
    """
    assignment = new_assignment(SlowListener(), [])
    loop, consumer = new_loop(monkeypatch, assignment)

    def receive(offset: int, code: int | None) -> Callable[[], ReceivedMessage]:
        return lambda: ReceivedMessage(offset, code)

    def seek(offset: int) -> Callable[[], None]:
        def send() -> None:
            assignment.channel.take_over([PARTITION])
            assignment.channel.seek(Position(PARTITION, offset, ""))

        return send

    for offset, code in received:
        consumer.steps.append(seek(offset) if code == SEEK else receive(offset, code))
    consumer.steps.append(assignment.channel.abandon)
    loop.run(OPTIONS.credentials.age("of the test"))
    assert consumer.positions == [BEGIN, *positions]


async def test_a_partition_that_is_assigned_again_does_not_begin_once_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its topic was created again, which was noticed just before it was given back. The alarm says
    so all the same.
    """
    alarms: list[FeedAlarm] = []
    monkeypatch.setattr(poll_loop, "Consumer", AssignedOnce)
    assignment = new_assignment(SlowListener(), alarms)
    monkeypatch.setattr(
        assignment, "position_resolver", lambda: BeginsAnywhere(policy=OutOfRange.EARLIEST)
    )
    loop = PollLoop(assignment, {})
    assignment.recreated_partitions.append(PARTITION)
    monkeypatch.setattr(loop._rebalance, "owned", {PARTITION})
    loop._rebalance.newly_assigned = {PARTITION}
    loop._initialise_assigned()
    loop._report_high_watermarks()
    consumer: Any = loop._consumer
    assert [BEGIN] == consumer.positions
    await wait_until_async(lambda: alarms, what="an alarm")
    assert [AlarmKind.TOPIC_RECREATED] == [each.kind for each in alarms]


@pytest.mark.parametrize(
    ("log", "sought", "kind", "count", "lag"),
    [
        pytest.param((LOW, HIGH), 7, AlarmKind.TOPIC_RECREATED, 0, HIGH - LOW, id="shorter"),
        pytest.param((LOW, HIGH), None, AlarmKind.TOPIC_RECREATED, 0, HIGH - LOW, id="truncated"),
        pytest.param((20, 30), 7, AlarmKind.EXPIRED, 13, 12, id="expired"),
    ],
)
async def test_what_is_read_before_an_error_is_handed_out_before_it(
    monkeypatch: pytest.MonkeyPatch,
    log: tuple[int, int],
    sought: int | None,
    kind: AlarmKind,
    count: int,
    lag: int,
) -> None:
    """They are received together. Records of a log are no progress in the one that follows it, and
    what was read is not lost.
    """
    listener, alarms = SlowListener(), list[FeedAlarm]()
    assignment = new_assignment(listener, alarms)
    loop, consumer = new_loop(monkeypatch, assignment)
    consumer.log = log
    consumer.more = [
        ReceivedMessage(BEGIN + 1),
        ReceivedMessage(BEGIN + 2, PARTITION_END),
        ReceivedMessage(sought, OUT_OF_RANGE),
    ]
    consumer.steps += [lambda: ReceivedMessage(BEGIN), assignment.channel.abandon]
    loop.run(OPTIONS.credentials.age("of the test"))
    await wait_until_async(lambda: alarms, what="an alarm")
    assert [BEGIN, BEGIN + 1] == [each.offset for each in listener.records]
    assert [(kind, count)] == [(each.kind, each.count) for each in alarms]
    assert lag == assignment.lag()[PARTITION].records
    assignment.close()


async def test_what_was_asked_before_a_partition_is_assigned_again_is_not_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is lost and assigned in one poll: it would stay paused, be read from an old position, and
    its offset would go back.
    """
    assignment = new_assignment(SlowListener(), [])
    loop, consumer = new_loop(monkeypatch, assignment)
    rebalance, client = loop._rebalance, [TopicPartition(*PARTITION)]
    done: list[str] = []
    for name in ("pause", "commit"):
        monkeypatch.setattr(
            consumer, name, lambda *_, name=name, **__: done.append(name), raising=False
        )

    def ask() -> None:
        assignment.pause(PARTITION)
        assignment.channel.seek(Position(PARTITION, 9, ""))
        assignment.channel.commit([Position(PARTITION, 7, "")])

    def assign_again() -> None:
        ask()
        rebalance._on_lost(consumer, client)
        rebalance._on_assign(consumer, client)

    rebalance.subscribe(consumer, [PARTITION.topic])
    loop._poll_once()
    await wait_until_async(lambda: assignment.has_partitions, what="it is taken over")
    consumer.steps += [assign_again, lambda: None, lambda: None]
    loop._poll_once()
    loop._poll_once()
    assert ([BEGIN, BEGIN], []) == (consumer.positions, done)
    await wait_until_async(
        lambda: assignment.channel.commands, what="it is taken over a second time"
    )
    ask()
    loop._poll_once()
    assert ([BEGIN, BEGIN, 9], ["pause", "pause", "commit"]) == (consumer.positions, done)
    assignment.close()


async def test_the_commands_for_a_consumer_that_has_ended_are_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not that its partitions were taken over: those of the next one would wait for it."""
    assignment = new_assignment(SlowListener(), [])
    loop, consumer = new_loop(monkeypatch, assignment)
    loop._rebalance.subscribe(consumer, [PARTITION.topic])
    loop._poll_once()
    await wait_until_async(lambda: assignment.has_partitions, what="it is taken over")
    assignment.pause(PARTITION)
    assert not loop._is_current(PARTITION)
    assignment.channel.clear()
    assert loop._is_current(PARTITION)
    assert not assignment.channel.commands
    assignment.close()
