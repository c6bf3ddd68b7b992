"""The memory that large response bodies may take, of all connections of a sender together.

A body of more than the small bound is read only when there is room for all of it, so that those
which are being read come to their end; the others wait, with their connections paused. Targets take
turns, and a body that holds room while others wait must arrive at a minimum rate: one subscriber
whose responses never end must not keep the room from all others. The room is given back when nobody
holds the lease: as long as a reply waits to be stored, its bytes are in memory.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

WAITING_MAX = 64
"""Each holds what came with one read of its connection; one more is refused."""
CHECK_SECONDS = 0.5
GRACE_SECONDS = 2.0
"""For which a body may hold room without progress, while others wait."""
BYTES_PER_SECOND_MIN = 262_144
"""Of a body that holds room, after that, while others wait."""


class BodyReader(Protocol):
    """Reads a body for which it has room."""

    @property
    def body_bytes(self) -> int:
        """How much of the body has come."""
        ...

    def fail_slow(self) -> None:
        """End it: its body is slower than it may be while others wait."""
        ...

    def refuse_wait(self) -> None:
        """End it: too many wait."""
        ...


class BodyReservation:
    """Room for one body."""

    __slots__ = ("_budget", "_size", "contended_seconds", "reader")

    def __init__(self, room: "BodyBudget", size: int) -> None:
        self.reader: BodyReader | None = None
        """Who still reads the body; None when it is here."""
        self.contended_seconds = 0.0
        """For how long it has held its room while others waited."""
        self._budget = room
        self._size = size

    def release(self) -> None:
        """Give the room back. Idempotent."""
        size, self._size = self._size, 0
        if size:
            self._budget.released(size)

    def __del__(self) -> None:
        self.release()


class BodyBudget:
    """Hands out leases, to targets in turn; one body larger than the room has it to itself."""

    def __init__(self, bytes_max: int, loop: asyncio.AbstractEventLoop) -> None:
        self.used = 0
        self._bytes_max = bytes_max
        self._loop = loop
        self._waiting: OrderedDict[object, OrderedDict[BudgetWaiter, None]] = OrderedDict()
        """By target, in the order of their turns; no target without one that waits."""
        self._waiting_count = 0
        self._reading: dict[BodyReader, BodyReservation] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._checked_at = 0.0

    def take(self, size: int, reader: BodyReader) -> BodyReservation | None:
        """Room for `size` bytes, None when it must be waited for."""
        return None if self._waiting else self._reserve(size, reader)

    def wait(
        self,
        size: int,
        reader: BodyReader,
        target: object,
        granted: Callable[[BodyReservation], None],
    ) -> "BudgetWaiter | None":
        """Call `granted` when there is room, from the loop; None when too many wait already, of
        this target more than of any other.
        """
        if self._waiting_count >= WAITING_MAX:
            longest = max(self._waiting, key=lambda each: len(self._waiting[each]))
            if len(self._waiting[longest]) <= len(self._waiting.get(target, ())) + 1:
                return None
            newest = next(reversed(self._waiting[longest]))
            newest.cancel()
            newest.reader.refuse_wait()
        waiting = BudgetWaiter(self, size, reader, target, granted)
        self._waiting.setdefault(target, OrderedDict())[waiting] = None
        self._waiting_count += 1
        if self._timer is None:
            self._checked_at = self._loop.time()
            self._timer = self._loop.call_later(CHECK_SECONDS, self._check_progress)
        return waiting

    def reserve_unchecked(self, size: int) -> BodyReservation:
        """Count bytes that are in memory already; those who wait then wait for them too."""
        self.used += size
        return BodyReservation(self, size)

    def end_reading(self, reader: BodyReader) -> None:
        """The body of this reader is here, or given up. Idempotent."""
        lease = self._reading.pop(reader, None)
        if lease is not None:
            lease.reader = None

    def withdraw(self, waiting: "BudgetWaiter") -> None:
        """One no longer waits."""
        of_target = self._waiting.get(waiting.target)
        if of_target is not None and waiting in of_target:
            self._leave(waiting, of_target)
            self._wake()

    def released(self, size: int) -> None:
        """A lease has ended."""
        self.used -= size
        self._wake()

    def _leave(self, waiting: "BudgetWaiter", of_target: OrderedDict["BudgetWaiter", None]) -> None:
        del of_target[waiting]
        self._waiting_count -= 1
        if not of_target:
            del self._waiting[waiting.target]

    def _reserve(self, size: int, reader: BodyReader) -> BodyReservation | None:
        if self.used and self.used + size > self._bytes_max:
            return None
        lease = self.reserve_unchecked(size)
        lease.reader = reader
        self._reading[reader] = lease
        return lease

    def _wake(self) -> None:
        if self._waiting:
            with suppress(RuntimeError):  # the loop is closed: a lease may end after it
                self._loop.call_soon(self._grant)

    def _grant(self) -> None:
        while self._waiting:
            target, of_target = next(iter(self._waiting.items()))
            first = next(iter(of_target))
            lease = self._reserve(first.size, first.reader)
            if lease is None:
                return
            self._waiting.move_to_end(target)
            self._leave(first, of_target)
            first.granted(lease)

    def _check_progress(self) -> None:
        """End what keeps others waiting. Time in which the loop stood still is nobody's fault."""
        self._timer = None
        if not self._waiting:
            return
        now = self._loop.time()
        elapsed, self._checked_at = min(now - self._checked_at, 2 * CHECK_SECONDS), now
        for reader, lease in list(self._reading.items()):
            lease.contended_seconds += elapsed
            if reader.body_bytes < (lease.contended_seconds - GRACE_SECONDS) * BYTES_PER_SECOND_MIN:
                self.end_reading(reader)
                reader.fail_slow()
        self._timer = self._loop.call_later(CHECK_SECONDS, self._check_progress)


class BudgetWaiter:
    """A place in the queue for room."""

    __slots__ = ("_budget", "granted", "reader", "size", "target")

    def __init__(
        self,
        room: BodyBudget,
        size: int,
        reader: BodyReader,
        target: object,
        granted: Callable[[BodyReservation], None],
    ) -> None:
        self._budget = room
        self.size = size
        self.reader = reader
        self.target = target
        self.granted = granted

    def cancel(self) -> None:
        """Give the place up. Idempotent."""
        self._budget.withdraw(self)
