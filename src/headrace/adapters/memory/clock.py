"""A clock that advances only when a test does it."""


class MemoryClock:
    """Implements `headrace.domain.ports.Clock`; both times move together by `advance`."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self._now = now
        self._monotonic = 1_000.0

    def now(self) -> float:
        """See the port."""
        return self._now

    def monotonic(self) -> float:
        """See the port."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let this much time pass."""
        if seconds < 0:
            raise ValueError(f"time does not go back: {seconds}")
        self._now += seconds
        self._monotonic += seconds
