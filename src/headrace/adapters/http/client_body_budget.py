"""Memory budget for large response bodies, shared by all connections of a sender.

A body above the small size limit is read only when its full size can be reserved, so that every
body being read can be completed. Other bodies wait, with reading from their connections paused.

Reservations are granted to targets in turn. While others wait, a body that holds a reservation must
arrive at a minimum rate, so that one subscriber whose responses never end cannot block all others.
A reservation is released when nothing refers to it, because the bytes of a reply stay in memory
until the reply is stored.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

WAITING_MAX = 64
"""Maximum number of waiting bodies. Each holds the data of one read from its connection."""
CHECK_SECONDS = 0.5
GRACE_SECONDS = 2.0
"""How long a body may hold a reservation without progress while others wait."""
BYTES_PER_SECOND_MIN = 262_144
"""Minimum rate of a body that holds a reservation while others wait, after the grace period."""


class BodyReader(Protocol):
    """Reads a body that has a reservation or waits for one."""

    @property
    def body_bytes(self) -> int:
        """Number of bytes of the body received so far."""
        ...

    def fail_slow(self) -> None:
        """Fail the response because its body is below the minimum rate while others wait."""
        ...

    def refuse_wait(self) -> None:
        """Fail the response because too many bodies wait."""
        ...


class BodyReservation:
    """Memory reserved for one body. It is released at the latest when the object is deleted."""

    __slots__ = ("_budget", "_size", "contended_seconds", "reader")

    def __init__(self, room: "BodyBudget", size: int) -> None:
        self.reader: BodyReader | None = None
        """The reader of the body; None after the body was read."""
        self.contended_seconds = 0.0
        """How long the reservation has been held while others waited, in seconds."""
        self._budget = room
        self._size = size

    def release(self) -> None:
        """Return the memory to the budget. Idempotent."""
        size, self._size = self._size, 0
        if size:
            self._budget.released(size)

    def __del__(self) -> None:
        self.release()


class BodyBudget:
    """Grants reservations to targets in turn. A body larger than the whole budget is granted only
    while nothing else is reserved.
    """

    def __init__(self, bytes_max: int, loop: asyncio.AbstractEventLoop) -> None:
        self.used = 0
        self._bytes_max = bytes_max
        self._loop = loop
        self._waiting: OrderedDict[object, OrderedDict[BudgetWaiter, None]] = OrderedDict()
        """By target, in the order in which targets are served; only targets with waiting bodies."""
        self._waiting_count = 0
        self._reading: dict[BodyReader, BodyReservation] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._checked_at = 0.0

    def take(self, size: int, reader: BodyReader) -> BodyReservation | None:
        """Reserve `size` bytes. Return None if the reader must `wait`."""
        return None if self._waiting else self._reserve(size, reader)

    def wait(
        self,
        size: int,
        reader: BodyReader,
        target: object,
        granted: Callable[[BodyReservation], None],
    ) -> "BudgetWaiter | None":
        """Queue for `size` bytes; the event loop calls `granted` when they are reserved.

        When the queue is full, the newest waiter of the target with the longest queue is refused.
        Return None if `target` itself would then have the longest queue.
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
        """Count bytes that are already in memory, even if that exceeds the budget. Waiting bodies
        then also wait for the release of these bytes.
        """
        self.used += size
        return BodyReservation(self, size)

    def end_reading(self, reader: BodyReader) -> None:
        """Record that the body of this reader was read or abandoned. Idempotent."""
        lease = self._reading.pop(reader, None)
        if lease is not None:
            lease.reader = None

    def withdraw(self, waiting: "BudgetWaiter") -> None:
        """Remove a waiter from the queue. Idempotent."""
        of_target = self._waiting.get(waiting.target)
        if of_target is not None and waiting in of_target:
            self._leave(waiting, of_target)
            self._wake()

    def released(self, size: int) -> None:
        """Return the bytes of a released reservation to the budget."""
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
            with suppress(RuntimeError):  # The loop may be closed by now.
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
        """Fail bodies that are too slow while others wait. A blocked event loop does not count."""
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
    """An entry in the queue for reservations."""

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
        """Leave the queue. Idempotent."""
        self._budget.withdraw(self)
