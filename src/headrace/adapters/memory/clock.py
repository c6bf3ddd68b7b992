"""A clock that advances only when a test advances it."""


class MemoryClock:
    """Implements `headrace.domain.ports.Clock`; `advance` changes both times."""

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
        """Advance both times by `seconds`."""
        if seconds < 0:
            raise ValueError(f"time does not go back: {seconds}")
        self._now += seconds
        self._monotonic += seconds
