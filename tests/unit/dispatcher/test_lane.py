"""A lane: which deliveries start, which wait, and which are given back to the feed."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

from headrace.adapters.memory.feed import MemoryFeed, MemoryGroups
from headrace.adapters.memory.log import MemoryLog
from headrace.domain.delivery import Outcome
from headrace.domain.feed import FeedBounds
from headrace.domain.lanes import Ordered, Unordered
from headrace.domain.record import Partition, StoredRecord
from headrace.runtime.clock import SystemClock
from headrace_dispatcher.attempt_result import COMPLETED, AttemptResult, WaitInPlace
from headrace_dispatcher.delivery import Delivery
from headrace_dispatcher.gate import OpenGate
from headrace_dispatcher.lane import Lane
from headrace_dispatcher.retrying_log import RetryingLog
from tests.support.wait_until import wait_until_async

PARTITIONS = 3


class RecordingFeed(MemoryFeed):
    """An in-memory feed of one topic with three partitions that records the calls to it."""

    def __init__(self) -> None:
        self.log = MemoryLog()
        self.log.create("topic", PARTITIONS)
        groups = MemoryGroups(self.log)
        for number in range(PARTITIONS):
            groups.commit("group", Partition("topic", number), offset=0)
        super().__init__(
            groups, group="group", topics=["topic"], bounds=FeedBounds(records_max=10_000)
        )
        self.finished: list[int] = []
        self.paused: set[Partition] = set()

    def done(self, record: StoredRecord) -> None:
        self.finished.append(number_of(record))
        super().done(record)

    def pause(self, partition: Partition) -> None:
        self.paused.add(partition)
        super().pause(partition)

    def resume(self, partition: Partition) -> None:
        self.paused.discard(partition)
        super().resume(partition)

    async def publish(self, *records: StoredRecord) -> None:
        """Store these records and wait until all that are not paused are handed out."""
        for record in records:
            partition = self.log.topics["topic"][record.partition]
            partition.append(replace(record, offset=len(partition)))
        self.schedule()
        await wait_until_async(self._caught_up, what="the records are handed out", every=0.0)

    def _caught_up(self) -> bool:
        ends = {
            Partition("topic", number): len(records)
            for number, records in enumerate(self.log.topics["topic"])
        }
        return all(
            self._states[each].tracker.next == end
            for each, end in ends.items()
            if each not in self.paused
        )


class LaneListener:
    """Passes records of a feed directly to a lane, as an intake does."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    def on_records(self, records: Sequence[StoredRecord]) -> None:
        self._lane.offer(records)

    def on_revoked(self, partitions: Collection[Partition], drained: Callable[[], None]) -> None:
        self._lane.withdraw(partitions, drained)

    def on_lost(self, partitions: Collection[Partition]) -> None:
        self._lane.abandon(partitions)

    def on_membership_unconfirmed(self, unconfirmed: bool) -> None:
        self._lane.set_suspended(unconfirmed)


@dataclass
class CancelledAttempt:
    """A request that can be cancelled."""

    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class ScriptedHandler:
    """A handler that sends nothing; the test decides when a delivery ends."""

    due_in: Callable[[StoredRecord], float] = lambda record: 0.0
    sent: list[Delivery] = field(default_factory=list)
    answered: dict[Delivery, Callable[[Outcome], None]] = field(default_factory=dict)
    results: dict[Delivery, AttemptResult] = field(default_factory=dict)

    def prepare(self, delivery: Delivery) -> float:
        return self.due_in(delivery.record)

    def send(self, delivery: Delivery, answered: Callable[[Outcome], None]) -> None:
        delivery.request = CancelledAttempt()
        self.sent.append(delivery)
        self.answered[delivery] = answered

    def conclude(self, delivery: Delivery, outcome: Outcome) -> AttemptResult:
        return self.results.pop(delivery, COMPLETED)

    def numbers(self) -> list[int]:
        return [number_of(delivery.record) for delivery in self.sent]

    def end(self, number: int) -> None:
        self.complete(next(each for each in self.sent if number_of(each.record) == number))

    def complete(self, delivery: Delivery, result: AttemptResult = COMPLETED) -> None:
        """Complete the request of a delivery with this result."""
        self.results[delivery] = result
        self.answered[delivery](Outcome(status=200))


def record(number: int, *, key: bytes | None = None, partition: int = 0) -> StoredRecord:
    """Return a record that is identified by its number, not by where it is stored."""
    return StoredRecord("topic", partition, number, 0, key, b"%d" % number, ())


def number_of(record: StoredRecord) -> int:
    return int(record.value or b"")


async def lane_of(
    handler: ScriptedHandler, *, lanes: Unordered | Ordered | None = None
) -> tuple[Lane, RecordingFeed]:
    feed = RecordingFeed()
    lane = Lane(
        feed=feed,
        lanes=lanes or Unordered(2),
        handler=handler,
        gate=OpenGate(),
        clock=SystemClock(),
        retrying_log=RetryingLog(feed.log),
    )
    feed.start(LaneListener(lane))
    await wait_until_async(
        lambda: len(feed.partitions()) == PARTITIONS, what="the feed has its partitions"
    )
    return lane, feed


async def test_sends_no_more_than_its_concurrency() -> None:
    """The third record starts when one of the first two has ended."""
    handler = ScriptedHandler()
    _, feed = await lane_of(handler)
    await feed.publish(record(0), record(1), record(2))
    assert [0, 1] == handler.numbers()
    handler.end(1)
    await asyncio.sleep(0)
    assert [0, 1, 2] == handler.numbers()
    assert [1] == feed.finished


async def test_nothing_starts_while_membership_is_unconfirmed() -> None:
    """Neither new records nor the next record of a key start. Requests in flight end, and
    afterwards everything continues in order.
    """
    handler = ScriptedHandler()
    lane, feed = await lane_of(handler, lanes=Ordered(4))
    await feed.publish(record(0, key=b"k"), record(1, key=b"k"))
    lane.set_suspended(True)
    handler.end(0)
    await feed.publish(record(2, key=b"other"))
    assert [0] == handler.numbers()
    assert [0] == feed.finished
    feed.verify_membership()
    await wait_until_async(
        lambda: [0, 1, 2] == sorted(handler.numbers()), what="the group has confirmed"
    )


async def test_a_delivery_that_waits_makes_room_for_others() -> None:
    """A delivery that is not due yet does not count for the concurrency, and continues when it is
    due.
    """
    handler = ScriptedHandler(due_in=lambda each: 0.05 if number_of(each) == 0 else 0.0)
    _, feed = await lane_of(handler, lanes=Unordered(1))
    await feed.publish(record(0), record(1))
    assert [1] == handler.numbers()
    handler.end(1)
    await wait_until_async(lambda: handler.numbers() == [1, 0], what="the waiting record is sent")


async def test_a_thousand_records_that_wait_do_not_exhaust_the_stack() -> None:
    """After a restart with a full retry topic, nothing may be due."""
    handler = ScriptedHandler(due_in=lambda each: 60.0)
    lane, feed = await lane_of(handler, lanes=Unordered(4))
    await feed.publish(*(record(number) for number in range(5000)))
    assert [] == handler.sent
    lane.close()


async def test_withdrawal_waits_for_what_is_being_sent_and_commits_it() -> None:
    """Partitions are given back when their requests have ended, which count as done. Waiting
    deliveries are dropped.
    """
    handler = ScriptedHandler()
    lane, feed = await lane_of(handler)
    await feed.publish(record(0), record(1, partition=1))
    await feed.publish(record(2))
    returned: list[str] = []
    lane.withdraw([Partition("topic", 0)], lambda: returned.append("0"))
    assert [] == returned
    handler.end(0)
    assert ["0"] == returned
    assert [0] == feed.finished
    assert [0, 1] == handler.numbers()


async def test_an_idle_partition_is_given_back_at_once() -> None:
    """Without requests in flight, there is nothing to wait for."""
    lane, _ = await lane_of(ScriptedHandler())
    returned: list[str] = []
    lane.withdraw([Partition("topic", 7)], lambda: returned.append("7"))
    assert ["7"] == returned


async def test_abandoned_requests_are_cancelled_and_never_reported() -> None:
    """A record of a lost partition is not marked as done, regardless of the result of its
    request.
    """
    handler = ScriptedHandler()
    lane, feed = await lane_of(handler)
    await feed.publish(record(0), record(1, partition=1))
    request = handler.sent[0].request
    lane.abandon([Partition("topic", 0)])
    assert isinstance(request, CancelledAttempt)
    assert request.cancelled
    assert 1 == lane.sending
    assert [] == feed.finished


async def test_a_waiting_delivery_of_a_withdrawn_partition_is_dropped() -> None:
    """A retry in place does not delay a rebalance: its attempt and due time are stored in the
    commit.
    """
    handler = ScriptedHandler()
    lane, feed = await lane_of(handler, lanes=Ordered(4))
    await feed.publish(record(0, key=b"k"), record(1, key=b"k"))
    delivery = handler.sent[0]
    handler.complete(delivery, WaitInPlace(60.0))
    returned: list[str] = []
    lane.withdraw([Partition("topic", 0)], lambda: returned.append("0"))
    assert ["0"] == returned
    assert [] == feed.finished
    assert [0] == handler.numbers()


async def test_followers_of_a_key_start_one_after_the_other() -> None:
    """With ordered delivery, the next event of a key is sent when the previous one is done; other
    keys are sent immediately.
    """
    handler = ScriptedHandler()
    _, feed = await lane_of(handler, lanes=Ordered(4))
    await feed.publish(record(0, key=b"a"), record(1, key=b"a"), record(2, key=b"b"))
    assert [0, 2] == handler.numbers()
    handler.end(0)
    await asyncio.sleep(0)
    assert [0, 2, 1] == handler.numbers()


async def test_a_crowded_key_pauses_its_partition_until_it_is_half_empty() -> None:
    """In this case order has priority over isolation."""
    handler = ScriptedHandler()
    _, feed = await lane_of(handler, lanes=Ordered(4, lane_records_max=4))
    await feed.publish(*(record(number, key=b"a") for number in range(6)))
    assert {Partition("topic", 0)} == feed.paused
    for offset in range(4):
        handler.end(offset)
    assert set() == feed.paused


async def test_the_same_retry_record_is_taken_once() -> None:
    """A second record of the same event and attempt is a duplicate while the first is in flight."""
    handler = ScriptedHandler()
    lane, _ = await lane_of(handler)
    first = record(0)
    assert lane.claim(first, "topic/0/0", 1)
    lane.offer([first])
    assert not lane.claim(record(1), "topic/0/0", 1)
    assert lane.claim(record(2), "topic/0/0", 2)
    handler.end(0)
    assert lane.claim(record(3), "topic/0/0", 1)


async def test_a_stopped_lane_starts_nothing() -> None:
    """While a record cannot be parked, no new delivery starts."""
    handler = ScriptedHandler()
    lane, feed = await lane_of(handler)
    lane.stopped = True
    await feed.publish(record(0))
    assert [] == handler.sent
    lane.stopped = False
    lane.pump()
    assert [0] == handler.numbers()


def owned(partitions: Collection[int]) -> list[Partition]:
    return [Partition("topic", number) for number in partitions]


async def test_every_record_comes_back_once_whatever_the_order_of_events() -> None:
    """With random offers, results, waits and withdrawals, no record has two requests in flight, and
    every record that is not withdrawn is done once.
    """
    import random

    seed = 7
    print("seed", seed)
    chance = random.Random(seed)
    handler = ScriptedHandler()
    lane, feed = await lane_of(handler, lanes=Ordered(3))
    offset, open_deliveries, withdrawn = 0, [], set()
    for _ in range(2000):
        action = chance.random()
        if action < 0.4:
            batch = [
                record(
                    offset + extra, key=b"%d" % chance.randrange(4), partition=chance.randrange(3)
                )
                for extra in range(3)
            ]
            offset += 3
            await feed.publish(*batch)
        elif action < 0.9:
            open_deliveries = [each for each in handler.sent if each.request is not None]
            if open_deliveries:
                delivery = chance.choice(open_deliveries)
                handler.complete(delivery)
        else:
            gone = owned([chance.randrange(3)])
            before = set(feed.finished)
            lane.abandon(gone)
            withdrawn |= {number for number in range(offset) if number not in before}
        await asyncio.sleep(0)
        keys = [
            (each.partition, each.record.key)
            for each in handler.sent
            if each.request is not None and not each.abandoned
        ]
        assert len(keys) == len(set(keys))
    assert len(feed.finished) == len(set(feed.finished))
    while any(each.request is not None and not each.abandoned for each in handler.sent):
        delivery = next(
            each for each in handler.sent if each.request is not None and not each.abandoned
        )
        handler.complete(delivery)
        await asyncio.sleep(0)
    assert set(range(offset)) - withdrawn <= set(feed.finished)
