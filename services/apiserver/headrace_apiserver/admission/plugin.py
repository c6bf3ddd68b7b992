"""Admission plugins: checks and changes that depend on more than the object itself.

`admission.admit` validates an object by its schema and the rules of its kind. A plugin looks at
what surrounds it: its namespace, the built-in definitions, the user. The methods correspond to the
mutating and validating plugins of the Kubernetes API server.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from headrace.resources.resource import Resource
from headrace_apiserver.request_scope import RequestScope

Document = dict[str, Any]


class AdmissionPlugin:
    """Takes part in writes. Every method does nothing unless a plugin overrides it.

    All methods may raise StatusError, which is the response to the request, and may append to
    `scope.warnings`. They run on the event loop and must not block.
    """

    def validate_create(self, scope: RequestScope, draft: Mapping[str, Any]) -> None:
        """Check a new object. Called a second time if other requests ran since the first call."""

    def validate_update(self, scope: RequestScope, old: Resource) -> None:
        """Check whether `old` may be changed; also called for its status and its scale."""

    def mutate(
        self, scope: RequestScope, draft: Document, before: Mapping[str, Any] | None
    ) -> Document:
        """The object with what the server fills in. `before` is the stored object in the version of
        the request, None on create. Not called for writes of a status.
        """
        return draft

    def finalizers(self, scope: RequestScope, old: Resource) -> tuple[str, ...]:
        """Finalizers that a delete of `old` adds."""
        return ()


class AdmissionChain(AdmissionPlugin):
    """Several plugins, called in the given order."""

    def __init__(self, plugins: Iterable[AdmissionPlugin]) -> None:
        self._plugins = tuple(plugins)

    def validate_create(self, scope: RequestScope, draft: Mapping[str, Any]) -> None:
        """See AdmissionPlugin."""
        for plugin in self._plugins:
            plugin.validate_create(scope, draft)

    def validate_update(self, scope: RequestScope, old: Resource) -> None:
        """See AdmissionPlugin."""
        for plugin in self._plugins:
            plugin.validate_update(scope, old)

    def mutate(
        self, scope: RequestScope, draft: Document, before: Mapping[str, Any] | None
    ) -> Document:
        """See AdmissionPlugin."""
        for plugin in self._plugins:
            draft = plugin.mutate(scope, draft, before)
        return draft

    def finalizers(self, scope: RequestScope, old: Resource) -> tuple[str, ...]:
        """The finalizers of all plugins."""
        return tuple(each for plugin in self._plugins for each in plugin.finalizers(scope, old))
