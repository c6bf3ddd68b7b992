"""An object on its way to the store: what the server sets, keeps, or takes from the path, before
admission judges it. (pure)
"""

from collections.abc import Callable, Mapping
from typing import Any

from headrace.resources.resource import ResourceKind
from headrace_apiserver.schemas.status_causes import required
from headrace_apiserver.statuses import bad_request, invalid

_GENERATED_LENGTH = 5
_BASE_LENGTH_MAX = 63 - _GENERATED_LENGTH
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
"""Those of Kubernetes: no vowels, so that no words come out of it."""
_KNATIVE = ".knative.dev"

Document = dict[str, Any]


def bind_to_request_path(
    document: Mapping[str, Any], kind: ResourceKind, namespace: str, name: str | None
) -> Document:
    """The document as one of this path; `name` None: the document gives its own. Raises StatusError
    400 when it names another.
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
    placed = {key: value for key, value in metadata.items() if key != "namespace"}
    if kind.namespaced:
        placed["namespace"] = namespace
    if name is not None:
        placed["name"] = name
    return {**document, "apiVersion": kind.api_version, "kind": kind.kind, "metadata": placed}


def generate_name(document: Document, kind: ResourceKind, choose: Callable[[int], int]) -> Document:
    """The document with a name, made from `generateName` where it has none; `choose(n)` is a random
    number below n. Raises StatusError.
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
    """The document of a write to the main endpoint: a status that has an endpoint of its own stays
    as it is.
    """
    if not kind.has_status:
        return document
    kept = {key: value for key, value in document.items() if key != "status"}
    if old is not None and "status" in old:
        kept["status"] = old["status"]
    return kept


def with_status_of(document: Mapping[str, Any], old: Mapping[str, Any]) -> Document:
    """The document of a write to the status endpoint: the status that was sent, and all else as it
    is.
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


def set_user_info_annotations(
    document: Document, kind: ResourceKind, old: Mapping[str, Any] | None, user: str
) -> Document:
    """With the annotations by which Knative tells who made an object and who changed its
    spec last.
    """
    if not kind.group.endswith(_KNATIVE):
        return document
    creator, modifier = f"{kind.group}/creator", f"{kind.group}/lastModifier"
    metadata = document["metadata"]
    annotations = dict(metadata.get("annotations") or {})
    if old is None:
        annotations[creator] = annotations[modifier] = user
    else:
        before = old["metadata"].get("annotations") or {}
        for each in (creator, modifier):
            if each in before:
                annotations.setdefault(each, before[each])
        if document.get("spec") != old.get("spec"):
            annotations[modifier] = user
    return (
        {**document, "metadata": {**metadata, "annotations": annotations}}
        if annotations
        else document
    )
