"""Applies manifests from the command line: one server-side apply per document, then waits until the
applied objects are Ready.

kubectl's apply can continue from there: see `last_applied`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.adapters.manifests import Manifest
from headrace.resources.conditions import READY, condition_of, is_true
from headrace_cli.client import ApiClient, ApiFailure, Kind
from headrace_cli.last_applied import last_applied
from headrace_cli.waiting import Waiting

_RECONCILED_CATEGORIES = frozenset({"knative", "sources"})


class NotReady(Exception):
    """An object did not become Ready in time; the message says which and why."""


class NoNamespace(ApiFailure):
    """The object to apply is namespaced, and its namespace does not exist."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f'namespaces "{name}" not found; apply a Namespace of that name first', code=404
        )
        self.name = name


@dataclass(frozen=True, slots=True)
class AppliedObject:
    """An object as stored by the server."""

    kind: Kind
    object: Mapping[str, Any]
    created: bool = False

    @property
    def name(self) -> str:
        """`metadata.name`."""
        return str(self.object["metadata"]["name"])

    @property
    def namespace(self) -> str:
        """`metadata.namespace`, empty for cluster-scoped kinds."""
        return str(self.object["metadata"].get("namespace") or "")

    @property
    def label(self) -> str:
        """`triggers.eventing.knative.dev/orders`."""
        return f"{self.kind.qualified}/{self.name}"

    @property
    def is_being_deleted(self) -> bool:
        """Whether it was deleted, and still has finalizers: what was applied is deleted with it."""
        return "deletionTimestamp" in self.object["metadata"]

    @property
    def status(self) -> Mapping[str, Any]:
        """`status`, empty if the object has none."""
        found = self.object.get("status")
        return found if isinstance(found, Mapping) else {}


def apply_manifest(
    client: ApiClient, manifest: Manifest, namespace: str, *, force: bool = False
) -> AppliedObject:
    """Apply one document. Raises ApiFailure with the message of the server, and NoNamespace if only
    the namespace is missing.
    """
    if not manifest.name:
        raise ApiFailure("metadata.name is missing", code=400)
    document, namespace = manifest.document, manifest.namespace or namespace
    kind = client.kind_of(manifest.api_version, manifest.kind)
    try:
        stored, created = client.apply(kind, namespace, document, force=force)
    except ApiFailure as failure:
        if failure.code == 404 and str(failure) == f'namespaces "{namespace}" not found':
            raise NoNamespace(namespace) from failure
        raise
    applied = AppliedObject(kind, stored, created)
    if applied.is_being_deleted:
        return applied
    patch = last_applied(document, namespace if kind.namespaced else "", stored, created=created)
    if patch is not None:
        # Not a part of what is applied: the annotation belongs to who has applied last, and a field
        # of kubectl's would be a conflict.
        stored = client.merge(kind, namespace, manifest.name, patch)
    return AppliedObject(kind, stored, created)


def create_namespace(client: ApiClient, name: str) -> AppliedObject:
    """Create a Namespace. Raises ApiFailure."""
    kind = client.kind_of("v1", "Namespace")
    stored, created = client.apply(
        kind, "", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    )
    return AppliedObject(kind, stored, created)


def wait_ready(
    client: ApiClient,
    applied: Sequence[AppliedObject],
    seconds: float,
    ready: Callable[[AppliedObject], None],
    slow: Callable[[str], None],
) -> None:
    """Wait until all objects with a Ready condition are Ready at the applied generation; call
    `ready` for each. Raises NotReady and ApiFailure.

    `slow` is called with the object that takes longer than usual and the reason, once for each
    reason.
    """
    waiting = Waiting(seconds, slow)
    for each in applied:
        while _has_conditions(each):
            stored = client.get(each.kind, each.namespace, each.name)
            if stored is None:
                raise NotReady(f"{each.label} was deleted meanwhile; apply it again")
            found = AppliedObject(each.kind, stored)
            if found.status.get("observedGeneration", 0) >= each.object["metadata"].get(
                "generation", 0
            ) and is_true(found.status, READY):
                ready(found)
                break
            if not waiting.pause(f"{each.label} is not Ready yet ({_reason(found)})"):
                raise NotReady(_not_ready_message(found, seconds))


def _has_conditions(applied: AppliedObject) -> bool:
    """Return whether a controller reports the Ready condition; not for kinds of the core API. A
    source has the category `sources` in any group, also one of a kind of the user's own.
    """
    kind = applied.kind
    return "knative.dev" in kind.group_version or not _RECONCILED_CATEGORIES.isdisjoint(
        kind.categories
    )


def _reason(applied: AppliedObject) -> str:
    condition = condition_of(applied.status, READY)
    return (
        f"{condition.reason or condition.status}: {condition.message}"
        if condition
        else "it has no status: is a controller writing?"
    )


def _not_ready_message(applied: AppliedObject, seconds: float) -> str:
    where = f" -n {applied.namespace}" if applied.namespace else ""
    return (
        f"{applied.label} is not Ready after {seconds:g} s ({_reason(applied)}); `headrace get"
        f" {applied.kind.qualified} {applied.name}{where} -o yaml` shows all conditions"
    )
