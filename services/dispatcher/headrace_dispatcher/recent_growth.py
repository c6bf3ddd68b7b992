"""Whether a count has grown lately: it is looked at with every report, so that counting itself
costs no look at the clock.
"""

RECENT_SECONDS = 600.0


class RecentGrowth:
    """One count that only grows. It begins at 0."""

    __slots__ = ("_count", "_grown_at", "_seconds")

    def __init__(self, seconds: float = RECENT_SECONDS) -> None:
        self._seconds = seconds
        self._count = 0
        self._grown_at = float("-inf")

    def grew_recently(self, count: int, now: float) -> bool:
        """Whether the count had grown at a look within the last `seconds`, this one included; `now`
        is monotonic.
        """
        if count != self._count:
            self._count, self._grown_at = count, now
        return now - self._grown_at < self._seconds
