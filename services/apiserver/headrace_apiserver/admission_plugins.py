"""What holds for single kinds beyond their schemas: namespaces must be there, built-in definitions
stay, Secrets keep out of the store what is elsewhere, and who writes what nobody works on is told.

Admission judges an object by itself; these rules look at what is around it.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from headrace.domain.errors import NotFound
from headrace.resources.control_ports import ResourceStore
from headrace.resources.kinds import KINDS
from headrace.resources.resource import Resource, ResourceKind
from headrace_apiserver.controllers.crds import CLEANUP_FINALIZER, DEFINITION
from headrace_apiserver.controllers.namespaces import (
    CONTENT_FINALIZER,
    INITIAL,
    NAMESPACE,
    PROTECTED,
    is_terminating,
    with_phase,
)
from headrace_apiserver.kinds.catalog import Catalog
from headrace_apiserver.requests.request_scope import RequestScope
from headrace_apiserver.schemas.status_causes import forbidden as forbidden_cause
from headrace_apiserver.schemas.status_causes import invalid as invalid_cause
from headrace_apiserver.statuses import (
    StatusError,
    failure,
    forbidden,
    invalid,
    not_found,
    unavailable,
)

Document = dict[str, Any]
FROM_ANNOTATION = "headrace.dev/data-from"
"""On a Secret: the directory, below the controller's directory of secrets, whose files are its
values.
"""


class BuiltInUnchanged(Exception):
    """The object comes with Headrace: the write is answered with it as it is, and a warning."""

    def __init__(self, resource: Resource) -> None:
        super().__init__(
            f'{resource.kind.qualified} "{resource.name}" comes with Headrace and is left as it is'
        )
        self.resource = resource


class AdmissionPlugins:
    """Asked by the doors before they write."""

    def __init__(self, store: ResourceStore, catalog: Catalog) -> None:
        self._store = store
        self._catalog = catalog

    def validate_create(self, scope: RequestScope, draft: Mapping[str, Any]) -> None:
        """Raises StatusError when there is no namespace for the object, or it is going;
        BuiltInUnchanged for what is built in.
        """
        self.require_namespace(scope, draft)
        if _is(scope.kind, DEFINITION):
            self._protect_builtin(str(draft["metadata"].get("name") or ""))
        self._warn_not_reconciled(scope)

    def require_namespace(self, scope: RequestScope, draft: Mapping[str, Any]) -> None:
        """Raises StatusError when there is no namespace for a new object, or it is going."""
        if scope.kind.namespaced:
            self._require_namespace(scope, str(draft["metadata"].get("name") or ""))

    def validate_update(self, scope: RequestScope, old: Resource) -> None:
        """Raises BuiltInUnchanged for what must stay as it is."""
        if _is(scope.kind, DEFINITION):
            self._protect_builtin(old.name)
        if not scope.info.subresource:
            self._warn_not_reconciled(scope)

    def mutate(
        self, kind: ResourceKind, draft: Document, before: Mapping[str, Any] | None
    ) -> Document:
        """The object with what the kind's own server would fill in. Raises StatusError."""
        if _is(kind, NAMESPACE):
            return with_phase(draft, before)
        if (kind.group, kind.plural) == ("", "secrets"):
            return _secret(kind, draft)
        return draft

    def stored_kind(self, scope: RequestScope) -> ResourceKind:
        """The kind as the store shall take it: as the reconcile knows it where it does.

        A Namespace's phase is set here, beside the rest, and not by way of a status endpoint.
        """
        if _is(scope.kind, NAMESPACE):
            return NAMESPACE
        storage = scope.served.storage
        return _reconciled_kind(storage) or storage

    def finalizers(self, scope: RequestScope, old: Resource) -> tuple[str, ...]:
        """Who must clean up before the object may go. Raises StatusError for what must not go."""
        if _is(scope.kind, NAMESPACE):
            if old.name in PROTECTED:
                raise forbidden(scope.kind, old.name, "this namespace may not be deleted")
            return (CONTENT_FINALIZER,)
        if _is(scope.kind, DEFINITION):
            if self._catalog.is_builtin(old.name):
                raise forbidden(
                    scope.kind,
                    old.name,
                    "it comes with Headrace and stays as long as Headrace does",
                )
            return (CLEANUP_FINALIZER,)
        return ()

    def _warn_not_reconciled(self, scope: RequestScope) -> None:
        """Warn of a kind that came with Headrace and has no part of it behind it yet: its objects
        never get a status that would tell.
        """
        storage = scope.served.storage
        if (
            self._catalog.is_builtin(f"{storage.plural}.{storage.group}")
            and scope.served.custom
            and _reconciled_kind(storage) is None
        ):
            scope.warnings.append(
                f"nothing works on {_plural_kind(storage)} in this version of Headrace"
            )

    def _require_namespace(self, scope: RequestScope, name: str) -> None:
        try:
            namespace = self._store.get(NAMESPACE, "", scope.namespace)
        except NotFound:
            if self._store.epoch is None:
                return  # The store refuses the write anyway, and says who takes it.
            if scope.namespace in INITIAL:
                raise unavailable("the namespaces are being made; try again in a moment") from None
            raise not_found(NAMESPACE, scope.namespace) from None
        if is_terminating(namespace):
            why = (
                f"unable to create new content in namespace {scope.namespace} because it is being"
                " terminated"
            )
            causes = [
                {
                    "reason": "NamespaceTerminating",
                    "message": f"namespace {scope.namespace} is being terminated",
                    "field": "metadata.namespace",
                }
            ]
            about = forbidden(scope.kind, name, why)
            raise failure(
                about.code,
                about.reason,
                str(about),
                {**about.status.get("details", {}), "causes": causes},
            )

    def _protect_builtin(self, name: str) -> None:
        if not self._catalog.is_builtin(name):
            return
        try:
            raise BuiltInUnchanged(self._store.get(DEFINITION, "", name))
        except NotFound:
            # The writer has not come to it yet; it will be put there in a moment, from the same
            # files.
            raise forbidden(DEFINITION, name, "it comes with Headrace") from None


def _is(kind: ResourceKind, other: ResourceKind) -> bool:
    return (kind.group, kind.plural) == (other.group, other.plural)


def _reconciled_kind(kind: ResourceKind) -> ResourceKind | None:
    """The kind as the reconcile knows it; None when it does not."""
    return KINDS.of_type(kind.api_version, kind.kind)


def _plural_kind(kind: ResourceKind) -> str:
    """`EventPolicies`: several of a kind, spelt as the kind is and ending as its plural does."""
    same = len(kind.kind) - kind.plural.endswith("ies")
    return kind.kind[:same] + kind.plural[same:]


def _secret(kind: ResourceKind, draft: Document) -> Document:
    """`stringData` becomes `data`; values must be base64; with values elsewhere there must be none
    here. Raises StatusError.
    """
    name = str(draft["metadata"].get("name") or "")
    data, text = draft.get("data"), draft.get("stringData")
    values = dict(data) if isinstance(data, Mapping) else {}
    if isinstance(text, Mapping):
        for key, value in text.items():
            if isinstance(value, str):
                values[key] = base64.b64encode(value.encode()).decode()
        draft = {key: value for key, value in draft.items() if key != "stringData"}
    annotations = draft["metadata"].get("annotations")
    if isinstance(annotations, Mapping) and annotations.get(FROM_ANNOTATION) and values:
        detail = f"leave it out: annotation {FROM_ANNOTATION} says that the values are in files"
        raise invalid(kind, name, [forbidden_cause("data", detail)])
    for key, value in values.items():
        if not isinstance(value, str) or not _is_base64(value):
            # The value itself is not shown: it is a secret, mistyped.
            raise invalid(
                kind,
                name,
                [
                    invalid_cause(
                        f"data[{key}]", "<hidden>", "must be base64; text goes into stringData"
                    )
                ],
            )
    return {**draft, "data": values} if values else draft


def _is_base64(value: str) -> bool:
    try:
        base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


__all__ = ["FROM_ANNOTATION", "AdmissionPlugins", "BuiltInUnchanged", "StatusError"]
