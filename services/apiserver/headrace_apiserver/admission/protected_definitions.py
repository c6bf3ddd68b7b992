"""CustomResourceDefinitions that are built in: no client can change or delete them."""

from collections.abc import Mapping
from typing import Any

from headrace.domain.errors import NotFound
from headrace.resources.control_ports import ResourceStore
from headrace.resources.resource import Resource
from headrace_apiserver.admission.plugin import AdmissionPlugin
from headrace_apiserver.controllers.crds import CLEANUP_FINALIZER, DEFINITION
from headrace_apiserver.kinds.catalog import Catalog
from headrace_apiserver.request_scope import RequestScope
from headrace_apiserver.statuses import forbidden


class BuiltInUnchanged(Exception):
    """The object is built in. The response to the write is the object as it is, with a warning, so
    that the manifests of an installation for clusters can be applied here too.
    """

    def __init__(self, resource: Resource) -> None:
        super().__init__(
            f'{resource.kind.qualified} "{resource.name}" comes with Headrace and is left as it is'
        )
        self.resource = resource


class ProtectedDefinitions(AdmissionPlugin):
    """Keeps built-in definitions as they are; a deleted one of a user's is cleaned up first."""

    def __init__(self, store: ResourceStore, catalog: Catalog) -> None:
        self._store = store
        self._catalog = catalog

    def validate_create(self, scope: RequestScope, draft: Mapping[str, Any]) -> None:
        """Raises BuiltInUnchanged."""
        if scope.is_of(DEFINITION):
            self._protect(str(draft["metadata"].get("name") or ""))

    def validate_update(self, scope: RequestScope, old: Resource) -> None:
        """Raises BuiltInUnchanged."""
        if scope.is_of(DEFINITION):
            self._protect(old.name)

    def finalizers(self, scope: RequestScope, old: Resource) -> tuple[str, ...]:
        """A definition stays until its objects are deleted. Raises StatusError 403 for a built-in
        one.
        """
        if not scope.is_of(DEFINITION):
            return ()
        if self._catalog.is_builtin(old.name):
            raise forbidden(
                scope.kind, old.name, "it comes with Headrace and stays as long as Headrace does"
            )
        return (CLEANUP_FINALIZER,)

    def _protect(self, name: str) -> None:
        if not self._catalog.is_builtin(name):
            return
        try:
            raise BuiltInUnchanged(self._store.get(DEFINITION, "", name))
        except NotFound:
            # The leader has not stored it yet and will do so in a moment, from the same files.
            raise forbidden(DEFINITION, name, "it comes with Headrace") from None
