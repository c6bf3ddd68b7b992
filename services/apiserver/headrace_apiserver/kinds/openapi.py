"""`/openapi/v3`: a document for every group version, made from the schemas that validate.

`kubectl` reads them before it writes (a `patch` of the kind that takes `fieldValidation` tells that
the server checks fields, so that it need not), and for `kubectl explain`; code generators read the
rest. Made once per revision of the catalog and kept as bytes. (pure)
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

_METADATA_TOLD = {
    "name": "Name of the object, unique among those of its kind in its namespace.",
    "generateName": "Beginning of a name that the server makes, when name is left out.",
    "namespace": "Namespace of the object.",
    "selfLink": "Not used any more.",
    "uid": "Identity of the object, which no other ever has. Set by the server.",
    "resourceVersion": (
        "Version of the object; it changes with every write. Send it back to be refused when"
        " somebody else wrote meanwhile."
    ),
    "generation": "How often what is wanted was changed. Set by the server.",
    "creationTimestamp": "When the object was created. Set by the server.",
    "deletionTimestamp": "When somebody asked for the object to be deleted. Set by the server.",
    "deletionGracePeriodSeconds": "Not used by this server.",
    "labels": "Names and values by which objects are selected.",
    "annotations": "Names and values for tools and people; nothing is selected by them.",
    "finalizers": "Who must still clean up before the object may go.",
    "ownerReferences": "Objects it belongs to; when all of them are gone it is deleted.",
    "managedFields": "Who owns which fields. Kept by the server.",
}


class OpenApi:
    """The documents, as bytes, with the hashes that clients keep them by."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._revision = ""
        self._ready: dict[tuple[str, str], bytes] = {}
        self._index = b""

    def index(self) -> bytes:
        """`/openapi/v3`: which documents there are."""
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
        """The document of a group version (`group` is empty for core kinds); None when there is
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
        """Changes when the document does: for the index, and as its ETag. Cheap: it is the
        catalog's revision and the version's name.
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
    """`dev.knative.eventing.v1.Trigger`; core kinds as Kubernetes names them."""
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
        "description": "Name, labels and what else every object has.",
        **_reference(_OBJECT_META),
    }
    return {**schema, "properties": properties, _GVK: [_gvk(served.kind)]}


def _copied(schema: Schema) -> dict[str, Any]:
    """A schema in OpenAPI's own words where it has them."""
    made = dict(schema)
    if schema.get(INT_OR_STRING) and "anyOf" not in schema:
        made["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if schema.get("properties"):
        made["properties"] = {name: _copied(each) for name, each in schema["properties"].items()}
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), Mapping):
            made[name] = _copied(schema[name])
    return made


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
                "description": "Version of the list, and how to go on.",
                **_reference(_LIST_META),
            },
            "items": {"type": "array", "description": "The objects.", "items": _reference(name)},
        },
        _GVK: [_gvk(kind, "List")],
    }


def _object_meta() -> dict[str, Any]:
    properties = {
        name: {**each, "description": _METADATA_TOLD[name]}
        for name, each in METADATA["properties"].items()
    }
    for name in ("creationTimestamp", "deletionTimestamp"):
        properties[name]["format"] = "date-time"
    return {"type": "object", "description": "What every object has.", "properties": properties}


def _list_meta() -> dict[str, Any]:
    return {
        "type": "object",
        "description": "What every list has.",
        "properties": {
            "resourceVersion": {
                "type": "string",
                "description": "Version of the list, to watch from.",
            },
            "continue": {
                "type": "string",
                "description": "Send it back to get the rest of the list.",
            },
            "remainingItemCount": {"type": "integer", "description": "How many are left."},
            "selfLink": {"type": "string", "description": "Not used any more."},
        },
    }


def _status() -> dict[str, Any]:
    return {
        "type": "object",
        "description": "What came of a request that does not answer with an object.",
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": _reference(_LIST_META),
            "status": {"type": "string", "description": "Success or Failure."},
            "message": {"type": "string", "description": "What happened, for a person."},
            "reason": {"type": "string", "description": "What happened, in one word."},
            "code": {"type": "integer", "description": "HTTP status code."},
            "details": {
                "type": "object",
                "description": "What it is about.",
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
