"""The kinds that the API serves, by every name that requests use: built-in ones and those of CRDs
that users apply.

All of it is data: a new kind is a new definition. Every request looks up its kind here, and only
the definition controller changes the catalog, on the same event loop, so it needs no lock. What was
taken from it stays valid: a changed definition results in new objects.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from headrace.resources.resource import KindRegistry, ResourceKey, ResourceKind
from headrace_apiserver.kinds.crd_validation import definition_status, is_api_group
from headrace_apiserver.kinds.served import (
    PrinterColumn,
    ServedKind,
    SpecConversion,
    kinds_of,
)

__all__ = ["Catalog", "PrinterColumn", "ServedKind"]

CUSTOM_MAX = 500
"""Definitions that users may add. Each needs memory for its schema, and adds to discovery and
OpenAPI.
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
    """Lookup tables: served kinds only, except `storage`, which has every kind that the store may
    hold.
    """

    by_path: dict[tuple[str, str, str], ServedKind] = field(default_factory=dict)
    by_type: dict[tuple[str, str], ServedKind] = field(default_factory=dict)
    storage: dict[tuple[str, str], ResourceKind] = field(default_factory=dict)
    stored: dict[tuple[str, str], ServedKind] = field(default_factory=dict)


_VERSION_MAX = 20
"""Length up to which the name of a version is ordered by the numbers in it, in characters."""


class Catalog:
    """All definitions and the kinds that they define."""

    def __init__(
        self,
        definitions: Iterable[Mapping[str, Any]],
        *,
        core: Iterable[Mapping[str, Any]] = (),
        reconciled: Iterable[ResourceKind] = (),
        conversions: Mapping[tuple[str, str], SpecConversion] | None = None,
        first_groups: Sequence[str] = (),
    ) -> None:
        """`definitions` are the built-in CRDs, `core` the core kinds in the same form.

        `reconciled` are the kinds that this process works on, in the version that is stored. Those
        of them that are not served are internal: the store holds their objects, the API does not
        show them. `conversions` are by group and kind, for kinds whose versions differ in more than
        their name. `first_groups` are listed before the others: of kinds with one name in two
        groups, kubectl takes the one that is listed first.
        """
        self._first_groups = tuple(first_groups)
        self._entries: dict[str, _Entry] = {}
        self._reconciled = KindRegistry(reconciled)
        self._internal = tuple(kind for kind in self._reconciled if not kind.served)
        self._conversions = dict(conversions or {})
        for custom, given in ((False, core), (True, definitions)):
            for each in given:
                self._entries[each["metadata"]["name"]] = self._entry(
                    each, custom=custom, builtin=True
                )
        self._index()

    def __iter__(self) -> Iterator[ServedKind]:
        """Every served version of every kind, ordered by group (core first, then the first groups),
        version (most stable first) and plural.
        """
        return iter(self._served)

    def of_path(self, group: str, version: str, plural: str) -> ServedKind | None:
        """The kind behind a URL path; `group` is empty for core kinds."""
        return self._names.by_path.get((group, version, plural))

    def of_type(self, api_version: str, kind: str) -> ServedKind | None:
        """The kind that an object states."""
        return self._names.by_type.get((api_version, kind))

    def of_key(self, key: ResourceKey) -> ResourceKind | None:
        """The kind, in the version that is stored, of the object with this key."""
        return self._names.storage.get((key.group, key.plural))

    def stored(self, served: ServedKind) -> ServedKind:
        """The version of a kind that is stored."""
        return self._names.stored.get(served.key, served)

    def is_builtin(self, name: str) -> bool:
        """Whether a definition (`gadgets.shop.dev`) is built in and must not be changed."""
        entry = self._entries.get(name)
        return entry is not None and entry.builtin

    def is_internal(self, group: str, plural: str) -> bool:
        """Whether a kind is only stored: its objects are records of this process, whatever a
        definition of that name says.
        """
        return any((kind.group, kind.plural) == (group, plural) for kind in self._internal)

    def is_reserved_group(self, group: str) -> bool:
        """Whether users must not define kinds in this group: it is one of the API server's own, or
        that of an internal kind or a subdomain of it.
        """
        return is_api_group(group) or any(
            group == kind.group or group.endswith(f".{kind.group}") for kind in self._internal
        )

    def reconciled_kind(self, kind: ResourceKind) -> ResourceKind | None:
        """The kind as the reconcilers of this process know it; None if none of them does."""
        return self._reconciled.of_type(kind.api_version, kind.kind)

    def builtin_definitions(self) -> Iterator[Mapping[str, Any]]:
        """The built-in CRDs with the status of a served one, without what the store adds (uid,
        version, times).
        """
        for entry in self._entries.values():
            if entry.builtin and entry.custom:
                yield {**entry.definition, "status": definition_status(entry.definition, {})}

    @property
    def revision(self) -> str:
        """A text that changes with every change: the key of caches, of clients and here."""
        return self._revision

    def put(self, definition: Mapping[str, Any]) -> dict[str, Any]:
        """Serve a stored CRD from now on; returns its new `status`.

        The definition must have been admitted. If another definition has one of its names, it is
        not served, and its status says so.
        """
        name = definition["metadata"]["name"]
        entry = self._entries.get(name)
        if entry is not None and entry.builtin:
            return definition_status(definition, {})
        conflicts = self._conflicts(name, definition)
        if conflicts:
            self.remove(name)
        elif entry is None or entry.definition["spec"] != definition["spec"]:
            self._entries[name] = self._entry(definition, custom=True, builtin=False)
            self._index()
        return definition_status(definition, conflicts)

    def remove(self, name: str) -> None:
        """Stop serving a user's CRD. Does nothing if there is none of this name, or it is built
        in.
        """
        entry = self._entries.get(name)
        if entry is not None and not entry.builtin:
            del self._entries[name]
            self._index()

    def _entry(self, definition: Mapping[str, Any], *, custom: bool, builtin: bool) -> _Entry:
        spec = definition["spec"]
        text = json.dumps(spec, sort_keys=True, separators=(",", ":"))
        convert_spec = self._conversions.get((spec["group"], spec["names"]["kind"]))
        return _Entry(
            definition,
            kinds_of(definition, custom=custom, convert_spec=convert_spec),
            custom,
            builtin,
            hashlib.sha256(text.encode()).digest(),
        )

    def _conflicts(self, name: str, definition: Mapping[str, Any]) -> dict[str, str]:
        """Messages by part of the names (`Plural`, `Kind`, ...), for names that another definition
        of the same group has.
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
            (kind for entry in self._entries.values() for kind in entry.kinds), key=self._order
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

    def group_order(self, group: str) -> tuple[bool, bool, str]:
        """Sort key of groups: core, the first groups, then the others by name."""
        return (group != "", group not in self._first_groups, group)

    def _order(
        self, served: ServedKind
    ) -> tuple[tuple[bool, bool, str], tuple[int, int, int, str], str]:
        kind = served.kind
        return self.group_order(kind.group), version_order(kind.version), kind.plural


def version_order(version: str) -> tuple[int, int, int, str]:
    """Sort key of versions in Kubernetes' order: v2, v1, v1beta2, v1beta1, v1alpha1, then other
    names in alphabetical order.
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
