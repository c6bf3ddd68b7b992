"""The kinds the API serves, by every name that requests use: those that come with it and those of
CRDs that users apply.

The whole of it is data: adding a kind is adding a definition. It is asked by path for every request
and changed only from one place (the controller's follower of the log), so it needs no lock; what
was taken from it stays valid, a changed definition makes new objects.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from headrace.resources.kinds import KINDS
from headrace.resources.resource import ResourceKey, ResourceKind
from headrace_apiserver.kinds.crd_validation import definition_status
from headrace_apiserver.kinds.served import PrinterColumn, ServedKind, kinds_of

__all__ = ["Catalog", "PrinterColumn", "ServedKind"]

INTERNAL = tuple(kind for kind in KINDS if not kind.served)
"""Kinds of the controller's own records: they stand in the log with the others, and nobody sees
them.
"""
CUSTOM_MAX = 500
"""Definitions that users may add: each takes memory for its schema, and discovery and OpenAPI grow
with it.
"""


@dataclass(frozen=True, slots=True)
class _Entry:
    definition: Mapping[str, Any]
    kinds: tuple[ServedKind, ...]
    custom: bool
    builtin: bool
    digest: bytes


@dataclass(frozen=True, slots=True)
class _Names:
    """Where a name is looked up: served kinds only, except `storage`, which knows whatever can
    stand in the log.
    """

    by_path: dict[tuple[str, str, str], ServedKind] = field(default_factory=dict)
    by_type: dict[tuple[str, str], ServedKind] = field(default_factory=dict)
    storage: dict[tuple[str, str], ResourceKind] = field(default_factory=dict)
    stored: dict[tuple[str, str], ServedKind] = field(default_factory=dict)


_VERSION_MAX = 20
"""Characters of the name of a version that is ordered by its numbers."""


class Catalog:
    """The definitions there are, and the kinds they make."""

    def __init__(
        self,
        definitions: Iterable[Mapping[str, Any]],
        *,
        core: Iterable[Mapping[str, Any]] = (),
        internal: Iterable[ResourceKind] = INTERNAL,
    ) -> None:
        """`definitions` are the CRDs that come with it, `core` the core kinds in the same form,
        `internal` kinds that are stored only.
        """
        self._entries: dict[str, _Entry] = {}
        self._internal = tuple(internal)
        for custom, given in ((False, core), (True, definitions)):
            for each in given:
                self._entries[each["metadata"]["name"]] = _entry(each, custom=custom, builtin=True)
        self._index()

    def __iter__(self) -> Iterator[ServedKind]:
        """Every served version of every kind: by group (core first), version (most stable first),
        and plural.
        """
        return iter(self._served)

    def of_path(self, group: str, version: str, plural: str) -> ServedKind | None:
        """The kind behind a URL path; `group` is empty for core kinds."""
        return self._names.by_path.get((group, version, plural))

    def of_type(self, api_version: str, kind: str) -> ServedKind | None:
        """The kind that an object names."""
        return self._names.by_type.get((api_version, kind))

    def of_key(self, key: ResourceKey) -> ResourceKind | None:
        """The kind, in the version that is stored, of what stands under a key."""
        return self._names.storage.get((key.group, key.plural))

    def stored(self, served: ServedKind) -> ServedKind:
        """The version of a kind that is stored."""
        return self._names.stored.get(served.key, served)

    def is_builtin(self, name: str) -> bool:
        """Whether a definition (`triggers.eventing.knative.dev`) came with the API, so that nobody
        may change it.
        """
        entry = self._entries.get(name)
        return entry is not None and entry.builtin

    def is_internal(self, group: str, plural: str) -> bool:
        """Whether a kind is stored only: its objects are records of the controller, whatever a
        definition of that name says.
        """
        return any((kind.group, kind.plural) == (group, plural) for kind in self._internal)

    def builtin_definitions(self) -> Iterator[Mapping[str, Any]]:
        """The CRDs that came with the API, with the status of one that is served; they lack what a
        store gives (uid, version, times).
        """
        for entry in self._entries.values():
            if entry.builtin and entry.custom:
                yield {**entry.definition, "status": definition_status(entry.definition, {})}

    @property
    def revision(self) -> str:
        """A text that changes with every change: what clients cache by, and others keep ready bytes
        by.
        """
        return self._revision

    def put(self, definition: Mapping[str, Any]) -> dict[str, Any]:
        """Serve what a stored CRD says from now on; returns the `status` it must show.

        The definition must have been admitted. One whose names others have is not served: its
        status says so.
        """
        name = definition["metadata"]["name"]
        entry = self._entries.get(name)
        if entry is not None and entry.builtin:
            return definition_status(definition, {})
        conflicts = self._conflicts(name, definition)
        if conflicts:
            self.remove(name)
        elif entry is None or entry.definition["spec"] != definition["spec"]:
            self._entries[name] = _entry(definition, custom=True, builtin=False)
            self._index()
        return definition_status(definition, conflicts)

    def remove(self, name: str) -> None:
        """Serve a user's CRD no longer; nothing when there is none of this name, or it came with
        the API.
        """
        entry = self._entries.get(name)
        if entry is not None and not entry.builtin:
            del self._entries[name]
            self._index()

    def _conflicts(self, name: str, definition: Mapping[str, Any]) -> dict[str, str]:
        """By the part of the names (`Plural`, `Kind`, ...) a message, for names of the same group
        that another definition has.
        """
        spec = definition["spec"]
        others = [
            *(entry.kinds[0].kind for key, entry in self._entries.items() if key != name),
            *self._internal,
        ]
        others = [kind for kind in others if kind.group == spec["group"]]
        taken = {
            word for kind in others for word in (kind.plural, kind.singular, *kind.short_names)
        }
        kinds = {word for kind in others for word in (kind.kind, kind.list_kind)}
        names = spec["names"]
        found: dict[str, str] = {}
        for part, word, there in (
            ("Plural", names["plural"], taken),
            ("Singular", names.get("singular") or names["kind"].lower(), taken),
            *(("ShortNames", word, taken) for word in names.get("shortNames") or ()),
            ("Kind", names["kind"], kinds),
            ("ListKind", names.get("listKind") or f"{names['kind']}List", kinds),
        ):
            if word in there:
                found[part] = f'"{word}" is already in use'
        if (
            not found
            and name not in self._entries
            and sum(not entry.builtin for entry in self._entries.values()) >= CUSTOM_MAX
        ):
            found["Plural"] = (
                f"there are {CUSTOM_MAX} definitions besides the built-in ones; delete one first"
            )
        return found

    def _index(self) -> None:
        everything = sorted(
            (kind for entry in self._entries.values() for kind in entry.kinds), key=_order
        )
        names = _Names()
        for each in everything:
            names.storage[each.key] = each.storage
            if each.kind == each.storage:
                names.stored[each.key] = each
            if each.kind.served:
                names.by_path[each.kind.group, each.kind.version, each.kind.plural] = each
                names.by_type[each.kind.api_version, each.kind.kind] = each
        names.storage.update({(kind.group, kind.plural): kind for kind in self._internal})
        self._names = names
        self._served = tuple(each for each in everything if each.kind.served)
        self._revision = (
            hashlib.sha256(b"".join(entry.digest for _, entry in sorted(self._entries.items())))
            .hexdigest()
            .upper()
        )


def version_order(version: str) -> tuple[int, int, int, str]:
    """Sorts versions as Kubernetes prefers them: v2, v1, v1beta2, v1beta1, v1alpha1, then names of
    other forms by the alphabet.
    """
    number, _, rest = version.removeprefix("v").partition(
        "beta" if "beta" in version else "alpha" if "alpha" in version else "\0"
    )
    if (
        not version.startswith("v")
        or not number.isdecimal()
        or len(version) > _VERSION_MAX
        or (rest and not rest.isdecimal())
        or version.endswith(("alpha", "beta"))
    ):
        return (3, 0, 0, version)
    stage = 1 if "beta" in version else 2 if "alpha" in version else 0
    return (stage, -int(number), -int(rest or 0), "")


def _order(served: ServedKind) -> tuple[str, tuple[int, int, int, str], str]:
    return (served.kind.group, version_order(served.kind.version), served.kind.plural)


def _entry(definition: Mapping[str, Any], *, custom: bool, builtin: bool) -> _Entry:
    text = json.dumps(definition["spec"], sort_keys=True, separators=(",", ":"))
    return _Entry(
        definition,
        kinds_of(definition, custom=custom),
        custom,
        builtin,
        hashlib.sha256(text.encode()).digest(),
    )
