"""The events of one kind on their way to the sink: many at a time, those of one object in order."""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

from headrace.domain.event import Event
from headrace_sources.source import Emit

IN_FLIGHT_MAX: Final = 64


class _Entry:
    __slots__ = ("commit", "delivered", "key")

    def __init__(self, key: str | None, commit: Callable[[], None]) -> None:
        """`key` is the object of the event, None without an event."""
        self.key, self.commit, self.delivered = key, commit, key is None


class Deliveries:
    """Sends events, and commits each when it and all before it are delivered."""

    def __init__(self, emit: Emit, failed: Callable[[Exception], None]) -> None:
        """`failed` is called with the error of the first event that is not delivered."""
        self._emit = emit
        self._failed = failed
        self._entries: deque[_Entry] = deque()
        self._keys: set[str] = set()
        """The objects that have an event on its way."""
        self._changed = asyncio.Event()
        self._failure: Exception | None = None
        self._closed = False

    async def send(self, key: str, event: Event, commit: Callable[[], None]) -> None:
        """Send the event of an object, once there is space and no other event of the object is on
        its way. Raises what an earlier event has failed with.
        """
        while len(self._entries) >= IN_FLIGHT_MAX or key in self._keys:
            await self._wait()
        self._check()
        entry = _Entry(key, commit)
        self._entries.append(entry)
        self._keys.add(key)
        self._emit.start(event, partial(self._done, entry))

    async def skip(self, commit: Callable[[], None]) -> None:
        """Commit something without an event, after all events before it. Raises what an earlier
        event has failed with.
        """
        while len(self._entries) >= IN_FLIGHT_MAX:
            await self._wait()
        self._check()
        self._entries.append(_Entry(None, commit))
        self._advance()

    async def flush(self) -> None:
        """Wait until everything is committed. Raises what an event has failed with."""
        while self._entries:
            await self._wait()
        self._check()

    def close(self) -> None:
        """Commit nothing from now on."""
        self._closed = True
        self._entries.clear()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    async def _wait(self) -> None:
        self._check()
        self._changed.clear()
        await self._changed.wait()

    def _done(self, entry: _Entry, error: Exception | None) -> None:
        if self._closed:
            return
        if error is None:
            entry.delivered = True
            self._keys.discard(entry.key or "")
            self._advance()
        elif self._failure is None:
            self._failure = error
            self._failed(error)
        self._changed.set()

    def _advance(self) -> None:
        while self._entries and self._entries[0].delivered:
            self._entries.popleft().commit()
