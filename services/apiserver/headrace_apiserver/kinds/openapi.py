"""`/openapi/v3`: a document for every group version, from the schemas that validate.

`kubectl` reads them before it writes (if `patch` of the kind has the parameter `fieldValidation`,
the server validates fields and `kubectl` does not), and for `kubectl explain`; code generators read
the rest. The documents are built once per revision of the catalog and cached as bytes. (pure)
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from headrace import __version__
from headrace.codec.objects import write_object
from headrace.resources.resource import ResourceKind
from headrace_apiserver.kinds.catalog import Catalog
from headrace_apiserver.kinds.served import ServedKind
from headrace_apiserver.schemas.keywords import INT_OR_STRING, METADATA, Schema

_OBJECT_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_LIST_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta"
_STATUS = "io.k8s.apimachinery.pkg.apis.meta.v1.Status"
_GVK = "x-kubernetes-group-version-kind"
_PATCH_TYPES = (
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
)

_METADATA_DESCRIPTIONS = {
    "name": "Name of the object, unique among those of its kind in its namespace.",
    "generateName": "Prefix of a name that the server generates if name is empty.",
    "namespace": "Namespace of the object.",
    "selfLink": "No longer used.",
    "uid": "Unique identity of the object over all time. Set by the server.",
    "resourceVersion": (
        "Version of the object; it changes with every write. A write with an outdated version is"
        " rejected."
    ),
    "generation": "Number of changes of the desired state. Set by the server.",
    "creationTimestamp": "When the object was created. Set by the server.",
    "deletionTimestamp": "When the deletion was requested. Set by the server.",
    "deletionGracePeriodSeconds": "Not used by this server.",
    "labels": "Names and values for selectors.",
    "annotations": "Names and values for tools and people; selectors ignore them.",
    "finalizers": "Cleanups that must finish before the object is removed.",
    "ownerReferences": "Owners of the object; it is deleted when none of them exists.",
    "managedFields": "The managers of fields. Maintained by the server.",
}


class OpenApi:
    """The documents as bytes, with the hashes by which clients cache them."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._revision = ""
        self._ready: dict[tuple[str, str], bytes] = {}
        self._index = b""

    def index(self) -> bytes:
        """`/openapi/v3`: the list of documents."""
        self._refresh()
        if not self._index:
            paths = {}
            for group, version in sorted(
                {(served.kind.group, served.kind.version) for served in self._catalog}
            ):
                path = f"apis/{group}/{version}" if group else f"api/{version}"
                paths[path] = {
                    "serverRelativeURL": f"/openapi/v3/{path}?hash={self.digest(group, version)}"
                }
            self._index = write_object({"paths": paths})
        return self._index

    def document(self, group: str, version: str) -> bytes | None:
        """The document of a group version (`group` is empty for core kinds); None if there is
        none.
        """
        self._refresh()
        found = self._ready.get((group, version))
        if found is None:
            members = [
                served
                for served in self._catalog
                if (served.kind.group, served.kind.version) == (group, version)
            ]
            if not members:
                return None
            found = self._ready[group, version] = write_object(openapi_document(members))
        return found

    def digest(self, group: str, version: str) -> str:
        """A hash that changes whenever the document may, for the index and the ETag. Cheap: it is
        computed from the revision of the catalog and the name of the version.
        """
        fingerprint = f"{self._catalog.revision} {__version__} {group}/{version}"
        return hashlib.sha256(fingerprint.encode()).hexdigest()[:64].upper()

    def _refresh(self) -> None:
        if self._revision != self._catalog.revision:
            self._revision = self._catalog.revision
            self._ready.clear()
            self._index = b""


def openapi_document(members: list[ServedKind]) -> dict[str, Any]:
    """The OpenAPI 3.0 document of the kinds of one group version."""
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {
        _OBJECT_META: _object_meta(),
        _LIST_META: _list_meta(),
        _STATUS: _status(),
    }
    for served in members:
        kind = served.kind
        name = _schema_name(kind.group, kind.version, kind.kind)
        schemas[name] = _published(served)
        schemas[f"{name}List"] = _list_schema(kind, name)
        paths.update(_paths(served, name))
    return {
        "openapi": "3.0.0",
        "info": {"title": "Headrace", "version": __version__},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _schema_name(group: str, version: str, kind: str) -> str:
    """`dev.shop.v1.Gadget`; core kinds have the names of Kubernetes."""
    if not group:
        return f"io.k8s.api.core.{version}.{kind}"
    return ".".join([*reversed(group.split(".")), version, kind])


def _published(served: ServedKind) -> dict[str, Any]:
    schema = _copied(served.schema)
    properties = dict(schema.get("properties") or {})
    properties.setdefault(
        "apiVersion", {"type": "string", "description": "Group and version of this resource."}
    )
    properties.setdefault("kind", {"type": "string", "description": "Kind of this resource."})
    properties["metadata"] = {
        "description": "Name, labels and other metadata of the object.",
        **_reference(_OBJECT_META),
    }
    return {**schema, "properties": properties, _GVK: [_gvk(served.kind)]}


def _copied(schema: Schema) -> dict[str, Any]:
    """A schema with OpenAPI keywords instead of extensions where possible."""
    copy = dict(schema)
    if schema.get(INT_OR_STRING) and "anyOf" not in schema:
        copy["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if schema.get("properties"):
        copy["properties"] = {name: _copied(each) for name, each in schema["properties"].items()}
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), Mapping):
            copy[name] = _copied(schema[name])
    return copy


def _reference(name: str) -> dict[str, Any]:
    return (
        {"allOf": [{"$ref": f"#/components/schemas/{name}"}], "default": {}}
        if name == _OBJECT_META
        else {"$ref": f"#/components/schemas/{name}"}
    )


def _gvk(kind: ResourceKind, suffix: str = "") -> dict[str, str]:
    return {"group": kind.group, "version": kind.version, "kind": kind.kind + suffix}


def _list_schema(kind: ResourceKind, name: str) -> dict[str, Any]:
    return {
        "description": f"A list of {kind.plural}.",
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string", "description": "Group and version of this list."},
            "kind": {"type": "string", "description": "Kind of this list."},
            "metadata": {
                "description": "Version of the list, and the token of its next page.",
                **_reference(_LIST_META),
            },
            "items": {"type": "array", "description": "The objects.", "items": _reference(name)},
        },
        _GVK: [_gvk(kind, "List")],
    }


def _object_meta() -> dict[str, Any]:
    properties = {
        name: {**each, "description": _METADATA_DESCRIPTIONS[name]}
        for name, each in METADATA["properties"].items()
    }
    for name in ("creationTimestamp", "deletionTimestamp"):
        properties[name]["format"] = "date-time"
    return {"type": "object", "description": "Metadata of an object.", "properties": properties}


def _list_meta() -> dict[str, Any]:
    return {
        "type": "object",
        "description": "Metadata of a list.",
        "properties": {
            "resourceVersion": {
                "type": "string",
                "description": "Version of the list, to watch from.",
            },
            "continue": {
                "type": "string",
                "description": "Token to request the next page of the list.",
            },
            "remainingItemCount": {
                "type": "integer",
                "description": "Number of objects after this page.",
            },
            "selfLink": {"type": "string", "description": "No longer used."},
        },
    }


def _status() -> dict[str, Any]:
    return {
        "type": "object",
        "description": "Result of a request whose response is not an object.",
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": _reference(_LIST_META),
            "status": {"type": "string", "description": "Success or Failure."},
            "message": {"type": "string", "description": "Human-readable message."},
            "reason": {"type": "string", "description": "Machine-readable reason in one word."},
            "code": {"type": "integer", "description": "HTTP status code."},
            "details": {
                "type": "object",
                "description": "Details of the object and the problem.",
                "x-kubernetes-preserve-unknown-fields": True,
            },
        },
        _GVK: [{"group": "", "version": "v1", "kind": "Status"}],
    }


def _paths(served: ServedKind, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    kind = served.kind
    root = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
    collection = (
        f"{root}/namespaces/{{namespace}}/{kind.plural}"
        if kind.namespaced
        else f"{root}/{kind.plural}"
    )
    named = [_parameter("namespace", "path")] if kind.namespaced else []
    listing = _operation(kind, "list", f"{name}List", _LIST_PARAMETERS)
    yield (
        collection,
        {
            "parameters": named,
            "get": listing,
            "post": _operation(
                kind,
                "post",
                name,
                _WRITE_PARAMETERS,
                body=("application/json", "application/yaml"),
                code="201",
            ),
            "delete": _operation(kind, "deletecollection", _STATUS, _LIST_PARAMETERS),
        },
    )
    yield (
        f"{collection}/{{name}}",
        {"parameters": [*named, _parameter("name", "path")], **_of_one(kind, name, whole=True)},
    )
    if kind.has_status:
        yield (
            f"{collection}/{{name}}/status",
            {
                "parameters": [*named, _parameter("name", "path")],
                **_of_one(kind, name, whole=False),
            },
        )
    if kind.namespaced:
        yield f"{root}/{kind.plural}", {"get": listing}


def _of_one(kind: ResourceKind, name: str, *, whole: bool) -> dict[str, Any]:
    found = {
        "get": _operation(kind, "get", name, []),
        "put": _operation(
            kind, "put", name, _WRITE_PARAMETERS, body=("application/json", "application/yaml")
        ),
        "patch": _operation(
            kind,
            "patch",
            name,
            [*_WRITE_PARAMETERS, _parameter("force", "query", "boolean")],
            body=_PATCH_TYPES,
        ),
    }
    if whole:
        found["delete"] = _operation(kind, "delete", _STATUS, _DELETE_PARAMETERS)
    return found


def _operation(
    kind: ResourceKind,
    action: str,
    answer: str,
    parameters: list[dict[str, Any]],
    *,
    body: tuple[str, ...] = (),
    code: str = "200",
) -> dict[str, Any]:
    answers = {"description": "OK", "content": {"application/json": {"schema": _reference(answer)}}}
    operation: dict[str, Any] = {
        "parameters": parameters,
        "responses": {code: answers},
        "x-kubernetes-action": action,
        _GVK: _gvk(kind),
    }
    if body:
        sent: dict[str, Any] = {"type": "object"} if body is _PATCH_TYPES else _reference(answer)
        operation["requestBody"] = {
            "required": True,
            "content": {each: {"schema": sent} for each in body},
        }
    return operation


def _parameter(name: str, place: str, kind: str = "string") -> dict[str, Any]:
    return {
        "name": name,
        "in": place,
        "schema": {"type": kind},
        **({"required": True} if place == "path" else {}),
    }


_WRITE_PARAMETERS = [
    _parameter(name, "query") for name in ("dryRun", "fieldManager", "fieldValidation")
]
_LIST_PARAMETERS = [
    *(
        _parameter(name, "query")
        for name in (
            "continue",
            "fieldSelector",
            "labelSelector",
            "resourceVersion",
            "resourceVersionMatch",
        )
    ),
    *(_parameter(name, "query", "integer") for name in ("limit", "timeoutSeconds")),
    *(
        _parameter(name, "query", "boolean")
        for name in ("allowWatchBookmarks", "sendInitialEvents", "watch")
    ),
]
_DELETE_PARAMETERS = [
    _parameter("dryRun", "query"),
    _parameter("propagationPolicy", "query"),
    _parameter("gracePeriodSeconds", "query", "integer"),
]
