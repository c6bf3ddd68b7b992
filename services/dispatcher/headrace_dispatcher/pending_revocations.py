"""Partitions that are being revoked and are still worked on."""

from collections.abc import Callable, Collection

from headrace.domain.record import Partition


class PendingRevocations:
    """Calls back, for each revocation, once nothing of its partitions is worked on."""

    __slots__ = ("entries",)

    def __init__(self) -> None:
        self.entries: list[tuple[frozenset[Partition], Callable[[], None]]] = []

    def add(self, partitions: Collection[Partition], drained: Callable[[], None]) -> None:
        """Remember a revocation; `complete` calls its `drained`."""
        self.entries.append((frozenset(partitions), drained))

    def complete(self, busy: Collection[Partition]) -> None:
        """Complete the revocations that have none of the `busy` partitions."""
        entries, self.entries = self.entries, []
        for partitions, drained in entries:
            if partitions.isdisjoint(busy):
                drained()
            else:
                self.entries.append((partitions, drained))
