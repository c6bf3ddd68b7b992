"""Reads for the feeds of a channel reader that are behind it: new ones that begin far back, and
those that had no room.

There is one consumer for all of them. In each partition it reads for some feeds at a time, from the
lowest of their positions on. A feed whose position is far from the others waits for its turn, so
that one with an hour of events does not hold up one with a few. A feed without room is waited for
while none of the others goes short (`backpressure`). After that it leaves its turn, and what
follows is read again for it.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final, Protocol

from headrace.adapters.kafka.channel_reader.assigned_consumer import AssignedConsumer
from headrace.adapters.kafka.channel_reader.backpressure import Backpressure, first_refused
from headrace.adapters.kafka.channel_reader.event_matcher import EventMatcher
from headrace.adapters.kafka.channel_reader.subscription_feed import SubscriptionFeed
from headrace.adapters.kafka.consumer.alarms import ConsumerAlarm
from headrace.adapters.kafka.consumer.config import ConsumerConfig
from headrace.adapters.kafka.consumer.shared_resources import SharedConsumerResources
from headrace.domain.record import Partition, StoredRecord

FETCH_WAIT_MS: Final = 20
"""A partition that is added is not fetched before the fetch in progress has ended. At the end of a
log that takes this long.
"""
TURN_RECORDS: Final = 2_000
"""How many records are read for some feeds while others wait."""
TOGETHER_SECONDS: Final = 0.0015
"""How long a feed waits for others before something is read for it, for each feed that is behind. A
hundred feeds that are read for one by one cost a hundred reads.
"""
TOGETHER_SECONDS_MAX: Final = 0.15
WAIT_SECONDS_MAX: Final = 1.0
"""As `Backpressure`."""
_FEW: Final = 8
"""Up to this number, each filter is evaluated by itself."""


class Reader(Protocol):
    """What this needs of the channel reader."""

    def behind(self, number: int) -> int:
        """The number of feeds that do not take records of this partition as the reader reads
        them.
        """
        ...

    def goal(self, number: int) -> int:
        """The offset from which the reader reads for a feed that has reached it."""
        ...

    def caught_up(self, feed: SubscriptionFeed, number: int) -> None:
        """A feed has reached that offset."""
        ...

    def log_is_shorter(self, number: int) -> None:
        """The log has become shorter than what was read of it: all feeds are to begin at its oldest
        record.
        """
        ...


class _Turn:
    """Some feeds for which a partition is read now."""

    __slots__ = ("at_end", "feeds", "position", "read", "ticket")

    def __init__(self, position: int) -> None:
        self.position = position
        """The offset that is read next. Everything below that the feeds did not take did not
        match.
        """
        self.ticket = 0
        self.feeds: dict[SubscriptionFeed, None] = {}
        self.read = 0
        self.at_end = False
        """Whether the end of the log was reached: others need not wait until more is appended."""


class CatchUp:
    """The feeds of one reader that are behind. Everything here runs on the event loop."""

    def __init__(
        self,
        config: ConsumerConfig,
        shared: SharedConsumerResources,
        reader: Reader,
        matcher: EventMatcher,
    ) -> None:
        (self._topic,) = config.topics
        config = replace(config, fetch_wait_ms=min(config.fetch_wait_ms, FETCH_WAIT_MS))
        self._consumer = AssignedConsumer(config, shared, self, purpose="catch-up")
        self._reader = reader
        self._matcher = matcher
        self._waiting: dict[int, dict[SubscriptionFeed, None]] = {}
        self._turns: dict[int, _Turn] = {}
        self._timers: dict[int, asyncio.TimerHandle] = {}
        """Of partitions in which feeds wait for others."""
        self._loop = asyncio.get_running_loop()
        self._backpressure = Backpressure(WAIT_SECONDS_MAX, self._consumer.offer_again)
        self._closed = False

    def request(self, feed: SubscriptionFeed, number: int) -> None:
        """Read for this feed in this partition until it has caught up."""
        turn = self._turns.get(number)
        if self._closed or (turn is not None and feed in turn.feeds):
            return
        self._offer_again()
        if turn is not None and self._is_near(feed, number, turn):
            turn.feeds[feed] = None
            return
        self._waiting.setdefault(number, {})[feed] = None
        if (turn is None or turn.at_end) and number not in self._timers:
            delay = min(self._reader.behind(number) * TOGETHER_SECONDS, TOGETHER_SECONDS_MAX)
            self._timers[number] = self._loop.call_later(delay, self._begin, number)

    def room_available(self, feed: SubscriptionFeed) -> None:
        """A feed that had no room has some again."""
        if self._backpressure.waiting and any(feed in turn.feeds for turn in self._turns.values()):
            self._offer_again()

    def _offer_again(self) -> None:
        if self._backpressure.waiting:
            self._backpressure.end()
            self._loop.call_soon(self._consumer.offer_again)

    def _begin(self, number: int) -> None:
        del self._timers[number]
        if (turn := self._turns.get(number)) is not None:
            self._advance(number, turn)
        else:
            self._next_turn(number)

    def forget(self, feed: SubscriptionFeed, number: int) -> None:
        """Read no more for this feed in this partition."""
        self._waiting.get(number, {}).pop(feed, None)
        turn = self._turns.get(number)
        if turn is not None and feed in turn.feeds:
            del turn.feeds[feed]
            feed.skip_to(number, turn.position)
            self._end_if_empty(number, turn)
        self._offer_again()

    def release(self, number: int) -> None:
        """Read no more in this partition. The reader knows where its feeds are."""
        if (turn := self._turns.get(number)) is not None:
            self._skip_unwanted(number, turn)
        self.drop(number)

    def drop(self, number: int) -> None:
        """This process does not own the partition any longer."""
        self._waiting.pop(number, None)
        if timer := self._timers.pop(number, None):
            timer.cancel()
        if self._turns.pop(number, None) is not None:
            self._consumer.stop_reading(Partition(self._topic, number))
        self._offer_again()

    def close(self) -> None:
        """Read no more."""
        self._closed = True
        self._waiting.clear()
        self._turns.clear()
        for timer in self._timers.values():
            timer.cancel()
        self._backpressure.end()
        self._consumer.close()

    def has_ended(self, timeout_seconds: float) -> bool:
        """As `AssignedConsumer.has_ended`."""
        return self._consumer.has_ended(timeout_seconds)

    def _next_turn(self, number: int) -> None:
        """Begin a turn, if there is none, with the feed that has waited longest and those that are
        near it; or add those to the turn that runs.
        """
        waiting = self._waiting.get(number)
        while waiting and number not in self._turns:
            first = next(iter(waiting))
            if not first.takes(number):
                del waiting[first]
            elif first.next_offset(number) >= self._reader.goal(number):
                del waiting[first]
                self._reader.caught_up(first, number)
            else:
                turn = _Turn(first.next_offset(number))
                self._turns[number] = turn
                turn.ticket = self._read(number, turn.position)
        if waiting:
            turn = self._turns[number]
            for feed in list(waiting):
                if self._is_near(feed, number, turn):
                    del waiting[feed]
                    turn.feeds[feed] = None

    @staticmethod
    def _is_near(feed: SubscriptionFeed, number: int, turn: _Turn) -> bool:
        """Whether a feed can be read for in this turn."""
        return feed.takes(number) and 0 <= feed.next_offset(number) - turn.position < TURN_RECORDS

    def _read(self, number: int, offset: int) -> int:
        return self._consumer.read(Partition(self._topic, number), offset)

    # Called for the consumer's thread.

    def on_records(
        self,
        partition: Partition,
        ticket: int,
        records: Sequence[StoredRecord],
        end: int | None,
    ) -> int:
        """Hand out what was read; `end` is the end of the partition, if that was reached."""
        number = partition.partition
        turn = self._turns.get(number)
        if turn is None or turn.ticket != ticket:
            return len(records)
        if self._backpressure.waiting:
            return 0
        feeds = turn.feeds
        for feed in [feed for feed in feeds if not feed.wants(number)]:
            del feeds[feed]
            feed.skip_to(number, turn.position)
        batches: dict[SubscriptionFeed, list[StoredRecord]] = {}
        matcher = self._matcher
        wanted = matcher.wanted_by_few if len(feeds) <= _FEW else matcher.wanted
        for record in records if feeds else ():
            taken_by_any = False
            for feed in wanted(record, feeds, following=False):
                if feed in feeds:
                    batches.setdefault(feed, []).append(record)
                    taken_by_any = True
            if taken_by_any:
                matcher.write_header_lines(record)
            turn.position = record.offset + 1
        matcher.examined()
        shared = len(batches) > 1
        taken = []
        refusals: dict[SubscriptionFeed, Sequence[StoredRecord]] = {}
        for feed, batch in batches.items():
            fresh, refused = feed.take(batch, shared=shared)
            if fresh:
                taken.append((feed, fresh))
            if refused:
                refusals[feed] = refused
                feed.skip_to(number, refused[0].offset)
        done = self._done(turn, records, refusals)
        if end is not None and feeds and done == len(records):
            turn.position = max(turn.position, end)
        turn.read += done
        turn.at_end = end is not None and done == len(records)
        self._advance(number, turn)
        # Last: what the listeners do must find all positions as they are now.
        for feed, fresh in taken:
            feed.hand_out(fresh)
        return done

    def _done(
        self,
        turn: _Turn,
        records: Sequence[StoredRecord],
        refusals: Mapping[SubscriptionFeed, Sequence[StoredRecord]],
    ) -> int:
        """Return how many of the records need not be handed out again: those before the first that
        some feed had no room for, if that is waited for. `refusals` has those records by feed.
        """
        done = len(records)
        if self._backpressure.begin(self._read_for(), refusals):
            done = first_refused(records, refusals.values())
            turn.position = records[done].offset
        else:
            for feed in refusals:
                del turn.feeds[feed]
        for feed in refusals:
            feed.wait_for_room()
        return done

    def _read_for(self) -> Iterator[SubscriptionFeed]:
        """The feeds for which something is read, and those that wait for it."""
        turns = (turn.feeds for turn in self._turns.values())
        found: dict[SubscriptionFeed, None] = {}
        for feeds in (*turns, *self._waiting.values()):
            found |= feeds
        yield from found

    def _advance(self, number: int, turn: _Turn) -> None:
        if turn.position >= self._reader.goal(number):
            self._skip_unwanted(number, turn)
            feeds, turn.feeds = turn.feeds, {}
            for feed in feeds:
                self._reader.caught_up(feed, number)
        elif (turn.read >= TURN_RECORDS or turn.at_end) and self._waiting.get(number):
            self._skip_unwanted(number, turn)
            self._waiting[number] |= turn.feeds
            turn.feeds.clear()
        self._end_if_empty(number, turn)

    def _skip_unwanted(self, number: int, turn: _Turn) -> None:
        """Count what the feeds of a turn did not take as skipped."""
        for feed in turn.feeds:
            feed.skip_to(number, turn.position)

    def _end_if_empty(self, number: int, turn: _Turn) -> None:
        if not turn.feeds and self._turns.get(number) is turn:
            del self._turns[number]
            self._consumer.stop_reading(Partition(self._topic, number))
            self._next_turn(number)

    def on_reset(self, partition: Partition, ticket: int, low: int) -> None:
        """The log no longer has the next record: it begins at `low`."""
        number = partition.partition
        turn = self._turns.get(number)
        if turn is None or turn.ticket != ticket:
            return
        if low < turn.position:
            # The position of the reader is beyond the end as well, or was. It may not notice: it
            # reads nothing while all feeds are behind, and the log grows.
            self._reader.log_is_shorter(number)
            return
        self._skip_unwanted(number, turn)
        for feed in turn.feeds:
            feed.expire(number, low)
        turn.position = low
        turn.ticket = self._read(number, low)

    def on_error(self, partition: Partition | None, alarm: ConsumerAlarm) -> None:
        """As `AssignedConsumerListener.on_error`. For a partition, the reader of the channel has
        the same error.
        """
        if partition is None:
            for feed in [feed for turn in self._turns.values() for feed in turn.feeds]:
                feed.raise_alarm(alarm.kind, alarm.detail)

    def on_restarted(self) -> None:
        """The consumer was replaced by a new one, which reads nothing yet."""
        for number, turn in self._turns.items():
            turn.ticket = self._read(number, turn.position)
