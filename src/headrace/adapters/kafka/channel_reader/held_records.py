"""Records that a reader holds because some feeds have no room for them, with all that follows."""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from itertools import chain

from headrace.adapters.kafka.channel_reader.backpressure import Backpressure
from headrace.adapters.kafka.consumer.flow_control import BATCH_RECORDS_MAX
from headrace.domain.record import StoredRecord

WAIT_SECONDS_MAX = 0.25
"""As `Backpressure`."""


def _nothing() -> None: ...


@dataclass(slots=True)
class _Later:
    """What has happened in a partition after the records that are held."""

    number: int
    apply: Callable[[], None]
    records: list[StoredRecord] = field(default_factory=list)
    """What was read after that, of all partitions."""


class HeldRecords:
    """What a reader has read and not dispatched, in order. Everything here runs on the event loop.

    The consumer reads no more meanwhile than its bounds allow.
    """

    def __init__(self, dispatch: Callable[[Sequence[StoredRecord]], None]) -> None:
        """`dispatch` is called with records that were held. It gives those back for which there is
        no room again, with `put_back`.
        """
        self.backpressure = Backpressure(WAIT_SECONDS_MAX, self.dispatch_soon)
        self._dispatch = dispatch
        self._loop = asyncio.get_running_loop()
        self._records: list[StoredRecord] = []
        self._later: deque[_Later] = deque()
        """What has happened after these records."""
        self._is_due = False

    def append(self, records: Sequence[StoredRecord]) -> bool:
        """Hold these too if something is held; return whether that is so."""
        if self._later:
            self._later[-1].records += records
        elif self._records:
            self._records += records
        else:
            return False
        return True

    def put_back(self, records: Sequence[StoredRecord]) -> None:
        """Hold these before all others."""
        self._records[:0] = records

    def in_turn(self, number: int, apply: Callable[[], None]) -> None:
        """Apply what has happened in a partition, after its records that are held."""
        held = chain(self._records, *(each.records for each in self._later))
        if number in {each.number for each in self._later} or any(
            each.partition == number for each in held
        ):
            self._later.append(_Later(number, apply))
        else:
            apply()

    def dispatch_if_waiting(self) -> None:
        """A feed may have room for what waits, or what waits may not be for it any longer."""
        if self.backpressure.waiting:
            self.dispatch_soon()

    def dispatch_soon(self) -> None:
        """Read on: a feed has room, or the time to wait for that is over."""
        self.backpressure.end()
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._dispatch_part)

    def _dispatch_part(self) -> None:
        """Continue with a part of what was held."""
        self._is_due = False
        part, self._records = self._records[:BATCH_RECORDS_MAX], self._records[BATCH_RECORDS_MAX:]
        if part:
            self._dispatch(part)
        while self._later and not self._records:
            later = self._later.popleft()
            self._records = later.records
            later.apply()
        if self._records and not self.backpressure.waiting:
            self.dispatch_soon()

    def drop_except(self, numbers: Collection[int]) -> Sequence[StoredRecord]:
        """Keep only what is of these partitions; return the records that are dropped."""
        dropped: list[StoredRecord] = []
        self._records = _split(self._records, numbers, dropped)
        for later in self._later:
            later.records = _split(later.records, numbers, dropped)
            if later.number not in numbers:
                later.apply = _nothing
        # What had no room may be gone.
        self.dispatch_if_waiting()
        return dropped


def _split(
    records: Sequence[StoredRecord], numbers: Collection[int], dropped: list[StoredRecord]
) -> list[StoredRecord]:
    dropped += [each for each in records if each.partition not in numbers]
    return [each for each in records if each.partition in numbers]
