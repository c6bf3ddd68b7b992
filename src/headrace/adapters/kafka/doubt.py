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

DOUBT_SECONDS: Final = 3.0
"""Half of the shortest session."""


class Doubt:
    """The doubt of one feed; `tell` hears when it begins (True) and when it ends. Loop."""

    __slots__ = ("_asked_at", "_loop", "_seconds", "_tell", "_timer", "cast")

    def __init__(self, tell: Callable[[bool], None], *, seconds: float = DOUBT_SECONDS) -> None:
        self.cast = False
        """Whether there is doubt now."""
        self._tell = tell
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._asked_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def asked(self) -> None:
        """A commit is sent. Doubt begins some time after the first one that proves nothing."""
        self._asked_at = self._loop.time()
        if self._timer is None and not self.cast:
            self._timer = self._loop.call_later(self._seconds, self.begin)

    def answered(self) -> None:
        """The group has answered the last commit as that of a member. An answer that took long says
        nothing about now.
        """
        if self._loop.time() - self._asked_at < self._seconds:
            self.end()

    def begin(self) -> None:
        """Doubt."""
        self.close()
        if not self.cast:
            self.cast = True
            self._tell(True)

    def end(self) -> None:
        """Doubt no more."""
        self.close()
        if self.cast:
            self.cast = False
            self._tell(False)

    def close(self) -> None:
        """Wait for nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
