"""Whether this process is known to own the partitions that its reader's group has assigned to it.

A group without members accepts commits from everybody. So nothing is committed for a subscription
unless the reader's own group has confirmed a moment ago that this process is a member.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from headrace.adapters.kafka.consumer.membership_monitor import UNCONFIRMED_SECONDS

_CHECK_SECONDS = 0.02
_TICK_SECONDS = 0.5
_STALL_SECONDS = 2.0
"""Longer than the loop is ever busy, and shorter than a session."""


class Member(Protocol):
    """The member of the reader's group."""

    @property
    def confirmed_at(self) -> float:
        """When the group last confirmed the membership (seconds of the loop)."""
        ...

    @property
    def has_partitions(self) -> bool:
        """Whether it owns partitions, which it may be giving back."""
        ...

    @property
    def has_lost_more(self) -> bool:
        """Whether it has lost partitions, and the feeds do not know that yet."""
        ...

    def confirm_membership(self) -> None:
        """Have the group confirm the membership."""
        ...


class ReaderMembership:
    """The membership of one reader.

    After this process was suspended, the client may report what it had received before: a
    revocation, for example, long after the group has stopped waiting for it. Then only the answer
    to a commit that was sent since proves anything.
    """

    def __init__(
        self,
        member: Member,
        *,
        clock: Callable[[], float] | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """`clock` returns the seconds of the loop; they stand still while the machine is suspended,
        those of `wall_clock` do not.
        """
        self._member = member
        self._loop = asyncio.get_running_loop()
        self._now = clock or self._loop.time
        self._owned_at = self._stalled_at = float("-inf")
        self._wall_clock = wall_clock
        self._ticked_at, self._ticked_wall_at = self._now(), wall_clock()
        self._timer: asyncio.TimerHandle | None = None
        self.changes = 0
        """How often the assignment has changed. What was read of a group before the last change may
        be outdated.
        """

    def start(self) -> None:
        """Begin to detect that the process was suspended."""
        self._timer = self._loop.call_later(_TICK_SECONDS, self.start)
        self.tick()

    def close(self) -> None:
        """End that."""
        if self._timer is not None:
            self._timer.cancel()

    def tick(self) -> None:
        """Note that the loop runs."""
        now, wall = self._now(), self._wall_clock()
        if max(now - self._ticked_at, wall - self._ticked_wall_at) > _STALL_SECONDS:
            self._stalled_at = now
        self._ticked_at, self._ticked_wall_at = now, wall

    def on_owned(self) -> None:
        """The group assigns partitions now, or waits for this process to return some: nobody else
        owns them.
        """
        self.tick()
        if self._member.confirmed_at >= self._stalled_at:
            self._owned_at = self._now()
        self.changes += 1

    def on_lost(self) -> None:
        """Partitions belong to another process."""
        self.changes += 1

    def confirmed(self) -> bool:
        """Whether the group has confirmed, less than half of a session ago, that this process owns
        its partitions, and it has lost none and was not suspended since.
        """
        self.tick()
        confirmed_at = max(self._member.confirmed_at, self._owned_at)
        return (
            not self._member.has_lost_more
            and confirmed_at >= self._stalled_at
            and self._now() - confirmed_at < UNCONFIRMED_SECONDS
        )

    def confirm(self) -> None:
        """Begin to find out."""
        self._member.confirm_membership()

    async def wait_until_confirmed(self) -> None:
        """Return as soon as the membership is confirmed, or half of a session has passed."""
        until = self._now() + UNCONFIRMED_SECONDS
        while not self.confirmed() and self._member.has_partitions and self._now() < until:
            self.confirm()
            await asyncio.sleep(_CHECK_SECONDS)
