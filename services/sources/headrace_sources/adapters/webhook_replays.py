"""Signed requests that this process has seen, so that a copy of one is not taken twice.

A provider that sends a request again signs it with another time: only a copy has the same
signature.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from headrace.domain.ports import Clock

REQUESTS_MAX: Final = 20_000
"""Requests that are remembered; beyond, the oldest are forgotten."""


class Replay(Enum):
    """What is known of a request."""

    NEW = "new"
    IN_FLIGHT = "in flight"
    TAKEN = "taken"


@dataclass(slots=True)
class ReplayWindow:
    """The requests of one source. `seconds` is how long each is remembered."""

    seconds: float
    clock: Clock
    requests_max: int = REQUESTS_MAX
    _in_flight: set[bytes] = field(default_factory=set)
    _taken: dict[bytes, float] = field(default_factory=dict)
    """Until when it is remembered, monotonic; in the order in which they were taken."""

    def begin(self, key: bytes) -> Replay:
        """A request has arrived. If it is new, `end` has to be called for it. An empty key is
        always new.
        """
        if not key:
            return Replay.NEW
        self._forget()
        if key in self._taken:
            return Replay.TAKEN
        if key in self._in_flight:
            return Replay.IN_FLIGHT
        self._in_flight.add(key)
        return Replay.NEW

    def end(self, key: bytes, *, taken: bool) -> None:
        """A request that was new is answered; it is remembered if it was taken."""
        self._in_flight.discard(key)
        if key and taken:
            self._taken[key] = self.clock.monotonic() + self.seconds

    def _forget(self) -> None:
        now = self.clock.monotonic()
        while self._taken:
            oldest = next(iter(self._taken))
            if self._taken[oldest] > now and len(self._taken) < self.requests_max:
                return
            del self._taken[oldest]
