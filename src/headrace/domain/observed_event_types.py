"""The event types that a data plane process has seen, from which the controller creates EventTypes.

The data plane does not use the Kubernetes API. It remembers a limited number of types and reports
them with its heartbeats (`Instance.types`), one batch at a time; the controller creates the
EventTypes. When the memory is full, a new type replaces the oldest one of the addressable that has
the most. Reporting types must never slow down delivery, and one addressable must not displace the
types of the others.
"""

import sys
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

REMEMBERED_MAX = 1_000
"""Types remembered by each process. Addressables and subscriptions share the limit equally: none
displaces the types of another that has less than its share.
"""
BYTES_MAX = 3_145_728
"""Limit for the memory of all remembered types, for each process."""
SCOPE_BYTES_MAX = 1_572_864
"""Limit for one addressable or subscription: enough for `REMEMBERED_MAX` types of usual length."""
BATCH_MAX = 64
BATCH_CHARACTERS_MAX = 16_384
"""Limit for all texts of a batch. A report must stay far below the largest one that is read, in any
alphabet.
"""
_KNOWN_MAX = 16_384
"""Hashes of types already seen, for each process; about 90 bytes each, regardless of the length of
the types.
"""
_UTF8_BYTES_MAX = 4
TEXT_MAX = 2_048
"""Characters of a type or source. An EventType cannot have more."""


class ObservedEventType(NamedTuple):
    """One type of events from one source, seen at one addressable (or in the replies of one
    subscription).
    """

    uid: str
    """The uid of the addressable or subscription."""
    type: str
    source: str
    """Empty if it is not known, of an event that nobody has seen yet."""
    schema: str = ""
    """`dataschema` of the first such event."""
    specversion: str = "1.0"


class ObservedEventTypes:
    """The types that one process has seen, and the position of the next batch to report."""

    def __init__(self, *, maximum: int = REMEMBERED_MAX) -> None:
        self._maximum = maximum
        self._seen: dict[str, dict[tuple[str, str], ObservedEventType]] = {}
        """By uid, oldest first. No uid has an empty entry."""
        self._sizes: dict[str, int] = {}
        """Bytes by uid."""
        self._count = 0
        self._next = 0
        self.bytes = 0
        """Approximate size of all remembered types."""
        self._salts = 0
        self.known: set[int] = set()
        """Hashes of observer, type and source that an `EventTypeObserver` has already passed on."""

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
        """Return a number that no other `EventTypeObserver` of this process has."""
        self._salts += 1
        return self._salts

    def keep(self, uids: Collection[str]) -> None:
        """Forget the types of all other addressables and subscriptions."""
        self._seen = {uid: there for uid, there in self._seen.items() if uid in uids}
        self._sizes = {uid: size for uid, size in self._sizes.items() if uid in self._seen}
        self._count, self.bytes = sum(map(len, self._seen.values())), sum(self._sizes.values())

    def next_batch(self) -> tuple[ObservedEventType, ...]:
        """Return the types to report now: all of them if they fit into one batch, else the next
        batch in turn.
        """
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
        """Forget the oldest type of `uid` if it has its share, else the oldest of the one that has
        the most.

        Only a `uid` with less than its share has to search all others, so a flood of types costs
        two dictionary lookups each.
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
    """Return the bytes of one entry, including the dictionary that contains it."""
    return 512 + sum(map(sys.getsizeof, seen))


class EventTypeObserver:
    """Notes the types of events at one addressable or subscription. It is called once for each
    event, so a known type costs one lookup.
    """

    __slots__ = ("_salt", "_seen", "uid")

    def __init__(self, uid: str, seen: ObservedEventTypes) -> None:
        self.uid = uid
        self._seen = seen
        self._salt = seen.new_salt()
        """Makes the hashes of this object unique, so that an observer that is created again for the
        same uid starts without known types.
        """

    def note(self, headers: Iterable[tuple[str, bytes]]) -> None:
        """Remember the type of an event, from the headers of its record."""
        found = dict(headers)
        # The hash is stored and not the texts, because senders can make these arbitrarily long. If
        # two types have the same 64-bit hash, one of them is not reported.
        key = hash((self._salt, found.get("ce_type"), found.get("ce_source")))
        known = self._seen.known
        if key in known:
            return
        if len(known) >= _KNOWN_MAX:
            # If a sender varies types without end, lookups become slower, but the set does not
            # grow.
            known.clear()
        known.add(key)
        self._seen.note(self.uid, found)


_NAMES = frozenset(("ce_type", "ce_source", "ce_dataschema", "ce_specversion"))
