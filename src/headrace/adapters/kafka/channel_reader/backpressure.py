"""Waits for feeds that have no room, instead of reading again for each of them what it has missed.

Waiting is good for all while no feed goes short: each one that is read for has more than half of
its room in use. Feeds that take the same events and are equally fast are read for once that way.
One that is slow or hangs is left behind as soon as another goes short.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence

from headrace.adapters.kafka.channel_reader.subscription_feed import SubscriptionFeed
from headrace.domain.record import StoredRecord


class Backpressure:
    """Whether a reader waits until its feeds have room. Everything here runs on the event loop."""

    def __init__(self, seconds_max: float, on_overdue: Callable[[], None]) -> None:
        """A feed that has room, but not for half of its bounds, may need records that others have
        no room for (its own may wait for their turn): it waits for `seconds_max`, then `on_overdue`
        is called, and those without room are to be left behind.
        """
        self.waiting = False
        self._seconds_max = seconds_max
        self._on_overdue = on_overdue
        self._overdue = False
        """Whether feeds without room have been waited for long enough."""
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def begin(
        self, feeds: Iterable[SubscriptionFeed], refused: Collection[SubscriptionFeed]
    ) -> bool:
        """Records were offered to `feeds`, of which those in `refused` had no room for all. Return
        whether the reader waits for room, which no other feed goes short by. Each of `feeds`
        reports it then; the caller has those in `refused` report it, because they may have it
        already.
        """
        overdue = self._overdue
        self.end()
        self._overdue = False
        if not refused:
            return False
        if all(each.flow.is_half_empty() for each in refused):
            # They have room for the rest, which was more than a feed takes at once.
            self.waiting = True
            return True
        others = [each for each in feeds if each not in refused]
        if any(each.flow.is_half_empty() for each in others) or (others and overdue):
            return False
        for each in others:
            each.report_room()
        self.waiting = True
        if others:
            self._timer = self._loop.call_later(self._seconds_max, self._expire)
        return True

    def end(self) -> None:
        """Read on: a feed has room, or another feed is to be read for. Idempotent."""
        self.waiting = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        self.end()
        self._overdue = True
        self._on_overdue()


def first_refused(
    records: Sequence[StoredRecord], refused: Collection[Sequence[StoredRecord]]
) -> int:
    """Return the index of the first of `records` that a feed had no room for. `refused` has those
    of each feed, in order.
    """
    first = {id(each[0]) for each in refused}
    return next(index for index, record in enumerate(records) if id(record) in first)
