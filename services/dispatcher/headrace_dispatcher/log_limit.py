"""Limits the lines of the log that repeat as long as a failure lasts."""

from headrace.domain.ports import Clock


class LogLimit:
    """Lets one line of each event name pass in `seconds`. Bounded by the names that its owner
    uses.
    """

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._next_at: dict[str, float] = {}
        self._suppressed: dict[str, int] = {}

    def passes(self, event: str) -> bool:
        """Return whether to write this line."""
        now = self._clock.monotonic()
        if now < self._next_at.get(event, now):
            self._suppressed[event] = self._suppressed.get(event, 0) + 1
            return False
        self._next_at[event] = now + self._seconds
        return True

    def suppressed(self, event: str) -> dict[str, int]:
        """Return the field `suppressed` of the line that passed: the number of lines since the last
        one; empty if there were none.
        """
        count = self._suppressed.pop(event, 0)
        return {"suppressed": count} if count else {}
