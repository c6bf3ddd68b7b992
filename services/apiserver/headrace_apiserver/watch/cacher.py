"""The hub between the store's changes and the clients that watch.

One callback takes every change into the window (`headrace_apiserver.watch.watch_cache`) and wakes
those watches it concerns; each watch reads on from there at its client's speed. Nothing is queued
per watch: a client that is slower than the window is long is told 410 and lists again. So a watch
costs a few hundred bytes while it waits, a change costs its encoding once, and no slow client holds
up anybody.
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
"""Open watches; one more is answered 429."""
BOOKMARK_SECONDS = 60.0
CHUNK_BYTES = 64 * 1024
"""After this much a watch lets others have the loop."""
_CHUNK_OBJECTS = 500
"""Or after so many, of which its selector may pass none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchRequest:
    """What a client wants to watch."""

    kind: ResourceKind
    namespace: str | None = None
    """None: all namespaces."""
    selection: Selection = EVERYTHING
    since: str | None = None
    """Go on after this resourceVersion; None or `0`: from now on."""
    initial: bool = True
    """With no version to go on from: begin with an ADDED for everything there is."""
    initial_end: bool = False
    """Mark the end of that with a bookmark (watch-list)."""
    bookmarks: bool = False
    seconds: float = 1800.0
    """The watch ends after this long; the client resumes."""


class InitialListSlot(Protocol):
    """What a watch costs others until it has shown what there is."""

    async def wait_turn(self) -> None:
        """Return when others have had the loop."""
        ...

    def release(self) -> None:
        """The watch has shown it all, or is over. Idempotent."""
        ...


class UnlimitedSlot:
    """A watch that nobody counts."""

    async def wait_turn(self) -> None:
        """See InitialListSlot."""
        await asyncio.sleep(0)

    def release(self) -> None:
        """See InitialListSlot."""


class Cacher:
    """All watches of one process. Lives on the loop; nothing here blocks or fails for the sake of
    one client.
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
        """`position` is the store's: the resourceVersion of a list read now."""
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
        """The store has read everything: what it tells from now on is history that clients can
        follow.
        """
        self._cache.floor = int(self._position() or -1)
        self._running = True

    def stop(self) -> None:
        """End every watch; their clients try again elsewhere. Idempotent."""
        self._running = False
        for watch in list(self._watchers):
            watch.end()

    def feed(self, changes: Sequence[Change]) -> None:
        """Take what happened in the store, in order: the callback for `ResourceStore.watch`."""
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
        """Begin a watch; `listed` reads the resources of its kind now, and is called only where an
        initial state is wanted.

        `slot` is left when that state has been shown.

        Raises StatusError: 429 with too many watches, 503 before the store has been read. A version
        out of reach is no error of the request: the watch's only event says 410.
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
            # A list and the end of the shelf are read in one go: nothing happens between them.
            resources = listed() if request.initial else ()
            watch.begin(resources, number=history.end, version=self._newest())
        else:
            self._resume(watch, history, str(request.since))
        self._watchers.add(watch)
        return watch

    @property
    def newest_delivered(self) -> int:
        """Version of the newest change the store has told: who has read all shelves has seen
        everything up to it.
        """
        return max(self._cache.newest, self._cache.floor)

    def covers(self, kind: ResourceKind, version: str) -> bool:
        """Whether everything that happened to a kind since this version is known here: a watch
        could go on from it.
        """
        number = _number(version)
        return (
            self._cache.oldest_version(self._cache.history(kind.group, kind.plural))
            <= number
            <= self._newest()
        )

    def oldest_version(self, history: KindHistory) -> int:
        """The oldest version a watch of this shelf can go on from."""
        return self._cache.oldest_version(history)

    def line(
        self, cached: CachedChange, event: EventType, framing: Framing, *, first: bool
    ) -> bytes:
        """The line for an event; shared by all watches that get the same."""
        return self._cache.line(cached, event, framing, first=first)

    def wait(self, history: KindHistory, watch: "CacheWatcher") -> None:
        """Wake this watch with the next change that concerns it."""
        self._waiting.setdefault(history, set()).add(watch)

    def leave(self, history: KindHistory, watch: "CacheWatcher") -> None:
        """Wake it no more."""
        waiting = self._waiting.get(history)
        if waiting is not None:
            waiting.discard(watch)
            if not waiting:
                del self._waiting[history]

    def close(self, watch: "CacheWatcher") -> None:
        """Forget a watch."""
        self._watchers.discard(watch)

    def _resume(self, watch: "CacheWatcher", history: KindHistory, since: str) -> None:
        version = _number(since)
        if version < self.oldest_version(history):
            watch.expire(f"too old resource version: {since:.40} ({self.oldest_version(history)})")
        elif version > self._newest():
            # No list of this store can have said so: it is of another one, or of what this one
            # lost.
            watch.expire(f"too new resource version: {since:.40} ({self._newest()}); list again")
        else:
            watch.begin((), number=history.after(version), version=version)

    def _newest(self) -> int:
        # A store may show a change in its lists a moment before it tells it here.
        return max(self.newest_delivered, int(self._position() or -1))

    def _notify(self, history: KindHistory, cached: CachedChange) -> None:
        waiting = self._waiting.get(history)
        if waiting:
            for watch in [watch for watch in waiting if watch.wants(cached, history.end)]:
                self.leave(history, watch)
                watch.wake()


def _number(version: str) -> int:
    """A resourceVersion as a number; -1, which is out of reach, for what is none."""
    return int(version) if version.isascii() and version.isdecimal() and len(version) < 20 else -1


class CacheWatcher:
    """One client's watch: an asynchronous iterator of chunks of whole lines. Close it when the
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
        """For the bookmark or end that is due next; kept while changes come, since a watch wakes
        for each of them.
        """
        now = asyncio.get_running_loop().time()
        self._deadline = now + request.seconds
        self._bookmark_at = now + cacher.bookmark_seconds

    def begin(self, initial: Sequence[Resource], *, number: int, version: int) -> None:
        """Show these resources first, then the shelf from `number` on, of it what is newer than
        `version`.
        """
        self._initial = initial
        self._initial_open = self._request.initial_end
        self._number = number
        self._version = version
        if not initial:
            self._slot.release()

    def expire(self, message: str) -> None:
        """Let the watch say 410 and end."""
        self._failure = error_frame(expired(message).status)

    def end(self) -> None:
        """End the watch after what it has in hand."""
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
        """Go on."""
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    def wants(self, cached: CachedChange, end: int) -> bool:
        """Whether a new change concerns this waiting watch; one that does not is passed by, so that
        a quiet watch never falls behind.
        """
        if self._event(cached) is not None:
            return True
        self._number = end
        return False

    def __aiter__(self) -> "CacheWatcher":
        """The watch iterates over itself, once."""
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
                    # The transport takes what it can buffer without waiting, so others get the loop
                    # only if it is given to them.
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
        """Wait for a change that concerns this watch; the bookmark that is due instead, if
        one is.
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
            # All there is has been shown, so what is to come is newer than this.
            self._version = max(self._version, self._cacher.newest_delivered)
        document = bookmark(self._request.kind, str(self._version), initial_end=initial_end)
        line = self._framing.frame(EventType.BOOKMARK, document, first=self._first)
        self._first = False
        return line
