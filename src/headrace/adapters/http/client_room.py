"""The memory that large response bodies may take, of all connections of a sender together.

A body of more than the small bound is read only when there is room for all of it, so that those which are being read come to their end;
the others wait, with their connections paused, in the order in which they came. The room is given back when nobody holds the lease any
more: as long as a reply waits to be stored, its bytes are in memory.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress

WAITING_MAX = 64
"""Each holds what came with one read of its connection; one more is refused."""


class Lease:
    """Room for one body."""

    __slots__ = ("_room", "_size")

    def __init__(self, room: "Room", size: int) -> None:
        self._room = room
        self._size = size

    def release(self) -> None:
        """Give the room back. Idempotent."""
        size, self._size = self._size, 0
        if size:
            self._room.released(size)

    def __del__(self) -> None:
        self.release()


class Room:
    """Hands out leases, first come, first served; one body larger than the room has it to itself."""

    def __init__(self, bytes_max: int, loop: asyncio.AbstractEventLoop) -> None:
        self.used = 0
        self._bytes_max = bytes_max
        self._loop = loop
        self._waiting: OrderedDict[Waiting, None] = OrderedDict()

    def take(self, size: int) -> Lease | None:
        """Room for `size` bytes, None when it must be waited for."""
        return None if self._waiting else self._lease(size)

    def wait(self, size: int, granted: Callable[[Lease], None]) -> "Waiting | None":
        """Call `granted` when there is room, from the loop; None when too many wait already."""
        if len(self._waiting) >= WAITING_MAX:
            return None
        waiting = Waiting(self, size, granted)
        self._waiting[waiting] = None
        return waiting

    def force(self, size: int) -> Lease:
        """Count bytes that are in memory already; those who wait then wait for them too."""
        self.used += size
        return Lease(self, size)

    def withdraw(self, waiting: "Waiting") -> None:
        """One does not wait any more."""
        if waiting in self._waiting:
            del self._waiting[waiting]
            self._wake()

    def released(self, size: int) -> None:
        """A lease has ended."""
        self.used -= size
        self._wake()

    def _lease(self, size: int) -> Lease | None:
        return self.force(size) if not self.used or self.used + size <= self._bytes_max else None

    def _wake(self) -> None:
        if self._waiting:
            with suppress(RuntimeError):  # the loop is closed: a lease may end after it
                self._loop.call_soon(self._grant)

    def _grant(self) -> None:
        while self._waiting:
            first = next(iter(self._waiting))
            lease = self._lease(first.size)
            if lease is None:
                return
            del self._waiting[first]
            first.granted(lease)


class Waiting:
    """A place in the queue for room."""

    __slots__ = ("_room", "granted", "size")

    def __init__(self, room: Room, size: int, granted: Callable[[Lease], None]) -> None:
        self._room = room
        self.size = size
        self.granted = granted

    def cancel(self) -> None:
        """Give the place up. Idempotent."""
        self._room.withdraw(self)
