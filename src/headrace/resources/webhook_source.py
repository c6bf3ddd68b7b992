"""WebhookSource (`sources.headrace.dev/v1alpha1`): validation, defaults and conditions."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from headrace.domain.field_errors import FieldError, disallowed, invalid, invalid_key, missing
from headrace.resources.delivery_rules import (
    DELIVERY_SHAPE,
    default_delivery,
    delivery_remarks,
    validate_delivery,
)
from headrace.resources.json_shapes import ANY
from headrace.resources.kind_rules import KindRules
from headrace.resources.resource import Resource
from headrace.resources.source import (
    default_source,
    shape_of,
    source_conditions,
    source_warnings,
    validate_source,
)
from headrace.resources.system_config import BUILT_IN, SystemConfig

SECRETS_PROVIDED = "SecretsProvided"
CONDITIONS = source_conditions(SECRETS_PROVIDED)
EVENT_TYPE = "dev.headrace.webhook"
"""The type of an event whose request has none."""
NO_SCHEME = "None"
NOT_SIGNED = (
    "spec.signature is not set: any client that knows the URL can send events; set the scheme of"
    " the provider and its secret"
)
SHAPE = shape_of(
    {
        "signature": {
            "scheme": str,
            "secretKeyRef": {"name": str, "key": str},
            "toleranceSeconds": int,
        },
        "attributes": {"*": {"header": str, "path": str, "value": str, "prefix": str}},
        "delivery": DELIVERY_SHAPE,
        "sink": ANY,
    }
)
_NOT_MAPPED = ("specversion", "data", "datacontenttype")
_ORIGINS = ("header", "path", "value")
_NAME = re.compile(r"[a-z0-9]{1,64}").fullmatch
# Possessive: without that, a name could be divided into steps in many ways.
_STEP = r"\.?[A-Za-z_][\w-]*+|\[\d{1,6}\]|\['[^'\]]{1,100}'\]"
_PATH = re.compile(rf"\$?(?:{_STEP})+").fullmatch


def default(source: Resource, system: SystemConfig = BUILT_IN) -> Resource:
    """Set the namespaces of the sink's and the dead letter sink's references."""
    defaulted = default_source(source, system)
    spec = dict(defaulted.spec)
    default_delivery(spec, source.namespace)
    return Resource(source.kind, {**defaulted.object, "spec": spec})


def validate(source: Resource, system: SystemConfig = BUILT_IN) -> list[FieldError]:
    """The errors of a defaulted WebhookSource."""
    errors = validate_source(source, system)
    errors += validate_delivery(source.spec, "spec.delivery", system.features)
    signature = source.spec.get("signature") or {}
    reference, path = signature.get("secretKeyRef"), "spec.signature.secretKeyRef"
    if scheme_of(source) == NO_SCHEME:
        errors += [disallowed(path, details="scheme None has no secret")] if reference else []
    elif not reference:
        errors.append(missing(path))
    for name, mapping in (source.spec.get("attributes") or {}).items():
        errors += _wrong_mapping(name, mapping)
    return errors


def _wrong_mapping(name: str, mapping: Mapping[str, Any]) -> list[FieldError]:
    path = "spec.attributes"
    if name in _NOT_MAPPED:
        return [disallowed(f"{path}.{name}")]
    if not _NAME(name):
        details = "names of attributes have lower-case letters and digits"
        return [invalid_key(name[:100], path, details)]
    given = [each for each in _ORIGINS if mapping.get(each)]
    if len(given) != 1:
        details = "expected exactly one of: header, path, value"
        return [invalid(", ".join(given), f"{path}.{name}", details)]
    found = mapping.get("path")
    if found and not _PATH(found):
        details = "expected names and indexes, such as $.data.items[0].id"
        return [invalid(found[:100], f"{path}.{name}.path", details)]
    return []


def warnings(source: Resource) -> list[str]:
    """Warnings about a valid WebhookSource."""
    found = source_warnings(source) + delivery_remarks(source)
    return [*found, NOT_SIGNED] if scheme_of(source) == NO_SCHEME else found


def scheme_of(source: Resource) -> str:
    """How requests are signed."""
    signature = source.spec.get("signature") or {}
    return str(signature.get("scheme") or NO_SCHEME)


def event_source(source: Resource) -> str:
    """The attribute `source` of an event whose request has none."""
    return f"/apis/v1/namespaces/{source.namespace}/webhooksources/{source.name}"


def event_types(source: Resource) -> Sequence[tuple[str, str]]:
    """Type and source of its events, where they do not depend on the request."""
    attributes = source.spec.get("attributes") or {}
    type_, origin = attributes.get("type") or {}, attributes.get("source") or {}
    if scheme_of(source) not in (NO_SCHEME, "Bearer"):
        type_ = type_ or {"path": "of the provider"}
    if any(each.get("header") or each.get("path") for each in (type_, origin)):
        return ()
    return ((type_.get("value") or EVENT_TYPE, origin.get("value") or event_source(source)),)


RULES = KindRules(SHAPE, set_defaults=default, validate=validate, warnings=warnings)
