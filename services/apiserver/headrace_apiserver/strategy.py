"""What happens to an object before it is stored: what the server sets, keeps or takes from the
path, and what the rules of a kind demand beyond its schema. (pure)

The word is that of k8s.io/apiserver, where every kind has a strategy for create and update.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from headrace.domain.field_errors import FieldError
from headrace.resources.resource import Resource, ResourceKind
from headrace_apiserver.schemas.status_causes import required
from headrace_apiserver.statuses import bad_request, invalid

_GENERATED_LENGTH = 5
_BASE_LENGTH_MAX = 63 - _GENERATED_LENGTH
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
"""The alphabet of Kubernetes: it has no vowels, so that no words appear."""

Document = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class KindStrategy:
    """The rules of one kind beyond its schema. They are injected: this package knows no kind whose
    objects have a meaning outside of it.

    The functions are pure and may run in a thread. They are only called with objects whose fields
    have the types of the schema.
    """

    set_defaults: Callable[[Resource], Resource] = lambda resource: resource
    """Fills in defaults that a schema cannot express."""
    validate: Callable[[Resource], list[FieldError]] = lambda resource: []
    """What is wrong with an object whose defaults are filled in; any error is a 400."""
    validate_update: Callable[[Resource, Resource], list[FieldError]] = lambda new, old: []
    """What must not change: called with the new and the old object if `validate` finds nothing."""
    warnings: Callable[[Resource], list[str]] = lambda resource: []
    """Warnings about an object that is valid."""


NO_RULES = KindStrategy()
Strategies = Mapping[tuple[str, str], KindStrategy]
"""By group and kind; the same in every version of the kind."""


def bind_to_request_path(
    document: Mapping[str, Any], kind: ResourceKind, namespace: str, name: str | None
) -> Document:
    """The document with kind, namespace and name of the request's path; `name` None: the document
    names itself. Raises StatusError 400 if the document states others.
    """
    metadata = document.get("metadata")
    metadata = {} if metadata is None else metadata
    if not isinstance(metadata, Mapping):
        raise bad_request("the object provided cannot be read: metadata must be an object")
    for what, field, expected in (
        ("API version", "apiVersion", kind.api_version),
        ("kind", "kind", kind.kind),
    ):
        if document.get(field) not in (None, "", expected):
            raise bad_request(
                f"the {what} in the data ({document[field]!s:.100}) does not match the expected"
                f" {what} ({expected})"
            )
    if metadata.get("namespace") not in (namespace, None, ""):
        raise bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    if name is not None and metadata.get("name") not in (name, None, ""):
        raise bad_request(
            f"the name of the object ({metadata.get('name')!s:.300}) does not match the name on the"
            f" URL ({name})"
        )
    bound = {key: value for key, value in metadata.items() if key != "namespace"}
    if kind.namespaced:
        bound["namespace"] = namespace
    if name is not None:
        bound["name"] = name
    return {**document, "apiVersion": kind.api_version, "kind": kind.kind, "metadata": bound}


def generate_name(document: Document, kind: ResourceKind, choose: Callable[[int], int]) -> Document:
    """The document with a name, generated from `generateName` if it has none. `choose(n)` returns a
    random number below n. Raises StatusError 422.
    """
    metadata = document["metadata"]
    if metadata.get("name"):
        return document
    prefix = metadata.get("generateName")
    if not prefix or not isinstance(prefix, str):
        raise invalid(kind, "", [required("metadata.name", "name or generateName is required")])
    suffix = "".join(_LETTERS[choose(len(_LETTERS))] for _ in range(_GENERATED_LENGTH))
    return {**document, "metadata": {**metadata, "name": prefix[:_BASE_LENGTH_MAX] + suffix}}


def without_status(
    document: Document, kind: ResourceKind, old: Mapping[str, Any] | None
) -> Document:
    """The document of a write to the main endpoint: if the kind has a status subresource, the
    status stays as it is.
    """
    if not kind.has_status:
        return document
    kept = {key: value for key, value in document.items() if key != "status"}
    if old is not None and "status" in old:
        kept["status"] = old["status"]
    return kept


def with_status_of(document: Mapping[str, Any], old: Mapping[str, Any]) -> Document:
    """The document of a write to the status endpoint: the status of `document`, everything else of
    `old`.
    """
    metadata = {**old["metadata"]}
    sent = document["metadata"]
    for field in ("resourceVersion", "uid", "managedFields"):
        if sent.get(field):
            metadata[field] = sent[field]
    kept = {key: value for key, value in old.items() if key != "status"} | {"metadata": metadata}
    if document.get("status") is not None:
        kept["status"] = document["status"]
    return kept
