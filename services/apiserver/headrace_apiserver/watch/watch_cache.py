"""The recent changes of the store, kept so that watches can be served and resumed.

There is one history per kind, so that a watch reads only changes of its own kind. All histories
together are bounded by a count and by an estimate of bytes; the oldest change of all kinds is
evicted first. A client that resumes from an evicted change gets 410, and lists again.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any

from headrace.resources.resource import Change, Resource
from headrace_apiserver.watch.frames import EventType, Framing

CHANGES_MAX = 10_000
BYTES_MAX = 32 * 1024 * 1024
LINES_BYTES_MAX = 8 * 1024 * 1024
"""Bytes of encoded lines that are kept for other watches that will need the same."""
_COST_PER_CHARACTER = 6
"""Approximate bytes in memory per character of the encoded document."""
_TRIM = 512

LineKey = tuple[EventType, Hashable, bool]


class CachedChange:
    """One change in a history, with the lines that were encoded for watches."""

    __slots__ = ("after", "before", "lines", "namespace", "version")

    def __init__(self, change: Change) -> None:
        self.version = int(change.version)
        self.namespace = change.key.namespace
        self.before = change.before.object if change.before is not None else None
        self.after = change.after.object if change.after is not None else None
        self.lines: dict[LineKey, bytes] = {}

    def release_documents(self) -> None:
        """Release its documents; a history keeps an evicted entry for a while before it compacts
        its list.
        """
        self.before = self.after = None

    def event(self, passes: Callable[[Mapping[str, Any]], bool] | None) -> EventType | None:
        """The event that this change is for a watch that sees only objects that pass: an object
        that no longer passes is DELETED for it.
        """
        before = self.before is not None and (passes is None or passes(self.before))
        after = self.after is not None and (passes is None or passes(self.after))
        if after:
            return EventType.MODIFIED if before else EventType.ADDED
        return EventType.DELETED if before else None

    def document(self, event: EventType) -> Mapping[str, Any]:
        """The object of this event: its new state, or, for a deletion, its last state at the
        version of the deletion. (A client must not resume before the deletion.)
        """
        if event is not EventType.DELETED:
            return self.after or {}
        before = self.before or {}
        return {
            **before,
            "metadata": {**before.get("metadata", {}), "resourceVersion": str(self.version)},
        }


class KindHistory:
    """The recent changes of one kind, oldest first, numbered by a counter that only grows (and is
    not a resourceVersion).
    """

    def __init__(self) -> None:
        self._changes: list[CachedChange] = []
        self._first = 0
        """Number of the first entry in the list."""
        self._head = 0
        """How many entries at the front of the list are evicted."""
        self.evicted_version = -1
        """Version of the newest evicted entry."""

    @property
    def oldest(self) -> int:
        """Number of the oldest entry."""
        return self._first + self._head

    @property
    def end(self) -> int:
        """Number that the next entry will have."""
        return self._first + len(self._changes)

    def put(self, cached: CachedChange) -> None:
        """Append the newest entry."""
        self._changes.append(cached)

    def evict(self) -> CachedChange:
        """Evict the oldest entry."""
        cached = self._changes[self._head]
        self._head += 1
        self.evicted_version = cached.version
        if self._head >= _TRIM or self._head == len(self._changes):
            del self._changes[: self._head]
            self._first += self._head
            self._head = 0
        return cached

    def after(self, version: int) -> int:
        """Number of the first entry that is newer than `version`."""
        return self._first + bisect_right(
            self._changes, version, lo=self._head, key=lambda cached: cached.version
        )

    def since(self, number: int) -> Iterator[CachedChange]:
        """The entries from this number on."""
        for index in range(number - self._first, len(self._changes)):
            yield self._changes[index]


class _DocumentMemory:
    """The memory of the documents that entries refer to. A document counts once even if several
    entries hold it: the new state in one entry is the old state in the next.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._held: dict[int, tuple[int, int]] = {}
        """By identity of a document: the number of entries that hold it, and its bytes. (An
        identity stays valid as long as the document is held.)
        """

    def hold(self, document: Mapping[str, Any] | None) -> None:
        """Count one more entry that holds it."""
        if document is not None:
            holders, size = self._held.get(id(document)) or (0, estimated_bytes(document))
            self._held[id(document)] = holders + 1, size
            self.bytes += size if holders == 0 else 0

    def release(self, document: Mapping[str, Any] | None) -> None:
        """Count one entry less."""
        if document is not None:
            holders, size = self._held.pop(id(document))
            if holders > 1:
                self._held[id(document)] = holders - 1, size
            else:
                self.bytes -= size


class WatchCache:
    """All histories, within one bound."""

    def __init__(self, *, changes_max: int = CHANGES_MAX, bytes_max: int = BYTES_MAX) -> None:
        self._changes_max = changes_max
        self._bytes_max = bytes_max
        self._histories: dict[tuple[str, str], KindHistory] = {}
        self._order: deque[KindHistory] = deque()
        self._lines: deque[tuple[CachedChange, LineKey, int]] = deque()
        self._lines_bytes = 0
        self._documents = _DocumentMemory()
        self.floor = -1
        """Changes at or before this version were never cached."""
        self.newest = -1
        """Version of the newest change seen."""

    @property
    def held_bytes(self) -> int:
        """Approximate memory of the documents of all changes."""
        return self._documents.bytes

    def __len__(self) -> int:
        """Number of cached changes."""
        return len(self._order)

    def history(self, group: str, plural: str) -> KindHistory:
        """The history of a kind; empty if nothing has happened to it."""
        return self._histories.setdefault((group, plural), KindHistory())

    def oldest_version(self, history: KindHistory) -> int:
        """The oldest resourceVersion from which a watch of this history misses nothing."""
        return max(self.floor, history.evicted_version)

    def put(self, change: Change) -> tuple[KindHistory, CachedChange] | None:
        """Add a change; returns None for one that is older than the newest here, which a store
        delivers again after it has been read from the start.
        """
        cached = CachedChange(change)
        if cached.version <= max(self.newest, self.floor):
            return None
        self.newest = cached.version
        history = self.history(change.key.group, change.key.plural)
        history.put(cached)
        self._order.append(history)
        for document in (cached.before, cached.after):
            self._documents.hold(document)
        while len(self._order) > self._changes_max or (
            self.held_bytes > self._bytes_max and len(self._order) > 1
        ):
            old = self._order.popleft().evict()
            for document in (old.before, old.after):
                self._documents.release(document)
            old.release_documents()
        return history, cached

    def line(
        self, cached: CachedChange, event: EventType, framing: Framing, *, first: bool
    ) -> bytes:
        """The line for this event, encoded once for all watches that need the same at about the
        same time.
        """
        key = (event, framing.key, first and framing.headed)
        line = cached.lines.get(key)
        if line is None:
            line = cached.lines[key] = framing.frame(event, cached.document(event), first=first)
            self._lines.append((cached, key, len(line)))
            self._lines_bytes += len(line)
            while self._lines_bytes > LINES_BYTES_MAX:
                old, old_key, size = self._lines.popleft()
                old.lines.pop(old_key, None)
                self._lines_bytes -= size
        return line


def matches_watch(
    resource: Resource, namespace: str | None, passes: Callable[[Mapping[str, Any]], bool] | None
) -> bool:
    """Whether a watch of this namespace (None: all) and selection shows a resource."""
    return namespace in (None, resource.namespace) and (passes is None or passes(resource.object))


def estimated_bytes(document: Any) -> int:
    """Approximate memory of a document; may be wrong by a factor, not by orders of magnitude. It is
    called for every change, so it is cheap.
    """
    return len(repr(document)) * _COST_PER_CHARACTER
