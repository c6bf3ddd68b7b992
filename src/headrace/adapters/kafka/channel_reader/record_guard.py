"""Notes which record a channel reader examines, so that one that stalls the event loop is found
after the process was ended for it.
"""

from collections.abc import Callable, Collection
from typing import Protocol


class RecordGuard(Protocol):
    """The note for the records of one topic."""

    @property
    def poison(self) -> Collection[tuple[int, int]]:
        """Partition and offset of the records that are not examined: each feed gets them."""
        ...

    def mark(self, partition: int, offset: int) -> None:
        """The reader starts to examine this record."""
        ...

    def clear(self) -> None:
        """It has finished that."""
        ...


class NoGuard:
    """Notes nothing."""

    poison: Collection[tuple[int, int]] = ()

    def mark(self, partition: int, offset: int) -> None:
        """As `RecordGuard.mark`."""

    def clear(self) -> None:
        """As `RecordGuard.clear`."""


GuardFactory = Callable[[str], RecordGuard]
"""Returns the guard of a topic."""


def no_guard(topic: str) -> RecordGuard:
    """Return a guard that notes nothing."""
    return NoGuard()
