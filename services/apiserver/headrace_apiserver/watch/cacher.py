"""Connects the store's changes with the clients that watch.

One callback puts every change into the watch cache (`headrace_apiserver.watch.watch_cache`) and
wakes the watches it concerns; each watch then reads the cache at its client's speed. Nothing is
queued per watch: a client that falls behind the oldest cached change gets 410 and lists again. So
an idle watch costs a few hundred bytes, a change is encoded once, and a slow client delays no
other.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakSet

from headrace.resources.resource import Change, Resource, ResourceKind
from headrace_apiserver.requests.selectors import EVERYTHING, Selection
from headrace_apiserver.statuses import expired, too_many_requests, unavailable
from headrace_apiserver.watch.frames import EventType, Framing, bookmark, error_frame
from headrace_apiserver.watch.watch_cache import (
    BYTES_MAX,
    CHANGES_MAX,
    CachedChange,
    KindHistory,
    WatchCache,
    matches_watch,
)

WATCHES_MAX = 2_000
"""Open watches; a further one is answered 429."""
BOOKMARK_SECONDS = 60.0
CHUNK_BYTES = 64 * 1024
"""A watch yields to other tasks after this many bytes."""
_CHUNK_OBJECTS = 500
"""A watch yields after this many objects, even if its selector passes none of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchRequest:
    """What a client wants to watch."""

    kind: ResourceKind
    namespace: str | None = None
    """None for all namespaces."""
    selection: Selection = EVERYTHING
    since: str | None = None
    """Resume after this resourceVersion; None or `0` for changes from now on."""
    initial: bool = True
    """Without a version to resume from: start with an ADDED event for every existing object."""
    initial_end: bool = False
    """Mark the end of the initial events with a bookmark (watch-list)."""
    bookmarks: bool = False
    seconds: float = 1800.0
    """The watch ends after this long; the client resumes."""


class InitialListSlot(Protocol):
    """The share of the server that a watch holds while it sends its initial events."""

    async def wait_turn(self) -> None:
        """Return when other clients have had their turn."""
        ...

    def release(self) -> None:
        """The initial events are sent, or the watch has ended. Idempotent."""
        ...


class UnlimitedSlot:
    """A slot without a limit, for a watch that is not counted."""

    async def wait_turn(self) -> None:
        """See InitialListSlot."""
        await asyncio.sleep(0)

    def release(self) -> None:
        """See InitialListSlot."""


class Cacher:
    """All watches of one process. Lives on the event loop; it never blocks or fails because of one
    client.
    """

    def __init__(
        self,
        position: Callable[[], str],
        *,
        changes_max: int = CHANGES_MAX,
        bytes_max: int = BYTES_MAX,
        watches_max: int = WATCHES_MAX,
        bookmark_seconds: float = BOOKMARK_SECONDS,
    ) -> None:
        """`position` returns the resourceVersion of a list read now."""
        self._position = position
        self._cache = WatchCache(changes_max=changes_max, bytes_max=bytes_max)
        self._watches_max = watches_max
        self.bookmark_seconds = bookmark_seconds
        self._watchers: WeakSet[CacheWatcher] = WeakSet()
        self._waiting: dict[KindHistory, set[CacheWatcher]] = {}
        self._running = False

    @property
    def watching(self) -> int:
        """How many watches are open."""
        return len(self._watchers)

    def start(self) -> None:
        """Call it when the store has been read completely: changes from now on are history that
        clients can follow.
        """
        self._cache.floor = int(self._position() or -1)
        self._running = True

    def stop(self) -> None:
        """End every watch; clients reconnect, to another process if there is one. Idempotent."""
        self._running = False
        for watch in list(self._watchers):
            watch.end()

    def feed(self, changes: Sequence[Change]) -> None:
        """Add changes of the store, in order: the callback for `ResourceStore.watch`."""
        if not self._running:
            return
        for change in changes:
            put = self._cache.put(change)
            if put is not None:
                self._notify(*put)

    def open(
        self,
        request: WatchRequest,
        framing: Framing,
        listed: Callable[[], Sequence[Resource]],
        *,
        slot: InitialListSlot | None = None,
    ) -> "CacheWatcher":
        """Start a watch; `listed` returns the resources of its kind as they are now, and is called
        only where initial events are wanted.

        `slot` is released when the initial events have been sent.

        Raises StatusError: 429 with too many watches, 503 before the store has been read. A version
        that is too old is not an error of the request: the only event of the watch is then a Status
        410.
        """
        if not self._running:
            raise unavailable("the resources are still being read; watch again in a moment")
        if len(self._watchers) >= self._watches_max:
            raise too_many_requests(
                f"{self._watches_max} watches are open, which is the limit of this server"
            )
        history = self._cache.history(request.kind.group, request.kind.plural)
        watch = CacheWatcher(self, history, request, framing, slot or UnlimitedSlot())
        if request.since in (None, "", "0"):
            # The list and the end of the history are read without an await between them, so no
            # change is missed.
            resources = listed() if request.initial else ()
            watch.begin(resources, number=history.end, version=self._newest())
        else:
            self._resume(watch, history, str(request.since))
        self._watchers.add(watch)
        return watch

    @property
    def newest_delivered(self) -> int:
        """Version of the newest change that the store has delivered: a reader of all histories has
        seen everything up to it.
        """
        return max(self._cache.newest, self._cache.floor)

    def covers(self, kind: ResourceKind, version: str) -> bool:
        """Whether all changes of a kind since this version are cached, so that a watch could resume
        from it.
        """
        number = _number(version)
        return (
            self._cache.oldest_version(self._cache.history(kind.group, kind.plural))
            <= number
            <= self._newest()
        )

    def oldest_version(self, history: KindHistory) -> int:
        """The oldest version from which a watch of this history can resume."""
        return self._cache.oldest_version(history)

    def line(
        self, cached: CachedChange, event: EventType, framing: Framing, *, first: bool
    ) -> bytes:
        """The line for an event, shared by all watches with the same framing."""
        return self._cache.line(cached, event, framing, first=first)

    def wait(self, history: KindHistory, watch: "CacheWatcher") -> None:
        """Wake this watch at the next change that concerns it."""
        self._waiting.setdefault(history, set()).add(watch)

    def leave(self, history: KindHistory, watch: "CacheWatcher") -> None:
        """Do not wake this watch again."""
        waiting = self._waiting.get(history)
        if waiting is not None:
            waiting.discard(watch)
            if not waiting:
                del self._waiting[history]

    def close(self, watch: "CacheWatcher") -> None:
        """Remove a watch."""
        self._watchers.discard(watch)

    def _resume(self, watch: "CacheWatcher", history: KindHistory, since: str) -> None:
        version = _number(since)
        if version < self.oldest_version(history):
            watch.expire(f"too old resource version: {since:.40} ({self.oldest_version(history)})")
        elif version > self._newest():
            # No list of this store can have returned this version: it comes from another store, or
            # from changes that this store has lost.
            watch.expire(f"too new resource version: {since:.40} ({self._newest()}); list again")
        else:
            watch.begin((), number=history.after(version), version=version)

    def _newest(self) -> int:
        # A store may show a change in its lists shortly before it delivers it here.
        return max(self.newest_delivered, int(self._position() or -1))

    def _notify(self, history: KindHistory, cached: CachedChange) -> None:
        waiting = self._waiting.get(history)
        if waiting:
            for watch in [watch for watch in waiting if watch.wants(cached, history.end)]:
                self.leave(history, watch)
                watch.wake()


def _number(version: str) -> int:
    """A resourceVersion as a number; -1, which no history covers, if it is not a number."""
    return int(version) if version.isascii() and version.isdecimal() and len(version) < 20 else -1


class CacheWatcher:
    """One client's watch: an asynchronous iterator over chunks of whole lines. Close it when the
    client has gone.
    """

    def __init__(
        self,
        cacher: Cacher,
        history: KindHistory,
        request: WatchRequest,
        framing: Framing,
        slot: InitialListSlot,
    ) -> None:
        self._cacher = cacher
        self._history = history
        self._request = request
        self._framing = framing
        self._slot = slot
        self._passes: Callable[[Mapping[str, Any]], bool] | None = (
            None if request.selection.everything else request.selection.passes
        )
        self._initial: Sequence[Resource] = ()
        self._initial_at = 0
        self._initial_open = False
        self._number = 0
        self._version = 0
        self._first = True
        self._failure: bytes | None = None
        self._ended = False
        self._woken: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        """For the next bookmark or the end; not restarted at each change, since a watch wakes for
        each of them.
        """
        now = asyncio.get_running_loop().time()
        self._deadline = now + request.seconds
        self._bookmark_at = now + cacher.bookmark_seconds

    def begin(self, initial: Sequence[Resource], *, number: int, version: int) -> None:
        """Send these resources first, then the history from `number` on, as far as it is newer than
        `version`.
        """
        self._initial = initial
        self._initial_open = self._request.initial_end
        self._number = number
        self._version = version
        if not initial:
            self._slot.release()

    def expire(self, message: str) -> None:
        """Send a Status 410, then end."""
        self._failure = error_frame(expired(message).status)

    def end(self) -> None:
        """End the watch after the events it has buffered."""
        self._ended = True
        self.wake()

    def close(self) -> None:
        """The client has gone. Idempotent."""
        self._ended = True
        self._slot.release()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._cacher.leave(self._history, self)
        self._cacher.close(self)

    def wake(self) -> None:
        """Continue after a wait."""
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    def wants(self, cached: CachedChange, end: int) -> bool:
        """Whether a new change concerns this waiting watch; other changes are skipped, so that a
        quiet watch never falls behind.
        """
        if self._event(cached) is not None:
            return True
        self._number = end
        return False

    def __aiter__(self) -> "CacheWatcher":
        """The watch itself; it can be iterated once."""
        return self

    async def __anext__(self) -> bytes:
        """The next lines; ends at the deadline, after a failure, or when the server stops."""
        while not self._ended:
            chunk = b""
            while self._initial and not chunk:
                await self._slot.wait_turn()
                chunk = self._initial_chunk()
            chunk = chunk or self._initial_chunk() or self._chunk()
            if chunk:
                if len(chunk) >= CHUNK_BYTES // 4:
                    # The transport accepts what it can buffer without waiting, so other tasks run
                    # only if this one yields.
                    await asyncio.sleep(0)
                return chunk
            if self._failure is not None:
                self.close()
                return self._failure
            ending = await self._wait()
            if ending:
                return ending
        self.close()
        raise StopAsyncIteration

    def _initial_chunk(self) -> bytes:
        lines: list[bytes] = []
        size = 0
        end = min(len(self._initial), self._initial_at + _CHUNK_OBJECTS)
        while self._initial_at < end and size < CHUNK_BYTES:
            resource = self._initial[self._initial_at]
            self._initial_at += 1
            if matches_watch(resource, self._request.namespace, self._passes):
                lines.append(
                    self._framing.frame(EventType.ADDED, resource.object, first=self._first)
                )
                self._first = False
                size += len(lines[-1])
        if self._initial_at == len(self._initial):
            self._initial, self._initial_at = (), 0
            self._slot.release()
            if self._initial_open:
                self._initial_open = False
                lines.append(self._bookmark(initial_end=True))
        return b"".join(lines)

    def _chunk(self) -> bytes:
        if self._failure is not None:
            return b""
        if self._number < self._history.oldest:
            self.expire(
                f"too old resource version: {self._version}"
                f" ({self._cacher.oldest_version(self._history)})"
            )
            return b""
        lines: list[bytes] = []
        size = 0
        for cached in self._history.since(self._number):
            self._number += 1
            event = self._event(cached)
            if event is None:
                continue
            self._version = cached.version
            lines.append(self._cacher.line(cached, event, self._framing, first=self._first))
            self._first = False
            size += len(lines[-1])
            if size >= CHUNK_BYTES:
                break
        return b"".join(lines)

    def _event(self, cached: CachedChange) -> EventType | None:
        if (
            self._request.namespace not in (None, cached.namespace)
            or cached.version <= self._version
        ):
            return None
        return cached.event(self._passes)

    async def _wait(self) -> bytes:
        """Wait for a change that concerns this watch, or for the next bookmark; returns that
        bookmark, or nothing.
        """
        loop = asyncio.get_running_loop()
        due = min(self._deadline, self._bookmark_at) if self._request.bookmarks else self._deadline
        if self._timer is None:
            self._timer = loop.call_at(due, self._on_timer)
        self._woken = loop.create_future()
        self._cacher.wait(self._history, self)
        try:
            await self._woken
        finally:
            self._woken = None
            self._cacher.leave(self._history, self)
        now = loop.time()
        if now >= self._deadline:
            self._ended = True
        if now < due or not self._request.bookmarks or self._number != self._history.end:
            return b""
        self._bookmark_at = now + self._cacher.bookmark_seconds
        return self._bookmark()

    def _on_timer(self) -> None:
        self._timer = None
        self.wake()

    def _bookmark(self, *, initial_end: bool = False) -> bytes:
        if not initial_end:
            # Everything cached has been sent, so whatever comes is newer than this.
            self._version = max(self._version, self._cacher.newest_delivered)
        document = bookmark(self._request.kind, str(self._version), initial_end=initial_end)
        line = self._framing.frame(EventType.BOOKMARK, document, first=self._first)
        self._first = False
        return line
