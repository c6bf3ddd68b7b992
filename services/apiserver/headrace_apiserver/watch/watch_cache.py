"""The recent history of the store, kept so that watches can be fed and resumed.

Changes are shelved by kind, so that a watch meets only those of its own and a quiet kind is not
pushed out of reach of its own watches by a busy one before its turn. The whole is bounded by count
and by an estimate of bytes; the oldest change goes first, whatever its kind. Who asks for what has
gone is told so, and lists again.
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
"""How much is kept of lines that were made, for the other watches that will ask for the same."""
_COST_PER_CHARACTER = 6
"""Bytes in memory for a character of a document written out, about."""
_TRIM = 512

LineKey = tuple[EventType, Hashable, bool]


class CachedChange:
    """One change on a shelf, with the lines that watches have been given of it."""

    __slots__ = ("after", "before", "lines", "namespace", "version")

    def __init__(self, change: Change) -> None:
        self.version = int(change.version)
        self.namespace = change.key.namespace
        self.before = change.before.object if change.before is not None else None
        self.after = change.after.object if change.after is not None else None
        self.lines: dict[LineKey, bytes] = {}

    def forget(self) -> None:
        """Let go of its documents; a shelf keeps the rest of a step for a while after it was given
        up.
        """
        self.before = self.after = None

    def event(self, passes: Callable[[Mapping[str, Any]], bool] | None) -> EventType | None:
        """What this change is to a watch that sees only objects that pass: one that ceases to pass
        is deleted to it.
        """
        before = self.before is not None and (passes is None or passes(self.before))
        after = self.after is not None and (passes is None or passes(self.after))
        if after:
            return EventType.MODIFIED if before else EventType.ADDED
        return EventType.DELETED if before else None

    def document(self, event: EventType) -> Mapping[str, Any]:
        """The object of this event: as it is now, or, when it goes, as it was, at the version of
        its going. (A client must not resume before the deletion.)
        """
        if event is not EventType.DELETED:
            return self.after or {}
        before = self.before or {}
        return {
            **before,
            "metadata": {**before.get("metadata", {}), "resourceVersion": str(self.version)},
        }


class KindHistory:
    """The recent changes of one kind, oldest first, by a number that only grows (and is no
    resourceVersion).
    """

    def __init__(self) -> None:
        self._changes: list[CachedChange] = []
        self._first = 0
        """Number of the first step in the list."""
        self._head = 0
        """How many steps at the list's front are given up."""
        self.forgotten = -1
        """Version of the newest step that was given up."""

    @property
    def oldest(self) -> int:
        """Number of the oldest step there is."""
        return self._first + self._head

    @property
    def end(self) -> int:
        """Number that the next step will have."""
        return self._first + len(self._changes)

    def put(self, cached: CachedChange) -> None:
        """Add the newest step."""
        self._changes.append(cached)

    def drop(self) -> CachedChange:
        """Give up the oldest step."""
        cached = self._changes[self._head]
        self._head += 1
        self.forgotten = cached.version
        if self._head >= _TRIM or self._head == len(self._changes):
            del self._changes[: self._head]
            self._first += self._head
            self._head = 0
        return cached

    def after(self, version: int) -> int:
        """Number of the first step that is newer than `version`."""
        return self._first + bisect_right(
            self._changes, version, lo=self._head, key=lambda cached: cached.version
        )

    def since(self, number: int) -> Iterator[CachedChange]:
        """The steps from this number on."""
        for index in range(number - self._first, len(self._changes)):
            yield self._changes[index]


class _DocumentMemory:
    """The documents that steps hold. Each counts once however many hold it: what one step leaves is
    what the next one finds.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._held: dict[int, tuple[int, int]] = {}
        """By identity, how many steps hold a document, and its bytes. (Held, it keeps its
        identity.)
        """

    def hold(self, document: Mapping[str, Any] | None) -> None:
        """One more step holds it."""
        if document is not None:
            holders, size = self._held.get(id(document)) or (0, estimated_bytes(document))
            self._held[id(document)] = holders + 1, size
            self.bytes += size if holders == 0 else 0

    def release(self, document: Mapping[str, Any] | None) -> None:
        """One step less."""
        if document is not None:
            holders, size = self._held.pop(id(document))
            if holders > 1:
                self._held[id(document)] = holders - 1, size
            else:
                self.bytes -= size


class WatchCache:
    """All shelves, under one bound."""

    def __init__(self, *, changes_max: int = CHANGES_MAX, bytes_max: int = BYTES_MAX) -> None:
        self._changes_max = changes_max
        self._bytes_max = bytes_max
        self._histories: dict[tuple[str, str], KindHistory] = {}
        self._order: deque[KindHistory] = deque()
        self._lines: deque[tuple[CachedChange, LineKey, int]] = deque()
        self._lines_bytes = 0
        self._documents = _DocumentMemory()
        self.floor = -1
        """Nothing at or before this version was ever here."""
        self.newest = -1
        """Version of the newest change seen."""

    @property
    def held_bytes(self) -> int:
        """About what the documents of all changes take."""
        return self._documents.bytes

    def __len__(self) -> int:
        """How many changes are kept."""
        return len(self._order)

    def history(self, group: str, plural: str) -> KindHistory:
        """The shelf of a kind; empty for one nothing has happened to."""
        return self._histories.setdefault((group, plural), KindHistory())

    def oldest_version(self, history: KindHistory) -> int:
        """The oldest resourceVersion from which a watch of this shelf misses nothing."""
        return max(self.floor, history.forgotten)

    def put(self, change: Change) -> tuple[KindHistory, CachedChange] | None:
        """Keep a change; None when it is older than what is here, which a store tells again after
        it has read from the start.
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
            old = self._order.popleft().drop()
            for document in (old.before, old.after):
                self._documents.release(document)
            old.forget()
        return history, cached

    def line(
        self, cached: CachedChange, event: EventType, framing: Framing, *, first: bool
    ) -> bytes:
        """The line for this event, made once for all watches that get the same at about the same
        time.
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
    """Whether a resource is one that a watch of this namespace (None: all) and selection shows."""
    return namespace in (None, resource.namespace) and (passes is None or passes(resource.object))


def estimated_bytes(document: Any) -> int:
    """About what a document costs in memory; wrong by a factor, never by orders. Every change pays
    for this, so it is cheap.
    """
    return len(repr(document)) * _COST_PER_CHARACTER
