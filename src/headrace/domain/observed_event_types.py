"""Which types of events a data plane process has seen where: the source of EventTypes that nobody
had to write.

The data plane does not talk to the Kubernetes API. It remembers a bounded number of what it saw and
reports it with its heartbeats (`Instance.types`), piece after piece; the controller makes the
EventTypes. What does not fit takes the place of what is older, of the addressable that has the
most: descriptions must never cost delivery anything, nor one addressable's the others' theirs.
"""

import sys
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

REMEMBERED_MAX = 1_000
"""Types per process, shared by all places: none takes room from another that has less than its
part.
"""
BYTES_MAX = 3_145_728
"""Of memory per process, for all that is remembered to be reported."""
SCOPE_BYTES_MAX = 1_572_864
"""Of it, for one addressable or subscription: room for `REMEMBERED_MAX` types of usual length."""
BATCH_MAX = 64
BATCH_CHARACTERS_MAX = 16_384
"""Of all texts of a piece: a report must stay far below what may be read of one, in whatever
alphabet they are.
"""
_KNOWN_MAX = 16_384
"""Hashes of types known already, per process; about 90 bytes each, however long the types are."""
_UTF8_BYTES_MAX = 4
TEXT_MAX = 2_048
"""Characters of a type or source: an EventType cannot have more."""


class ObservedEventType(NamedTuple):
    """One type of events, from one source, at one addressable (or in the replies of one
    subscription).
    """

    uid: str
    """Of the addressable or subscription."""
    type: str
    source: str
    schema: str = ""
    """`dataschema` of the first such event."""
    specversion: str = "1.0"


class ObservedEventTypes:
    """What one process has seen at all places, and what of it is reported next."""

    def __init__(self, *, maximum: int = REMEMBERED_MAX) -> None:
        self._maximum = maximum
        self._seen: dict[str, dict[tuple[str, str], ObservedEventType]] = {}
        """By uid, oldest first; there is no uid without one."""
        self._sizes: dict[str, int] = {}
        """Bytes by uid."""
        self._count = 0
        self._next = 0
        self.bytes = 0
        """What is remembered occupies, about."""
        self._salts = 0
        self.known: set[int] = set()
        """Hashes of place, type and source of what `EventTypeObserver` need not look at again."""

    def note(self, uid: str, headers: Mapping[str, bytes]) -> None:
        """Remember the type of an event, from the headers of its record, unless it is known or too
        long.
        """
        if any(
            len(headers.get(name, b"")) > _UTF8_BYTES_MAX * TEXT_MAX
            for name in ("ce_type", "ce_source")
        ):
            return
        texts = {
            name: headers[name].decode("utf-8", "replace") for name in _NAMES if name in headers
        }
        type_, source, schema = (
            texts.get("ce_type", ""),
            texts.get("ce_source", ""),
            texts.get("ce_dataschema", ""),
        )
        if not (0 < len(type_) <= TEXT_MAX and 0 < len(source) <= TEXT_MAX):
            return
        seen = ObservedEventType(
            uid,
            type_,
            source,
            schema if len(schema) <= TEXT_MAX else "",
            texts.get("ce_specversion", "1.0"),
        )
        if (type_, source) in self._seen.get(uid, ()):
            return
        size = _size(seen)
        while self._sizes.get(uid, 0) + size > SCOPE_BYTES_MAX:
            self._evict_oldest(uid)
        while self._count >= self._maximum or self.bytes + size > BYTES_MAX:
            self._evict(uid)
        self._seen.setdefault(uid, {})[type_, source] = seen
        self._sizes[uid] = self._sizes.get(uid, 0) + size
        self.bytes += size
        self._count += 1

    def new_salt(self) -> int:
        """A number that no other `EventTypeObserver` of this process has."""
        self._salts += 1
        return self._salts

    def keep(self, uids: Collection[str]) -> None:
        """Forget what was seen anywhere else than at these."""
        self._seen = {uid: there for uid, there in self._seen.items() if uid in uids}
        self._sizes = {uid: size for uid, size in self._sizes.items() if uid in self._seen}
        self._count, self.bytes = sum(map(len, self._seen.values())), sum(self._sizes.values())

    def next_batch(self) -> tuple[ObservedEventType, ...]:
        """What to report now: everything if it is little, else the next part of it, in turn."""
        everything = [seen for there in self._seen.values() for seen in there.values()]
        if (
            len(everything) <= BATCH_MAX
            and sum(len(text) for seen in everything for text in seen) <= BATCH_CHARACTERS_MAX
        ):
            return tuple(everything)
        start = self._next if self._next < len(everything) else 0
        batch: list[ObservedEventType] = []
        characters = 0
        for seen in everything[start : start + BATCH_MAX]:
            characters += sum(map(len, seen))
            if batch and characters > BATCH_CHARACTERS_MAX:
                break
            batch.append(seen)
        self._next = start + len(batch)
        return tuple(batch)

    def _evict(self, uid: str) -> None:
        """Forget the oldest of this place if it has its part, else of the one that has the most.

        Only a place below its part looks through all of them, so that a flood of types pays for a
        look into two tables.
        """
        own, own_bytes = len(self._seen.get(uid, ())), self._sizes.get(uid, 0)
        places = len(self._seen) + (own == 0)
        if own and (own * places >= self._maximum or own_bytes * places >= BYTES_MAX):
            self._evict_oldest(uid)
        elif self._count >= self._maximum:
            self._evict_oldest(max(self._seen, key=lambda each: len(self._seen[each])))
        else:
            self._evict_oldest(max(self._sizes, key=self._sizes.__getitem__))

    def _evict_oldest(self, uid: str) -> None:
        there = self._seen[uid]
        size = _size(there.pop(next(iter(there))))
        self._sizes[uid] -= size
        self.bytes -= size
        self._count -= 1
        if not there:
            del self._seen[uid], self._sizes[uid]

    def __len__(self) -> int:
        return self._count


def _size(seen: ObservedEventType) -> int:
    """Bytes of one entry, the tables that contain it included."""
    return 512 + sum(map(sys.getsizeof, seen))


class EventTypeObserver:
    """What has been seen at one place: asked once per event, so what is known already costs no more
    than looking it up.
    """

    __slots__ = ("_salt", "_seen", "uid")

    def __init__(self, uid: str, seen: ObservedEventTypes) -> None:
        self.uid = uid
        self._seen = seen
        self._salt = seen.new_salt()
        """Makes the hashes of this object its own: a place that stops and begins again to ask
        starts with none.
        """

    def note(self, headers: Iterable[tuple[str, bytes]]) -> None:
        """Remember the type of an event, from the headers of its record."""
        found = dict(headers)
        # A hash and not the texts, which senders make as long as they like. Two types with one hash
        # of 64 bits: one is not reported.
        key = hash((self._salt, found.get("ce_type"), found.get("ce_source")))
        known = self._seen.known
        if key in known:
            return
        if len(known) >= _KNOWN_MAX:
            # A sender varies types without end: that makes the next ones slower, not this larger.
            known.clear()
        known.add(key)
        self._seen.note(self.uid, found)


_NAMES = frozenset(("ce_type", "ce_source", "ce_dataschema", "ce_specversion"))
