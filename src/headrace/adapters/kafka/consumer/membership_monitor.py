"""Whether a group still counts this member in, as far as its answers to commits tell.

A member that its group does not hear of for the session timeout loses its partitions, and learns
that when it hears of the group again, or by its own clock, in the same moment in which another
member may begin. On a machine that is short of processor, or one that stood still, that is too
late: two owners would send events of one key at once. So a member whose commit was not answered for
half of a session begins nothing until one is.
"""

import asyncio
from collections.abc import Callable
from typing import Final

UNCONFIRMED_SECONDS: Final = 3.0
"""Half of the shortest session."""


class MembershipMonitor:
    """The doubt of one feed; `on_change` hears when it begins (True) and when it ends. Loop."""

    __slots__ = ("_loop", "_on_change", "_seconds", "_sent_at", "_timer", "unconfirmed")

    def __init__(
        self, on_change: Callable[[bool], None], *, seconds: float = UNCONFIRMED_SECONDS
    ) -> None:
        self.unconfirmed = False
        """Whether there is doubt now."""
        self._on_change = on_change
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._sent_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def commit_sent(self) -> None:
        """A commit is sent. Membership is unconfirmed some time after the first one
        that proves nothing.
        """
        self._sent_at = self._loop.time()
        if self._timer is None and not self.unconfirmed:
            self._timer = self._loop.call_later(self._seconds, self.suspend)

    def commit_answered(self) -> None:
        """The group has answered the last commit as that of a member. An answer that took long says
        nothing about now.
        """
        if self._loop.time() - self._sent_at < self._seconds:
            self.confirm()

    def suspend(self) -> None:
        """Count the membership as unconfirmed."""
        self.close()
        if not self.unconfirmed:
            self.unconfirmed = True
            self._on_change(True)

    def confirm(self) -> None:
        """Count the membership as confirmed."""
        self.close()
        if self.unconfirmed:
            self.unconfirmed = False
            self._on_change(False)

    def close(self) -> None:
        """Wait for nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
