"""The clock that append times are measured against: the broker's, as far as it shows in what is
read.

A delay counts from the append time, which the broker sets, and its end is seen on the clock here.
Where that one is ahead by the length of a tier, a record that goes round once more would be due as
soon as it is back, and its reader would turn without rest. A record that comes back was stored just
now: the broker's clock is at its append time, and at most what has passed here since it was sent
further.
"""

from headrace.domain.ports import Clock

SENT_MAX = 1024
"""Records on their way that are remembered; the oldest are forgotten first, for one that comes back
is enough.
"""


class BrokerClock:
    """Unix time as the brokers of one topic have it: never ahead of the clock here, nor of what
    records that came back allow.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sent: dict[tuple[str, int], float] = {}
        self._offset: float | None = None
        """Unix time of the broker at monotonic time 0, None as long as nothing is known."""

    def now(self) -> float:
        """Unix seconds."""
        now = self._clock.now()
        return now if self._offset is None else min(now, self._offset + self._clock.monotonic())

    def sent(self, origin: str, attempt: int) -> None:
        """The record of this event and attempt is appended to the topic once more, now."""
        if len(self._sent) >= SENT_MAX:
            del self._sent[next(iter(self._sent))]
        self._sent[origin, attempt] = self._clock.monotonic()

    @property
    def expects(self) -> bool:
        """Whether a record whose return sets the offset is expected: `returned` need not be called
        otherwise.
        """
        return bool(self._sent)

    def returned(self, origin: str, attempt: int, append_seconds: float) -> None:
        """A record of this event and attempt was read."""
        sent_at = self._sent.pop((origin, attempt), None)
        if sent_at is not None:
            offset = append_seconds - sent_at
            self._offset = offset if self._offset is None else min(self._offset, offset)

    def read(self, append_seconds: float) -> None:
        """A record was read: the broker's clock is not behind its append time (it may have been
        set).
        """
        if self._offset is not None:
            self._offset = max(self._offset, append_seconds - self._clock.monotonic())
