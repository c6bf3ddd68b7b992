"""`metadata` of every object: its fields, which of them are dropped, and the rules for names,
labels and owners.

Kubernetes decodes metadata into a type of its own, independent of the kind's schema: an unknown
field is dropped even if the schema preserves unknown fields, and a value of the wrong type makes
the object undecodable. (pure)
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from headrace.resources.resource import ResourceKind
from headrace_apiserver.schemas import status_causes
from headrace_apiserver.schemas.defaulting import without_nulls
from headrace_apiserver.schemas.keywords import METADATA, Schema
from headrace_apiserver.schemas.pruning import pruned
from headrace_apiserver.schemas.schema import type_name
from headrace_apiserver.schemas.status_causes import child
from headrace_apiserver.statuses import StatusCause, StatusError, bad_request

ANNOTATIONS_BYTES_MAX = 256 * 1024
_NAME_MAX = 253
_LABEL_MAX = 63
_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_SERVICE = "[a-z]([-a-z0-9]*[a-z0-9])?"
_PART = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_LABEL_VALUE = f"({_PART})?"
_PART_RULE = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an"
    " alphanumeric character"
)

_RULES = {
    _LABEL: (
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', "
        "and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc'"
    ),
    _SUBDOMAIN: (
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or"
        " '.', and must start and end with an alphanumeric character (e.g. 'example.com'"
    ),
    _SERVICE: (
        "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an"
        " alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or"
        " 'abc-123'"
    ),
    _PART: f"name part {_PART_RULE} (e.g. 'MyName',  or 'my.name',  or '123-abc'",
    _LABEL_VALUE: (
        "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or"
        " '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or"
        " 'my_value',  or '12345'"
    ),
}
_COMPILED = {pattern: re.compile(pattern) for pattern in _RULES}

_GO_TYPES = {
    "string": "string",
    "integer": "int64",
    "boolean": "bool",
    "array": "[]string",
    "object": "map[string]string",
}
_GO_LISTS = {"ownerReferences": "[]v1.OwnerReference", "managedFields": "[]v1.ManagedFieldsEntry"}
_GO_NAMES = {"boolean": "bool", "integer": "number"}


def read_metadata(kind: ResourceKind, metadata: Any) -> tuple[dict[str, Any], list[str]]:
    """The known fields of an object's metadata without nulls, and the paths of the unknown ones.
    Raises StatusError 400 for wrong types.
    """
    if metadata is None:
        metadata = {}
    wrong = next(_wrong_types(metadata, METADATA, ""), None)
    if wrong is not None:
        path, found, wanted = wrong
        where = f"ObjectMeta.{path}" if path else f"{kind.kind}.metadata"
        go_type = _GO_LISTS.get(path) or _GO_TYPES[wanted]
        detail = (
            f"json: cannot unmarshal {_GO_NAMES.get(found, found)} into Go struct field {where} of"
            f" type {go_type}"
        )
        raise unreadable(kind, detail)
    known, unknown = pruned(
        {"metadata": without_nulls(metadata, METADATA)},
        {"properties": {"metadata": METADATA}},
        whole=False,
    )
    return known["metadata"], unknown


def unreadable(kind: ResourceKind, detail: str) -> StatusError:
    """400: the body is not an object of this kind."""
    return bad_request(
        f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: {detail}'
    )


def metadata_problems(
    kind: ResourceKind, metadata: Mapping[str, Any], old: Mapping[str, Any] | None
) -> list[StatusCause]:
    """Problems of names, labels, annotations, owners and finalizers; `old` is the metadata that is
    replaced.
    """
    found = list(_name_problems(kind, metadata))
    found += [
        cause
        for key, value in (metadata.get("labels") or {}).items()
        for cause in _label_problems(key, value)
    ]
    found += _annotation_problems(metadata.get("annotations") or {})
    for reference in metadata.get("ownerReferences") or ():
        found += _owner_problems(reference, "metadata.ownerReferences")
    finalizers = metadata.get("finalizers") or ()
    for each in finalizers:
        found += [
            status_causes.invalid("metadata.finalizers", each, rule) for rule in _qualified(each)
        ]
    if old is not None and old.get("deletionTimestamp"):
        new = sorted(set(finalizers) - set(old.get("finalizers") or ()))
        if new:
            text = (
                "no new finalizers can be added if the object is being deleted, found new"
                " finalizers " + ", ".join(map(status_causes.shown, new))
            )
            found.append(status_causes.forbidden("metadata.finalizers", text))
    return found


def _wrong_types(value: Any, schema: Schema, path: str) -> Iterator[tuple[str, str, str]]:
    """(path, actual type, expected type) of values with the wrong type; null counts as absent."""
    if value is None:
        return
    found, wanted = type_name(value), str(schema["type"])
    if found != wanted:
        yield path, found, wanted
    elif isinstance(value, dict):
        properties, extra = schema.get("properties") or {}, schema.get("additionalProperties")
        for name, each in value.items():
            if name in properties:
                yield from _wrong_types(each, properties[name], child(path, name))
            elif extra:
                # Kubernetes names the map, not the key.
                yield from _wrong_types(each, extra, path)
    elif isinstance(value, list):
        for each in value:
            yield from _wrong_types(each, schema["items"], path)


def _name_problems(kind: ResourceKind, metadata: Mapping[str, Any]) -> Iterator[StatusCause]:
    name, namespace = metadata.get("name") or "", metadata.get("namespace") or ""
    pattern, longest = _SUBDOMAIN, _NAME_MAX
    if not kind.group and kind.kind in ("Namespace", "Service"):
        pattern, longest = (_LABEL if kind.kind == "Namespace" else _SERVICE), _LABEL_MAX
    if not name:
        yield status_causes.required("metadata.name", "name or generateName is required")
    else:
        for rule in _broken(name, pattern, longest):
            yield status_causes.invalid("metadata.name", name, rule)
    if kind.namespaced and not namespace:
        yield status_causes.required("metadata.namespace")
    elif kind.namespaced:
        for rule in _broken(namespace, _LABEL, _LABEL_MAX):
            yield status_causes.invalid("metadata.namespace", namespace, rule)
    elif namespace:
        yield status_causes.forbidden("metadata.namespace", "not allowed on this type")


def _label_problems(key: str, value: str) -> Iterator[StatusCause]:
    for rule in _qualified(key):
        yield status_causes.invalid("metadata.labels", key, rule)
    for rule in _broken(value, _LABEL_VALUE, _LABEL_MAX):
        yield status_causes.invalid("metadata.labels", value, rule)


def _annotation_problems(annotations: Mapping[str, str]) -> list[StatusCause]:
    found = [
        status_causes.invalid("metadata.annotations", key, rule)
        for key in annotations
        for rule in _qualified(key.lower())
    ]
    if sum(len(key) + len(value) for key, value in annotations.items()) > ANNOTATIONS_BYTES_MAX:
        found.append(status_causes.too_long("metadata.annotations", ANNOTATIONS_BYTES_MAX))
    return found


def _owner_problems(reference: Mapping[str, Any], path: str) -> Iterator[StatusCause]:
    if not reference.get("apiVersion"):
        yield status_causes.invalid(f"{path}.apiVersion", "", "version must not be empty")
    for name in ("kind", "name", "uid"):
        if not reference.get(name):
            yield status_causes.invalid(f"{path}.{name}", "", "must not be empty")


def _qualified(name: str) -> Iterator[str]:
    """The rules that a qualified name such as `example.com/name` breaks."""
    prefix, slash, plain = name.rpartition("/")
    if "/" in prefix:
        example = "(e.g. 'MyName',  or 'my.name',  or '123-abc'"
        regex = f"{example}, regex used for validation is '{_PART}')"
        yield (
            f"a qualified name {_PART_RULE} {regex} with an optional DNS subdomain prefix and '/'"
            " (e.g. 'example.com/MyName')"
        )
        return
    if slash and not prefix:
        yield "prefix part must be non-empty"
    elif slash:
        for rule in _broken(prefix, _SUBDOMAIN, _NAME_MAX):
            yield f"prefix part {rule}"
    if not plain:
        yield "name part must be non-empty"
    elif len(plain) > _LABEL_MAX:
        yield f"name part must be no more than {_LABEL_MAX} bytes"
    if not _COMPILED[_PART].fullmatch(plain):
        yield f"{_RULES[_PART]}, regex used for validation is '{_PART}')"


def _broken(text: str, pattern: str, longest: int) -> Iterator[str]:
    """The rules that a text breaks."""
    if len(text) > longest:
        yield f"must be no more than {longest} bytes"
    if not _COMPILED[pattern].fullmatch(text):
        if pattern == _LABEL and _COMPILED[_SUBDOMAIN].fullmatch(text):
            yield "must not contain dots"
        else:
            yield f"{_RULES[pattern]}, regex used for validation is '{pattern}')"
