"""A revocation while the event loop handles it."""

import threading
from collections.abc import Collection, Sequence

from headrace.adapters.kafka.consumer.positions import Position
from headrace.domain.record import Partition


class RevocationRequest:
    """Partitions that have to be given back. The thread waits for the request, and the loop
    completes it with what is done.
    """

    def __init__(self, partitions: Collection[Partition]) -> None:
        self.partitions = partitions
        self.positions: Sequence[Position] = ()
        self._completed = threading.Event()
        self._given_up = False

    @property
    def is_open(self) -> bool:
        """Whether the thread waits for the completion."""
        return not self._given_up and not self._completed.is_set()

    def complete(self, positions: Sequence[Position]) -> None:
        """Give the partitions back, with what is to be committed for them. Loop."""
        self.positions = positions
        self._completed.set()

    def wait(self, timeout_seconds: float) -> bool:
        """Wait for the completion. Thread."""
        return self._completed.wait(timeout_seconds)

    def give_up(self) -> None:
        """Wait no longer: the partitions are lost. Thread."""
        self._given_up = True
