"""Namespaces: an object needs one that exists and is not being deleted, and some cannot be
deleted.
"""

from collections.abc import Mapping
from typing import Any

from headrace.domain.errors import NotFound
from headrace.resources.control_ports import ResourceStore
from headrace.resources.resource import Resource
from headrace_apiserver.admission.plugin import AdmissionPlugin, Document
from headrace_apiserver.controllers.namespaces import (
    CONTENT_FINALIZER,
    NAMESPACE,
    PROTECTED,
    is_terminating,
    with_phase,
)
from headrace_apiserver.request_scope import RequestScope
from headrace_apiserver.statuses import (
    StatusCause,
    StatusError,
    forbidden,
    not_found,
    unavailable,
)


class NamespaceLifecycle(AdmissionPlugin):
    """The plugin of this name in the Kubernetes API server."""

    def __init__(self, store: ResourceStore, initial: frozenset[str]) -> None:
        """`initial` are the namespaces that the namespace controller creates at its start."""
        self._store = store
        self._initial = initial

    def validate_create(self, scope: RequestScope, draft: Mapping[str, Any]) -> None:
        """Raises StatusError if the namespace of the object does not exist or is being deleted."""
        if not scope.kind.namespaced:
            return
        try:
            namespace = self._store.get(NAMESPACE, "", scope.namespace)
        except NotFound:
            if self._store.epoch is None:
                return  # The store rejects the write and says which controller takes it.
            if scope.namespace in self._initial:
                raise unavailable(
                    "the initial namespaces are being created; try again in a moment"
                ) from None
            raise not_found(NAMESPACE, scope.namespace) from None
        if is_terminating(namespace):
            raise _terminating(scope, str(draft["metadata"].get("name") or ""))

    def mutate(
        self, scope: RequestScope, draft: Document, before: Mapping[str, Any] | None
    ) -> Document:
        """A Namespace gets its label and its phase."""
        return with_phase(draft, before) if scope.is_of(NAMESPACE) else draft

    def finalizers(self, scope: RequestScope, old: Resource) -> tuple[str, ...]:
        """A Namespace stays until it is empty. Raises StatusError 403 for a protected one."""
        if not scope.is_of(NAMESPACE):
            return ()
        if old.name in PROTECTED:
            raise forbidden(scope.kind, old.name, "this namespace may not be deleted")
        return (CONTENT_FINALIZER,)


def _terminating(scope: RequestScope, name: str) -> StatusError:
    return forbidden(
        scope.kind,
        name,
        f"unable to create new content in namespace {scope.namespace} because it is being"
        " terminated",
        causes=[
            StatusCause(
                "metadata.namespace",
                f"namespace {scope.namespace} is being terminated",
                "NamespaceTerminating",
            )
        ],
    )
