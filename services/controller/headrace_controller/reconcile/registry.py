"""What the controller knows of a kind, as one object, and the registry of these objects.

A new kind is a CRD file and one module with a `KindReconciler`. The reconcile loop, the observed
state, what the backend observes, the metrics and the kinds that are watched in a cluster are
derived from the registry, and tests compare the example roles with it. No other module of the
controller lists kinds.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from headrace.resources.broker_config import BYTES_MAX
from headrace.resources.conditions import Condition
from headrace.resources.kind_rules import KindRules
from headrace.resources.kinds import CONFIG_MAP, RECORD_KINDS
from headrace.resources.naming import NameAllocator
from headrace.resources.ownership_record import OwnershipRecord
from headrace.resources.resource import KindRegistry, Reference, Resource, ResourceKind
from headrace_controller.reconcile.backend import BackendDecisions
from headrace_controller.reconcile.observed_state import ObservedState
from headrace_controller.reconcile.plan import Draft


@dataclass(frozen=True, slots=True)
class ReconcileRequest:
    """One resource to decide on: what is known, and where the decision is written to."""

    observed: ObservedState
    resource: Resource
    names: NameAllocator
    draft: Draft
    backend: BackendDecisions
    conditions: dict[str, Condition] = field(default_factory=dict)
    """The conditions decided so far, by type."""
    status: dict[str, Any] = field(default_factory=dict)
    """The other fields of the status."""

    @property
    def ownership(self) -> OwnershipRecord | None:
        """What the resource has in the backend; None before its names were recorded."""
        return self.observed.ownership_records.get(self.resource.uid)


_NOT_READ = (("v1", "Service"), ("apiextensions.k8s.io/v1", "CustomResourceDefinition"))


def _no_references(_resource: Resource) -> Iterable[Reference]:
    return ()


def _no_workloads(_resource: Resource) -> Iterable[tuple[str, str]]:
    return ()


def _no_addressable(_observed: ObservedState, _resource: Resource) -> Resource | None:
    return None


def _nothing_drained(_observed: ObservedState, _resource: Resource) -> Iterable[Resource]:
    return ()


def _default_size(_observed: ObservedState, _resource: Resource) -> int:
    return BYTES_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class KindReconciler:
    """Everything the controller has to know of one kind.

    All functions are pure; they write their decisions to the request's draft.
    """

    kind: ResourceKind
    decide: Callable[[ReconcileRequest], None]
    """Plan the next steps and the status of a resource that is not being deleted."""
    finalize: Callable[[ReconcileRequest], None] | None = None
    """Plan the clean-up of a resource that is being deleted. None: resources of this kind have
    nothing in the backend and no finalizer.
    """
    rules: KindRules = field(default_factory=KindRules)
    """Defaults and validation beyond the schema of the CRD."""
    references: Callable[[Resource], Iterable[Reference]] = _no_references
    """The objects of other kinds that a resource refers to, which `ObservedState.lookup` must
    find.
    """
    children: Callable[[Resource], Iterable[Reference]] = _no_references
    """The objects that a resource owns (see `owns`), which `ObservedState.lookup` must find."""
    workloads: Callable[[Resource], Iterable[tuple[str, str]]] = _no_workloads
    """The kinds, as apiVersion and kind, of which a resource is shown every object in its
    namespace, where there is a cluster (see `ObservedState.all_of`).
    """
    addressable: Callable[[ObservedState, Resource], Resource | None] = _no_addressable
    """The addressable that a subscription reads from; the backend observes its position there."""
    drained: Callable[[ObservedState, Resource], Iterable[Resource]] = _nothing_drained
    """The subscriptions that the resource is about to remove, once they have delivered what they
    have; the backend observes how much that is.
    """
    channel_bytes_max: Callable[[ObservedState, Resource], int] = _default_size
    """The largest record that the resource's channel will take: delay topics must take it too."""
    decide_all: Callable[[ObservedState, Draft], None] | None = None
    """Plan steps about the kind as a whole, after every resource was decided on."""
    creates: tuple[ResourceKind, ...] = ()
    """Kinds of objects that are created once and not changed afterwards."""
    owns: tuple[ResourceKind, ...] = ()
    """Kinds of objects that are applied and deleted (see `reconcile.objects`)."""


class Reconcilers:
    """The registered kinds, in the order in which they are decided on."""

    def __init__(self, *reconcilers: KindReconciler) -> None:
        if len({(each.kind.group, each.kind.kind) for each in reconcilers}) != len(reconcilers):
            raise ValueError("a kind can be registered once only")
        self._reconcilers = reconcilers

    def __iter__(self) -> Iterator[KindReconciler]:
        """All of them, in order."""
        return iter(self._reconcilers)

    def without(self, *kinds: ResourceKind) -> "Reconcilers":
        """The others."""
        return Reconcilers(*(each for each in self if each.kind not in kinds))

    def without_group(self, group: str) -> "Reconcilers":
        """Those of other API groups."""
        return Reconcilers(*(each for each in self if each.kind.group != group))

    def namespaced(self) -> "Reconcilers":
        """Those whose objects are in namespaces: a controller that serves some namespaces only may
        not read others.
        """
        return Reconcilers(*(each for each in self if each.kind.namespaced))

    @property
    def kinds(self) -> tuple[ResourceKind, ...]:
        """The registered kinds."""
        return tuple(each.kind for each in self)

    @property
    def watched_kinds(self) -> tuple[ResourceKind, ...]:
        """The kinds that are always watched in a cluster, those of created objects included; other
        kinds are watched while a resource refers to them.
        """
        created = (kind for each in self for kind in (*each.creates, *each.owns))
        return tuple(dict.fromkeys((*self.kinds, *created, CONFIG_MAP)))

    @property
    def stored_kinds(self) -> KindRegistry:
        """The kinds of a store that also keeps the controller's own records."""
        return KindRegistry((*self.watched_kinds, *RECORD_KINDS))

    def references(
        self, resources: Mapping[ResourceKind, Iterable[Resource]], *, in_cluster: bool
    ) -> set[Reference]:
        """Every object that resources refer to, and every object that they own. In a cluster the
        Services and CRDs that resources refer to are not read: Services have DNS names, and roles
        decide which kinds may be used.
        """
        found = {
            reference
            for each in self
            for resource in resources.get(each.kind, ())
            for reference in each.references(resource)
        }
        if in_cluster:
            found = {each for each in found if (each.api_version, each.kind) not in _NOT_READ}
        return found.union(
            reference
            for each in self
            for resource in resources.get(each.kind, ())
            for reference in each.children(resource)
        )

    def workloads(
        self, resources: Mapping[ResourceKind, Iterable[Resource]]
    ) -> set[tuple[str, str, str]]:
        """apiVersion, kind and namespace of all objects that a resource is to be shown."""
        return {
            (*kind, resource.namespace)
            for each in self
            for resource in resources.get(each.kind, ())
            for kind in each.workloads(resource)
        }

    def drained(self, observed: ObservedState) -> list[Resource]:
        """Every subscription that is about to be removed."""
        return [
            subscription
            for each in self
            for resource in observed.of(each.kind)
            for subscription in each.drained(observed, resource)
        ]

    def subscriptions(self, observed: ObservedState) -> list[tuple[Resource, Resource | None]]:
        """Every resource with the addressable that it reads from, None if there is none."""
        return [
            (resource, each.addressable(observed, resource))
            for each in self
            for resource in observed.of(each.kind)
        ]
