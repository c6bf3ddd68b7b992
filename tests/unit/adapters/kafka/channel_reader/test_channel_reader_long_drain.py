"""What feeds get in the partitions that stay while others are given back, without a Kafka."""

import asyncio
from collections.abc import Callable

import pytest

from headrace.adapters.kafka.channel_reader import channel_reader
from headrace.adapters.kafka.channel_reader.assigned_consumer import AssignedConsumer
from headrace.adapters.kafka.consumer.shared_resources import SharedConsumerResources
from headrace.domain.record import Partition
from tests.contract.feeds import RecordingListener
from tests.support.wait_until import wait_until_async
from tests.unit.adapters.kafka.channel_reader.memory_offsets import (
    CHANNEL,
    MemoryOffsets,
    OpenedReader,
)

P0, P1 = Partition(CHANNEL, 0), Partition(CHANNEL, 1)


class Log:
    """Acts as the consumer of `catch_up` with one log: each read gets what there is from its offset
    on, and the end once.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reading: dict[Partition, tuple[int, int, int]] = {}
        """Ticket, next offset, end that was reported."""
        self._ticket = 0
        monkeypatch.setattr(AssignedConsumer, "read", lambda _, *what: self._read(*what))
        monkeypatch.setattr(
            AssignedConsumer, "stop_reading", lambda _, which: self.reading.pop(which, None)
        )

    def _read(self, partition: Partition, offset: int) -> int:
        self._ticket += 1
        self.reading[partition] = self._ticket, offset, -1
        return self._ticket

    async def deliver_until(
        self, reader: OpenedReader, end: int, delivered: Callable[[], bool]
    ) -> None:
        """Deliver what is read of partition 1, which ends there, until that is enough."""

        def deliver() -> bool:
            self._deliver(reader, end)
            return delivered()

        await wait_until_async(deliver, what="the events of partition 1")

    def _deliver(self, reader: OpenedReader, end: int) -> None:
        ticket, offset, ended = self.reading.get(P1, (0, 0, end))
        if ended == end:
            return
        records = reader.records(1, range(offset, end))
        done = reader._catch_up.on_records(P1, ticket, records, end)
        if self.reading.get(P1, (0,))[0] == ticket:
            self.reading[P1] = ticket, offset + done, end if done == len(records) else ended


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    """Each drain takes long at once."""
    monkeypatch.setattr(channel_reader, "LONG_DRAIN_SECONDS", 0.0)
    return Log(monkeypatch)


async def test_a_feed_that_was_full_is_read_for_during_a_long_drain(
    shared: SharedConsumerResources, log: Log
) -> None:
    """It had no room for a burst, has done that, and waits for the end of another's turn."""
    offsets = MemoryOffsets()
    offsets.stored = {(group, each): 7 for group in ("fast", "slow") for each in (P0, P1)}
    reader = OpenedReader(shared, offsets)
    fast, slow = RecordingListener(give_back=False, finish=True), RecordingListener()
    reader.open_feed("fast", fast)
    reader.open_feed("slow", slow, records_max=20)
    await reader.assign(0, 1)
    reader.revoke(0)  # `fast` does not give it back: a request hangs.
    await wait_until_async(lambda: P1 in log.reading, what="both are read for")
    await log.deliver_until(reader, 107, lambda: fast.offsets(1)[-1:] == [106])
    assert (100, 20) == (len(fast.offsets(1)), len(slow.offsets(1)))
    slow._finish = True
    slow.finish(slow.records)  # It has room for all.
    await log.deliver_until(reader, 107, lambda: len(slow.offsets(1)) >= 100)
    assert reader._waits_for_drain
    assert list(range(7, 107)) == slow.offsets(1)


async def test_a_feed_behind_another_one_is_read_for_during_a_long_drain(
    shared: SharedConsumerResources, log: Log
) -> None:
    """Each followed the reader, one ahead of it."""
    offsets = MemoryOffsets()
    offsets.stored = {("ahead", P0): 7, ("ahead", P1): 100, ("behind", P0): 7, ("behind", P1): 90}
    reader = OpenedReader(shared, offsets)
    ahead, behind = RecordingListener(give_back=False), RecordingListener()
    reader.open_feed("ahead", ahead)
    reader.open_feed("behind", behind)
    await reader.assign(0, 1)
    reader.revoke(0)
    await wait_until_async(lambda: P1 in log.reading, what="one is read for")
    await log.deliver_until(
        reader, 110, lambda: (len(ahead.offsets(1)), len(behind.offsets(1))) == (10, 20)
    )
    assert reader._waits_for_drain
    assert list(range(100, 110)) == ahead.offsets(1)
    assert list(range(90, 110)) == behind.offsets(1)


async def test_a_loss_of_another_partition_does_not_end_a_drain(
    shared: SharedConsumerResources, log: Log
) -> None:
    """The log of a partition that stays has become shorter, which is noticed while it is read."""
    offsets = MemoryOffsets()
    offsets.stored = {("first", each): 7 for each in (P0, P1)}
    reader = OpenedReader(shared, offsets)
    listener = RecordingListener(give_back=False)
    reader.open_feed("first", listener)
    await reader.assign(0, 1)
    reader.read(0, [7])
    request = reader.revoke(0)
    await wait_until_async(lambda: P1 in log.reading, what="it is read for")
    reader._catch_up.on_reset(P1, log.reading[P1][0], 0)
    await asyncio.sleep(0.1)
    assert request.is_open, "the request in flight has its time until the drain deadline"
    assert [P1] == listener.lost
    listener.finish(listener.records)
    listener.returns[0]()
    await wait_until_async(lambda: not request.is_open, what="the partition is given back")
    assert 8 == offsets.stored["first", P0]
