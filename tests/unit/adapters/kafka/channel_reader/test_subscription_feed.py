"""The feed of one subscription, without the reader of its channel."""

import asyncio
from collections.abc import Sequence

import pytest

from headrace.adapters.kafka.channel_reader import subscription_feed
from headrace.adapters.kafka.channel_reader.subscription_feed import (
    ReaderProgress,
    SubscriptionFeed,
)
from headrace.adapters.kafka.consumer.partition_state import PartitionState
from headrace.adapters.kafka.consumer.positions import Position
from headrace.domain.feed import FeedBounds, FeedConfig
from headrace.domain.ports import NO_LAG, Lag
from headrace.domain.record import Partition, StoredRecord
from tests.contract.feeds import RecordingListener
from tests.support.wait_until import wait_until_async


class RecordedReader:
    """A `Reader` that records what a feed asks of it."""

    def __init__(self) -> None:
        self.positions: dict[int, int] = {}
        self.ends: dict[int, int] = {}
        self.commits = 0
        self.with_room: list[SubscriptionFeed] = []
        self.unfollowed: list[int] = []

    def attach(self, feed: SubscriptionFeed) -> None: ...
    async def detach(self, feed: SubscriptionFeed, *, leave: bool) -> None: ...
    def abandon(self, feed: SubscriptionFeed) -> None: ...
    def join(self, timeout_seconds: float) -> bool:
        """See the protocol."""
        return True

    def filter_changed(self, feed: SubscriptionFeed) -> None: ...
    def commit_soon(self, feed: SubscriptionFeed) -> None:
        """See the protocol."""
        self.commits += 1

    def resumed(self, feed: SubscriptionFeed, number: int) -> None: ...
    def room_available(self, feed: SubscriptionFeed) -> None:
        """See the protocol."""
        self.with_room.append(feed)

    def verify_membership(self) -> None: ...
    def position(self, number: int) -> int:
        """See the protocol."""
        return self.positions.get(number, 0)

    def high_watermark(self, partition: Partition) -> int:
        """See the protocol."""
        number = partition.partition
        return max(self.position(number), self.ends.get(number, 0))

    def progress(self) -> ReaderProgress:
        """See the protocol."""
        at_end = all(self.position(number) >= end for number, end in self.ends.items())
        return ReaderProgress(dict(self.positions), dict(self.ends), at_end)

    def on_unfollowed(self, number: int) -> None:
        """See the protocol."""
        self.unfollowed.append(number)


def open_feed(records_max: int = 4) -> tuple[SubscriptionFeed, RecordedReader, RecordingListener]:
    """A started feed that owns two partitions and follows the reader in both."""
    reader, listener = RecordedReader(), RecordingListener()
    config = FeedConfig(group="g", topics=("t",), bounds=FeedBounds(records_max=records_max))
    feed = SubscriptionFeed(config, reader, listener.alarms.append)
    listener.feed = feed
    feed.start(listener)
    for number in (0, 1):
        feed.assign(Position(Partition("t", number), 0, ""))
        feed.follow(number)
    return feed, reader, listener


def records(number: int, *offsets: int) -> list[StoredRecord]:
    """Records of one partition."""
    return [StoredRecord("t", number, each, 0, None, b"v", (), None, 10) for each in offsets]


def give(feed: SubscriptionFeed, number: int, *offsets: int) -> list[int]:
    """Hand out as far as there is room; return the offsets of those for which there is none."""
    fresh, refused = feed.take(records(number, *offsets), shared=True)
    feed.hand_out(fresh)
    return [each.offset for each in refused]


async def test_what_has_no_room_is_refused_in_order() -> None:
    feed, _, listener = open_feed()
    assert give(feed, 0, 0, 1, 2, 3, 4, 5) == [4, 5]
    assert (listener.offsets(0), feed.full) == ([0, 1, 2, 3], True)
    assert not feed.takes(0)
    assert not feed.takes(1)


async def test_room_is_reported_when_half_of_it_is_free() -> None:
    feed, reader, listener = open_feed()
    give(feed, 0, 0, 1, 2, 3, 4)
    listener.finish(listener.records[:1])
    assert (reader.with_room, feed.full) == ([], True)
    listener.finish(listener.records[1:2])
    assert (reader.with_room, feed.full) == ([feed], False)


async def test_room_that_others_make_in_the_process_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also if the reader waits for others, and this feed was refused nothing."""
    monkeypatch.setattr(subscription_feed, "BUDGET_SECONDS", 0.01)
    feed, reader, _ = open_feed()
    give(feed, 0, 0)
    over = [True]
    feed.flow.over_process_budget = lambda: bool(over)
    assert give(feed, 0, 1) == [1]
    feed.wait_for_room()
    feed.report_room()
    assert (reader.with_room, feed.full) == ([], True)
    over.clear()
    await wait_until_async(lambda: reader.with_room, what="the room is reported")
    assert not feed.full
    over.append(True)
    feed.report_room()
    over.clear()
    await wait_until_async(lambda: len(reader.with_room) == 2, what="it is reported again")


async def test_a_partition_that_is_lost_makes_room_for_the_others() -> None:
    """Its records are never done: nothing else would report the room."""
    feed, reader, _ = open_feed()
    assert give(feed, 0, 0, 1, 2, 3, 4) == [4]
    feed.lose([0])
    assert (reader.with_room, feed.full) == ([feed], False)
    assert feed.takes(1)


async def test_what_the_reader_has_passed_is_skipped_and_committed() -> None:
    """The feed was offered two of ten records: the others did not match."""
    feed, reader, listener = open_feed()
    give(feed, 0, 3, 7)
    reader.positions[0] = 10
    listener.finish(listener.records)
    ((_, position),) = feed.next_commit()
    assert position == Position(Partition("t", 0), 10, "")
    assert feed.skipped == 8


async def test_a_feed_that_falls_behind_skips_nothing_from_there_on() -> None:
    feed, reader, listener = open_feed()
    give(feed, 0, 3)
    reader.positions[0] = 10
    assert feed.fall_behind(0, 5)
    listener.finish(listener.records)
    ((_, position),) = feed.next_commit()
    assert position.offset == 5
    assert feed.next_offset(0) == 5


async def test_a_pause_ends_following_at_the_position_of_the_reader() -> None:
    feed, reader, _ = open_feed()
    give(feed, 0, 0)
    reader.positions[0] = 4
    feed.pause(Partition("t", 0))
    assert (feed.next_offset(0), reader.unfollowed) == (4, [0])
    assert not feed.takes(0)
    assert feed.takes(1)


async def test_a_partition_that_was_assigned_again_is_another_one() -> None:
    """The end of the assignment before must not end this one."""
    feed, _, _ = open_feed()
    states = feed.states([0, 1])
    feed.lose([0])
    feed.assign(Position(Partition("t", 0), 5, ""))
    assert feed.still(states) == [1]


async def test_shared_records_are_copied() -> None:
    """A feed identifies its records by identity, and notes are its own."""
    feed, _, listener = open_feed()
    given = records(0, 0)
    fresh, _ = feed.take(given, shared=True)
    assert fresh == given
    assert fresh[0] is not given[0]
    feed.hand_out(fresh)
    feed.done(given[0])
    assert feed.flow.records == 1
    listener.finish(listener.records)
    assert feed.flow.records == 0


async def test_a_repeated_record_is_not_handed_out_again() -> None:
    """As when two consumers read the same part of the topic."""
    feed, _, listener = open_feed()
    give(feed, 0, 0, 1)
    give(feed, 0, 0, 1, 2)
    assert listener.offsets(0) == [0, 1, 2]


async def test_a_listener_that_fails_keeps_nothing_from_others() -> None:
    """The event loop reports the error."""
    feed, _, _ = open_feed()
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: failures.append(context["exception"])
    )
    error = RuntimeError("listener")

    class FailingListener(RecordingListener):
        def on_records(self, records: Sequence[StoredRecord]) -> None:
            raise error

    feed.listener = FailingListener()
    give(feed, 0, 0)
    assert failures == [error]


def lag_records(feed: SubscriptionFeed) -> dict[int, int]:
    """Records that are not done, by partition."""
    return {partition.partition: lag.records for partition, lag in feed.lag().items()}


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[Partition]:
    """The partitions whose lag was computed."""
    partitions: list[Partition] = []
    compute = PartitionState.lag

    def record(state: PartitionState, now: float) -> Lag:
        partitions.append(state.partition)
        return compute(state, now)

    monkeypatch.setattr(PartitionState, "lag", record)
    return partitions


async def test_lag_of_idle_feeds_is_not_computed_again(computed: list[Partition]) -> None:
    """A process reports it each second for a thousand feeds, which have ten partitions each."""
    opened = [open_feed() for _ in range(1_000)]
    first = [feed.lag() for feed, _, _ in opened]
    assert 2_000 == len(computed)
    again = [feed.lag() for feed, _, _ in opened for _ in range(3)]
    assert (2_000, 3_000) == (len(computed), len(again))
    assert all(list(each.values()) == [NO_LAG, NO_LAG] for each in first + again)
    feed, reader, _ = opened[0]
    reader.ends[1] = 7
    assert ({0: 0, 1: 7}, 2_002) == (lag_records(feed), len(computed))
    # What waits gets older: it is computed each time.
    assert ({0: 0, 1: 7}, 2_004) == (lag_records(feed), len(computed))


async def test_lag_is_not_computed_while_nothing_matches(computed: list[Partition]) -> None:
    """The reader is at the end of the log again and again."""
    feed, reader, _ = open_feed()
    feed.lag()
    for end in (5, 9):
        reader.positions[0] = reader.ends[0] = end
        assert ({0: 0, 1: 0}, 2) == (lag_records(feed), len(computed))
    assert 9 == feed.skipped
    reader.positions[0], reader.ends[0] = 10, 12
    assert ({0: 2, 1: 0}, 4) == (lag_records(feed), len(computed))


async def test_lag_grows_for_a_feed_that_does_not_follow() -> None:
    """The reader reads on for others, up to the end."""
    feed, reader, _ = open_feed()
    feed.lag()
    feed.pause(Partition("t", 0))
    for end in (5, 9):
        reader.positions[0] = reader.ends[0] = end
        assert {0: end, 1: 0} == lag_records(feed)


async def test_lag_is_right_after_every_change() -> None:
    """Each of these follows a time without lag."""
    feed, reader, listener = open_feed()
    assert lag_records(feed) == lag_records(feed) == {0: 0, 1: 0}
    give(feed, 0, 0)
    assert lag_records(feed) == {0: 1, 1: 0}
    reader.positions[0] = 1
    assert lag_records(feed) == {0: 1, 1: 0}
    listener.finish(listener.records)
    assert lag_records(feed) == lag_records(feed) == {0: 0, 1: 0}
    reader.positions[1] = 5  # They do not match.
    assert (lag_records(feed), feed.skipped) == ({0: 0, 1: 0}, 5)
    feed.assign(Position(Partition("t", 2), 3, ""))
    assert lag_records(feed) == lag_records(feed) == {0: 0, 1: 0, 2: 0}
    feed.remove([0])
    assert lag_records(feed) == lag_records(feed) == {1: 0, 2: 0}
    reader.ends[2] = 9
    assert lag_records(feed) == {1: 0, 2: 6}


async def test_time_without_lag_is_not_time_without_progress() -> None:
    """A partition stalls 10 s after records wait in it, not 10 s after its last record."""
    feed, reader, _ = open_feed()
    feed.lag()
    await asyncio.sleep(0.1)  # The time that must not count.
    idle_at = asyncio.get_running_loop().time()
    feed.lag()
    feed.pause(Partition("t", 0))
    reader.positions[0] = 4
    waiting = feed.lag()[Partition("t", 0)]
    assert 4 == waiting.records
    assert waiting.progress_seconds <= asyncio.get_running_loop().time() - idle_at
    await asyncio.sleep(0.1)
    assert feed.lag()[Partition("t", 0)].progress_seconds >= 0.1
