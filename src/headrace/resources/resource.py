"""A resource as the Kubernetes API represents it, and its kinds.

Resources are kept as their JSON objects: the fields that a user wrote are returned unchanged, and a
kind that this version knows only in part loses nothing. `Resource` only adds access to metadata.
The registry of kinds is data: kinds from elsewhere (CRD files) need another registry and no other
change.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from headrace.domain.errors import Conflict, Permanent, Temporary


class NamespaceTerminating(Permanent):
    """The namespace is being deleted: nothing can be created in it, and its contents are
    deleted.
    """


class AlreadyExists(Conflict):
    """A resource of this kind, namespace and name exists."""


class NotLeader(Temporary):
    """Another controller is the leader; this one is read-only until it takes over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceKind:
    """One kind of one API group and version."""

    group: str
    version: str
    kind: str
    plural: str
    singular: str
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    namespaced: bool = True
    has_status: bool = True
    has_generation: bool = True
    """Whether `metadata.generation` counts changes of everything but metadata and status."""
    served: bool = True
    """False for the controller's own records, which are in the same store and are not part of the
    API.
    """

    @property
    def api_version(self) -> str:
        """`group/version`, or the version alone for core kinds."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def list_kind(self) -> str:
        """The kind of a list of them."""
        return f"{self.kind}List"

    @property
    def qualified(self) -> str:
        """`plural.group`, as Kubernetes messages name a kind."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


class ResourceKey(NamedTuple):
    """Identifies a resource across its versions."""

    group: str
    plural: str
    namespace: str
    """Empty for kinds without namespaces."""
    name: str

    def __str__(self) -> str:
        """The key in logs: `group/plural/namespace/name`; none of the parts can contain a slash."""
        return "/".join(self)


@dataclass(frozen=True, slots=True)
class Resource:
    """One object of a known kind. The object is never changed in place; every change makes
    a copy.
    """

    kind: ResourceKind
    object: Mapping[str, Any]

    @property
    def metadata(self) -> Mapping[str, Any]:
        """`metadata`, empty when absent."""
        return _mapping(self.object.get("metadata"))

    @property
    def spec(self) -> Mapping[str, Any]:
        """`spec`, empty when absent."""
        return _mapping(self.object.get("spec"))

    @property
    def status(self) -> Mapping[str, Any]:
        """`status`, empty when absent."""
        return _mapping(self.object.get("status"))

    @property
    def name(self) -> str:
        """`metadata.name`."""
        return str(self.metadata.get("name") or "")

    @property
    def namespace(self) -> str:
        """`metadata.namespace`, empty for kinds without."""
        return str(self.metadata.get("namespace") or "")

    @property
    def uid(self) -> str:
        """`metadata.uid`, set by the store."""
        return str(self.metadata.get("uid") or "")

    @property
    def version(self) -> str:
        """`metadata.resourceVersion`: opaque to all code but the store."""
        return str(self.metadata.get("resourceVersion") or "")

    @property
    def generation(self) -> int:
        """How often the spec was written; 0 for kinds without a spec."""
        value = self.metadata.get("generation")
        return value if isinstance(value, int) else 0

    @property
    def annotations(self) -> Mapping[str, str]:
        """`metadata.annotations`."""
        return _mapping(self.metadata.get("annotations"))

    @property
    def finalizers(self) -> tuple[str, ...]:
        """The finalizers that must be removed before the resource is."""
        return tuple(self.metadata.get("finalizers") or ())

    @property
    def deleting(self) -> bool:
        """Whether its deletion was requested."""
        return bool(self.metadata.get("deletionTimestamp"))

    @property
    def key(self) -> ResourceKey:
        """Its identity across versions."""
        return ResourceKey(self.kind.group, self.kind.plural, self.namespace, self.name)

    def with_metadata(self, **changes: Any) -> "Resource":
        """A copy with metadata fields set, or removed where the value is None."""
        metadata = {**self.metadata, **changes}
        return Resource(
            self.kind,
            {
                **self.object,
                "metadata": {name: value for name, value in metadata.items() if value is not None},
            },
        )

    def with_status(self, status: Mapping[str, Any]) -> "Resource":
        """A copy with another status."""
        return Resource(self.kind, {**self.object, "status": dict(status)})


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a store: the resource of a key before and after, None if there was or
    is none.
    """

    key: ResourceKey
    version: str
    """The resourceVersion of this change; a deletion has one too."""
    before: Resource | None
    after: Resource | None


class StoredKinds(Protocol):
    """The kinds that a store needs to read its records."""

    def of_key(self, key: ResourceKey) -> ResourceKind | None:
        """The kind, in the version that is stored, of the record with this key; None if it is not
        known (yet).
        """
        ...


def kind_of_object(key: ResourceKey, document: Mapping[str, Any]) -> ResourceKind:
    """The kind of a stored object without a known definition, from the object itself: its
    definition may come later in the log.
    """
    kind = str(document.get("kind") or "")
    version = str(document.get("apiVersion") or "").rpartition("/")[2]
    return ResourceKind(
        group=key.group,
        version=version,
        kind=kind,
        plural=key.plural,
        singular=kind.lower(),
        namespaced=bool(key.namespace),
        served=False,
    )


class Reference(NamedTuple):
    """A reference to an object, as in a manifest."""

    api_version: str
    kind: str
    namespace: str
    name: str

    @property
    def group(self) -> str:
        """The API group; empty for core kinds."""
        return self.api_version.rpartition("/")[0]

    @property
    def fields(self) -> dict[str, str]:
        """The reference as a manifest has it (KReference)."""
        return {
            "apiVersion": self.api_version,
            "kind": self.kind,
            "name": self.name,
            "namespace": self.namespace,
        }


def kind_of_reference(api_version: str, kind: str) -> ResourceKind:
    """The kind of a reference; its plural is guessed as Kubernetes' own tools (and Knative's
    resolver) do.
    """
    group, _, version = api_version.rpartition("/")
    return ResourceKind(
        group=group,
        version=version,
        kind=kind,
        plural=guess_plural(kind),
        singular=kind.lower(),
        served=False,
    )


def guess_plural(kind: str) -> str:
    """`Broker` → `brokers`, `EventPolicy` → `eventpolicies`, `Ingress` → `ingresses`."""
    word = kind.lower()
    if word.endswith("s"):
        return f"{word}es"
    if word.endswith("y"):
        return f"{word[:-1]}ies"
    return f"{word}s"


class KindRegistry:
    """The kinds of an installation, found by the names that users and paths have for them."""

    def __init__(self, kinds: Iterable[ResourceKind]) -> None:
        self._kinds = tuple(kinds)
        self._by_type = {(kind.api_version, kind.kind): kind for kind in self._kinds}
        self._by_storage = {(kind.group, kind.plural): kind for kind in self._kinds}

    def __iter__(self) -> Iterator[ResourceKind]:
        """All kinds, in the order they were given."""
        return iter(self._kinds)

    def of_type(self, api_version: str, kind: str) -> ResourceKind | None:
        """The kind that a manifest names."""
        return self._by_type.get((api_version, kind))

    def of_key(self, key: ResourceKey) -> ResourceKind | None:
        """The kind of a stored record."""
        return self._by_storage.get((key.group, key.plural))


def _mapping(value: Any) -> Mapping[str, Any]:
    # It is nearly always a dict, and checking for that takes a tenth of the time of checking for a
    # Mapping.
    return value if isinstance(value, (dict, Mapping)) else {}
