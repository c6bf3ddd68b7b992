"""Tracks whether this process is still a member of its group, based on the answers to commits.

A member that sends no heartbeat for the session timeout loses its partitions. It notices this when
it reaches the group again, or by its own clock at the same time at which another member may start.
On a machine that has no free CPU or was suspended, that is too late: two owners would send events
of one key at the same time. Therefore a member whose commit was not answered for half of the
session timeout starts no delivery until one is answered.
"""

import asyncio
from collections.abc import Callable
from typing import Final

UNCONFIRMED_SECONDS: Final = 3.0
"""Half of the shortest session."""


class MembershipMonitor:
    """The membership of one feed. `on_change` is called with True when it becomes unconfirmed, and
    with False when it is confirmed again. Loop.
    """

    __slots__ = (
        "_loop",
        "_on_change",
        "_seconds",
        "_sent_at",
        "_timer",
        "confirmed_at",
        "unconfirmed",
    )

    def __init__(
        self, on_change: Callable[[bool], None], *, seconds: float = UNCONFIRMED_SECONDS
    ) -> None:
        self.unconfirmed = False
        """Whether the membership is unconfirmed now."""
        self.confirmed_at = float("-inf")
        """When the last commit was sent whose answer proved the membership (seconds of the
        loop).
        """
        self._on_change = on_change
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._sent_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def commit_sent(self) -> None:
        """Note that a commit is sent. The membership becomes unconfirmed `seconds` after the first
        commit without an answer that proves it.
        """
        self._sent_at = self._loop.time()
        if self._timer is None and not self.unconfirmed:
            self._timer = self._loop.call_later(self._seconds, self.suspend)

    def commit_answered(self) -> None:
        """Handle an answer to the last commit that proves membership. A late answer proves nothing
        about the present.
        """
        if self._loop.time() - self._sent_at < self._seconds:
            self.confirmed_at = self._sent_at
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
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
