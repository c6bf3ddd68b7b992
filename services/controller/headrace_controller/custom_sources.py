"""Kinds of sources that an operator brings: a CRD file whose annotation names the adapter that runs
them in the sources service.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from headrace.adapters.manifests import InvalidManifest, read_manifests
from headrace.domain.errors import Permanent
from headrace.domain.observed_event_types import TEXT_MAX
from headrace.resources.delivery_rules import DELIVERY_SHAPE
from headrace.resources.event_type import TypeDescription
from headrace.resources.kind_rules import KindRules
from headrace.resources.resource import Resource, ResourceKind
from headrace.resources.source import (
    default_source,
    shape_of,
    source_conditions,
    source_warnings,
    validate_source,
)
from headrace_controller.reconcile.registry import KindReconciler, ReconcileRequest, Reconcilers
from headrace_controller.reconcile.sources import EventTypes, SourceKind

ADAPTER_ANNOTATION = "headrace.dev/source-adapter"
EVENT_TYPES_ANNOTATION = "registry.knative.dev/eventTypes"
SETTING = "HEADRACE_CONTROLLER_SOURCE_CRDS"
_EVENT_TYPES_MAX = 64
_MEMBERS = {"type": TEXT_MAX, "schema": TEXT_MAX, "description": 32_768}
"""Of an entry of that annotation, with the characters that an EventType can have there."""
_COMMON_FIELDS = ("sink", "ceOverrides", "delivery", "serviceAccountName")
_RULES = KindRules(
    shape_of({"delivery": DELIVERY_SHAPE}),
    set_defaults=default_source,
    validate=validate_source,
    warnings=source_warnings,
)


class InvalidSourceDefinition(Permanent):
    """A file is not the CRD of a source; the message names the file and the field."""


def with_custom_sources(reconcilers: Reconcilers, files: Sequence[Path]) -> Reconcilers:
    """Return the kinds together with those of these CRD files. Raises
    `InvalidSourceDefinition`.
    """
    custom = [each for file in files for each in _read(file)]
    try:
        return Reconcilers(*reconcilers, *custom) if custom else reconcilers
    except ValueError as error:
        raise InvalidSourceDefinition(f"{SETTING}: {error}") from None


def _read(file: Path) -> list[KindReconciler]:
    try:
        manifests = read_manifests(file.read_bytes(), str(file))
    except (OSError, InvalidManifest) as error:
        raise InvalidSourceDefinition(f"{SETTING}: {error}") from None
    found = [
        _reconciler(each.document, each.place)
        for each in manifests
        if each.document.get("kind") == "CustomResourceDefinition"
    ]
    if not found:
        raise InvalidSourceDefinition(f"{SETTING}: {file} contains no CustomResourceDefinition")
    return found


def _reconciler(document: Mapping[str, Any], place: str) -> KindReconciler:
    annotations = (document.get("metadata") or {}).get("annotations") or {}
    adapter = annotations.get(ADAPTER_ANNOTATION)
    if not isinstance(adapter, str) or not adapter:
        raise InvalidSourceDefinition(
            f"{place}: metadata.annotations needs {ADAPTER_ANNOTATION}, the name of an adapter in"
            " HEADRACE_SOURCES_ADAPTERS"
        )
    described = _described_types(annotations.get(EVENT_TYPES_ANNOTATION), place)
    registered = [(each, "") for each in described]
    return SourceKind(
        kind=_kind(document.get("spec") or {}, place),
        rules=_RULES,
        adapter=adapter,
        config=_config,
        conditions=source_conditions(),
        event_types=lambda source: _published_types(source) or registered,
        described=described,
        fields=("ceAttributes",),
    ).reconciler()


def _described_types(text: object, place: str) -> Mapping[str, TypeDescription]:
    """The types that the CRD names: Knative's annotation is a JSON list of objects with a `type`,
    perhaps with a `schema`, the URI of the schema of the data, and a `description`. Raises
    `InvalidSourceDefinition`.
    """
    if text is None:
        return {}
    try:
        listed = json.loads(str(text))
    except (ValueError, RecursionError):
        listed = None
    if not isinstance(listed, list):
        raise InvalidSourceDefinition(
            f"{place}: metadata.annotations[{EVENT_TYPES_ANNOTATION}] is a JSON list of objects"
            ' with a type, such as [{"type": "com.example.made"}]'
        )
    return dict(_described_type(entry, number, place) for number, entry in enumerate(listed))


def _described_type(entry: object, number: int, place: str) -> tuple[str, TypeDescription]:
    members = entry if isinstance(entry, Mapping) else {}
    for name, maximum in _MEMBERS.items():
        value = members.get(name, "")
        needed = name == "type"
        if not isinstance(value, str) or len(value) > maximum or (needed and not value):
            missing = "; every entry needs one" if needed else ""
            raise InvalidSourceDefinition(
                f"{place}: metadata.annotations[{EVENT_TYPES_ANNOTATION}][{number}].{name} is a"
                f" text of at most {maximum} characters{missing}"
            )
    described = TypeDescription(members.get("schema", ""), members.get("description", ""))
    return members["type"], described


def _published_types(source: Resource) -> EventTypes:
    """What the adapter has published as `ceAttributes`; only whole entries, because those of the
    annotation, which have no source, are in the same field.
    """
    listed = source.status.get("ceAttributes")
    listed = listed if isinstance(listed, list) else []
    found: dict[tuple[str, str], None] = {}
    for each in listed:
        if isinstance(each, Mapping):
            type_, origin = each.get("type"), each.get("source")
            if _is_attribute(type_) and _is_attribute(origin):
                found[type_, origin] = None
    return list(found)[:_EVENT_TYPES_MAX]


def _is_attribute(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= TEXT_MAX


def _kind(spec: Mapping[str, Any], place: str) -> ResourceKind:
    names = spec.get("names") or {}
    stored = next(
        (each for each in spec.get("versions") or () if each.get("storage") is True), None
    )
    if stored is None or spec.get("scope") != "Namespaced":
        raise InvalidSourceDefinition(
            f"{place}: a source is Namespaced and has a version with storage: true"
        )
    if "status" not in (stored.get("subresources") or {}):
        raise InvalidSourceDefinition(f"{place}: version {stored.get('name')} has no status")
    try:
        return ResourceKind(
            group=str(spec["group"]),
            version=str(stored["name"]),
            kind=str(names["kind"]),
            plural=str(names["plural"]),
            singular=str(names.get("singular") or str(names["kind"]).lower()),
            short_names=tuple(map(str, names.get("shortNames") or ())),
            categories=tuple(map(str, names.get("categories") or ())),
        )
    except KeyError as error:
        raise InvalidSourceDefinition(f"{place}: spec has no {error.args[0]}") from None


def _config(request: ReconcileRequest) -> Mapping[str, Any]:
    """The fields of the spec that the adapter defines."""
    spec = request.resource.spec
    return {name: value for name, value in spec.items() if name not in _COMMON_FIELDS}
