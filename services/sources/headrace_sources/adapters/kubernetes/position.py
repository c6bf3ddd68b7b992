"""Where the source is in one kind of objects, and what has changed since. (pure)

A position is a resourceVersion, from which a watch resumes, and the objects that existed then. When
the API server no longer has the changes since, the objects are listed again, and the difference is
what has changed. The cursor keeps both over a restart, as long as there is space for the names.
"""

import json
import zlib
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from headrace_sources.adapters.kubernetes.events import Verb

CURSOR_MAX: Final = 60 * 1024
"""Characters of a cursor."""
NAMES_MAX: Final = 5_000
"""Objects whose names are kept over a restart."""
UID_LENGTH: Final = 8
"""Characters of a uid in a cursor: enough to know an object from its successor of the same name."""
_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class KnownObject:
    """An object that existed."""

    uid: str
    """After a restart, the first `UID_LENGTH` characters of it."""
    version: str = ""
    """Its resourceVersion; empty after a restart."""

    def is_same(self, uid: str) -> bool:
        """Whether the object of that uid is this one."""
        return uid == self.uid or (not self.version and uid[:UID_LENGTH] == self.uid)


@dataclass(slots=True)
class Position:
    """All changes up to `version` have been sent."""

    version: str = ""
    """Empty before the first list."""
    objects: dict[str, KnownObject] = field(default_factory=dict)
    """The objects that existed, by `namespace/name`."""
    complete: bool = True
    """Whether `objects` has all of them."""
    at: float = 0.0
    """When it was stored, in Unix time; for a position from a cursor."""

    def changes(self, found: Mapping[str, Any]) -> tuple[Verb, ...]:
        """Return what has happened to an object, as it is in a later list."""
        uid, version = uid_of(found), version_of(found)
        known = self.objects.get(key_of(found))
        if known is None:
            if self.complete:
                return (Verb.ADD,)
            if not is_later(version, self.version):
                return ()
            return (Verb.ADD if _created(found) >= self.at else Verb.UPDATE,)
        if not known.is_same(uid):
            return (Verb.DELETE, Verb.ADD)
        if known.version:
            return () if known.version == version else (Verb.UPDATE,)
        return (Verb.UPDATE,) if is_later(version, self.version) else ()


def key_of(found: Mapping[str, Any]) -> str:
    """Namespace and name of an object."""
    metadata = found.get("metadata") or {}
    return f"{metadata.get('namespace') or ''}/{metadata.get('name') or ''}"


def uid_of(found: Mapping[str, Any]) -> str:
    """Uid of an object."""
    return str((found.get("metadata") or {}).get("uid") or "")


def version_of(found: Mapping[str, Any]) -> str:
    """The resourceVersion of an object, or of a bookmark."""
    return str((found.get("metadata") or {}).get("resourceVersion") or "")


def last_state(key: str, known: KnownObject) -> dict[str, Any]:
    """What is left of an object that is in no list now."""
    namespace, _, name = key.partition("/")
    metadata = {"name": name}
    if namespace:
        metadata["namespace"] = namespace
    if known.version:
        metadata |= {"uid": known.uid, "resourceVersion": known.version}
    return {"metadata": metadata}


def is_later(version: str, than: str) -> bool:
    """Whether a resourceVersion is later than another one. They are numbers in every API that
    stores its objects in etcd, and in Headrace's; of others, any may be later.
    """
    if version.isdecimal() and than.isdecimal():
        return int(version) > int(than)
    return True


def is_earlier(version: str, than: str) -> bool:
    """Whether a list is certainly earlier than the position: the API server has another history."""
    return version.isdecimal() and than.isdecimal() and int(version) < int(than)


def _created(found: Mapping[str, Any]) -> float:
    text = (found.get("metadata") or {}).get("creationTimestamp")
    try:
        # Whole seconds, rounded down.
        return datetime.fromisoformat(str(text)).timestamp() + 1
    except ValueError:
        return 0.0


def encode(server: str, positions: Mapping[str, Position], now: float) -> str:
    """Return a cursor of at most `CURSOR_MAX` characters. `now` is the Unix time.

    Where there is no space for all names, those of the kinds with the most objects are left out.
    """
    names_max = NAMES_MAX
    while True:
        named = _named(positions, names_max)
        document = {
            "format": _FORMAT,
            "server": server,
            "at": round(now, 3),
            "positions": {
                key: _encoded(each, key in named) for key, each in positions.items() if each.version
            },
        }
        packed = zlib.compress(json.dumps(document, separators=(",", ":")).encode())
        text = b64encode(packed).decode()
        if len(text) <= CURSOR_MAX or not named:
            return text
        names_max //= 2


def _named(positions: Mapping[str, Position], names_max: int) -> set[str]:
    """Those whose names are kept."""
    known = [(len(each.objects), key) for key, each in positions.items() if each.complete]
    named, total = set(), 0
    for count, key in sorted(known):
        total += count
        if total > names_max:
            break
        named.add(key)
    return named


def _encoded(position: Position, named: bool) -> list[Any]:
    if not named:
        return [position.version, None]
    objects = position.objects.items()
    return [position.version, {key: each.uid[:UID_LENGTH] for key, each in objects}]


def decode(text: str | None, server: str) -> dict[str, Position]:
    """Return the positions of a cursor; none for one that is of another API server, or that this
    version cannot read.
    """
    if not text:
        return {}
    try:
        document = json.loads(zlib.decompress(b64decode(text)))
        if (document["format"], document["server"]) != (_FORMAT, server):
            return {}
        at = float(document["at"])
        return {
            key: Position(
                version,
                {name: KnownObject(uid) for name, uid in (objects or {}).items()},
                complete=objects is not None,
                at=at,
            )
            for key, (version, objects) in document["positions"].items()
        }
    except (Base64Error, zlib.error, ValueError, KeyError, TypeError, AttributeError):
        return {}
