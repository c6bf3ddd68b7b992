"""Trigger (`eventing.knative.dev`): validation, defaults, immutable fields and conditions."""

import json
from collections.abc import Mapping
from typing import Any

from headrace.domain.field_errors import (
    FieldError,
    both_given,
    disallowed,
    immutable,
    invalid_key,
    missing,
)
from headrace.domain.filters import ATTRIBUTE_NAME_RULE, entries_of_spec, is_attribute_name
from headrace.domain.filters import remarks as filter_remarks
from headrace.domain.filters import validate as validate_filters
from headrace.resources.condition_types import (
    DEAD_LETTER_SINK_RESOLVED,
    OIDC_IDENTITY_CREATED,
    SUBSCRIBER_RESOLVED,
    SUBSCRIPTION_READY,
)
from headrace.resources.conditions import ConditionSet
from headrace.resources.delivery_annotations import validate_annotations
from headrace.resources.delivery_rules import (
    DELIVERY_SHAPE,
    default_delivery,
    delivery_remarks,
    validate_delivery,
)
from headrace.resources.destination import (
    DESTINATION_SHAPE,
    REF_SHAPE,
    unsupported_uri,
    validate_ref,
)
from headrace.resources.destination import default as default_destination
from headrace.resources.destination import validate as validate_destination
from headrace.resources.features import Features
from headrace.resources.json_shapes import Shape
from headrace.resources.kind_rules import KindRules
from headrace.resources.legacy_subscriber import two_given
from headrace.resources.resource import Resource
from headrace.resources.system_config import BUILT_IN, SystemConfig
from headrace.resources.trigger_conversion import OLD_VERSION, todays_spec

DEPENDENCY_ANNOTATION = "knative.dev/dependency"
INJECTION_ANNOTATION = "eventing.knative.dev/injection"
BROKER_LABEL = "eventing.knative.dev/broker"
DEFAULT_BROKER = "default"
"""The Broker of a Trigger of v1alpha1 that names none."""

LABEL_VALUE_MAX = 63
NAME_MAX = 253

BROKER_READY = "BrokerReady"
DEPENDENCY_READY = "DependencyReady"

CONDITIONS = ConditionSet(
    BROKER_READY,
    SUBSCRIBER_RESOLVED,
    DEPENDENCY_READY,
    SUBSCRIPTION_READY,
    DEAD_LETTER_SINK_RESOLVED,
    OIDC_IDENTITY_CREATED,
)

SHAPE: Shape = {
    "spec": {
        "broker": str,
        "brokerRef": REF_SHAPE,
        "filter": {
            "attributes": {"*": str},
            "sourceAndType": {"type": str, "source": str},
        },
        "filters": list,
        "subscriber": {**DESTINATION_SHAPE, "dnsName": str},
        "delivery": DELIVERY_SHAPE,
    },
}


def broker_namespace(trigger: Resource) -> str:
    """The namespace of its Broker: its own, unless `brokerRef` has another (feature
    `cross-namespace-event-links`).
    """
    ref = trigger.spec.get("brokerRef")
    return str((ref.get("namespace") if isinstance(ref, Mapping) else None) or trigger.namespace)


def broker_name(trigger: Resource) -> str:
    """Name of its Broker."""
    ref = trigger.spec.get("brokerRef")
    return str(
        trigger.spec.get("broker") or (ref.get("name") if isinstance(ref, Mapping) else "") or ""
    )


def default(trigger: Resource, system: SystemConfig = BUILT_IN) -> Resource:
    """Set an empty filter, the namespaces of references, and the label that tools select by; and
    the fields of v1 for those of v1alpha1, which conversion does if there is one.
    """
    is_old = trigger.kind.version == OLD_VERSION
    spec = dict(trigger.spec if is_old else todays_spec(trigger.spec))
    spec.setdefault("filter", {})
    if is_old and not spec.get("broker") and not spec.get("brokerRef"):
        spec["broker"] = DEFAULT_BROKER
    if isinstance(spec.get("subscriber"), Mapping):
        spec["subscriber"] = default_destination(spec["subscriber"], trigger.namespace)
    default_delivery(spec, trigger.namespace)
    metadata = dict(trigger.metadata)
    if (
        isinstance(spec.get("broker"), str)
        and spec["broker"]
        and not _is_too_long_for_a_label(spec["broker"])
    ):
        metadata["labels"] = {**(metadata.get("labels") or {}), BROKER_LABEL: spec["broker"]}
    return Resource(trigger.kind, {**trigger.object, "metadata": metadata, "spec": spec})


def _is_too_long_for_a_label(name: str) -> bool:
    """A Broker's name may have 253 characters, a label value 63: such a Trigger has no label, which
    Headrace itself does not need.
    """
    return LABEL_VALUE_MAX < len(name) <= NAME_MAX


def filters_of(trigger: Resource) -> tuple[Mapping[str, Any], ...]:
    """The filters that apply: `filters` if there are any, else `filter.attributes`, else none
    (every event passes).
    """
    return entries_of_spec(trigger.spec)


def validate(trigger: Resource, system: SystemConfig = BUILT_IN) -> list[FieldError]:
    """The errors of a defaulted Trigger."""
    spec, features = todays_spec(trigger.spec), system.features
    errors = _wrong_broker(spec, features) + _wrong_old_fields(trigger)
    errors += [
        invalid_key(name, f"spec.filter.attributes[{name}]", ATTRIBUTE_NAME_RULE)
        for name in (spec.get("filter") or {}).get("attributes") or {}
        if not is_attribute_name(name)
    ]
    if spec.get("filters"):
        errors += validate_filters(spec["filters"], "spec.filters")
    errors += validate_destination(
        spec.get("subscriber"), "spec.subscriber", grouped=features.kreference_group
    )
    errors += validate_delivery(spec, "spec.delivery", features)
    return errors + _wrong_annotations(trigger)


def validate_update(new: Resource, old: Resource) -> list[FieldError]:
    """The errors of an update: the Broker is immutable."""
    if (broker_namespace(old), broker_name(old)) == (broker_namespace(new), broker_name(new)):
        return []
    before, after = (
        (
            f"{broker_namespace(each)}/{broker_name(each)}"
            if _is_elsewhere(each)
            else broker_name(each)
        )
        for each in (old, new)
    )
    return [
        immutable("fields", ("broker", "spec"), f'{{string}}:\n\t-: "{before}"\n\t+: "{after}"\n')
    ]


def _is_elsewhere(trigger: Resource) -> bool:
    return broker_namespace(trigger) != trigger.namespace


def _wrong_broker(spec: Mapping[str, Any], features: Features) -> list[FieldError]:
    broker, ref = spec.get("broker"), spec.get("brokerRef")
    if broker and ref:
        return [both_given("spec.broker", "spec.brokerRef")]
    if not broker and not ref:
        return [missing("spec.broker")]
    if not ref:
        return []
    errors = []
    if ref.get("namespace") and not features.cross_namespace_event_links:
        details = (
            "only name, apiVersion and kind are supported fields when"
            " feature.CrossNamespaceEventLinks is disabled"
        )
        errors.append(disallowed("spec.brokerRef.namespace", details=details))
    return errors + validate_ref(ref, "spec.brokerRef")


def _wrong_old_fields(trigger: Resource) -> list[FieldError]:
    """The errors of a v1alpha1 field beside the v1 field in its place. In a stored Trigger they may
    both be there, and the v1 field decides.
    """
    spec, is_old = trigger.spec, trigger.kind.version == OLD_VERSION
    errors = two_given(spec.get("subscriber"), "spec.subscriber", converted=not is_old)
    given = spec.get("filter") or {}
    if is_old and "sourceAndType" in given and given.get("attributes"):
        errors.append(both_given("spec.filter.attributes", "spec.filter.sourceAndType"))
    return errors


def _wrong_annotations(trigger: Resource) -> list[FieldError]:
    annotations, errors = trigger.annotations, validate_annotations(trigger)
    injection = annotations.get(INJECTION_ANNOTATION)
    where = (f"metadata.annotations[{INJECTION_ANNOTATION}]",)
    if injection is not None and injection not in ("enabled", "disabled"):
        errors.append(
            FieldError(
                'The provided injection annotation value can only be "enabled" or "disabled", not'
                f' "{injection}"',
                where,
            )
        )
    elif injection is not None and broker_name(trigger) != "default":
        rule = (
            "The provided injection annotation is only used for default broker, but non-default"
            " broker specified here"
        )
        text = f'{rule}: "{broker_name(trigger)}"'
        errors.append(FieldError(text, where))
    if DEPENDENCY_ANNOTATION in annotations:
        errors += _wrong_dependency(annotations[DEPENDENCY_ANNOTATION], trigger.namespace)
    return errors


def remarks(trigger: Resource) -> list[str]:
    """Warnings about a valid Trigger."""
    subscriber = unsupported_uri(trigger.spec.get("subscriber"), "spec.subscriber")
    filters = filter_remarks(trigger.spec.get("filters") or (), "spec.filters")
    return [*filter(None, (subscriber,)), *delivery_remarks(trigger), *filters]


def dependency_of(trigger: Resource) -> Mapping[str, str] | None:
    """The object that this Trigger waits for, None if there is none. Raises ValueError if the
    annotation is not a reference.
    """
    text = trigger.annotations.get(DEPENDENCY_ANNOTATION)
    if text is None:
        return None
    return _read_dependency(text)


def _read_dependency(text: str) -> Mapping[str, str]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError("not JSON") from error
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ValueError("not a reference")
    return found


def _wrong_dependency(text: str, namespace: str) -> list[FieldError]:
    where = f"metadata.annotations[{DEPENDENCY_ANNOTATION}]"
    try:
        ref = _read_dependency(text)
    except ValueError:
        return [
            FieldError(
                f'The provided annotation was not a corev1.ObjectReference: "{text[:200]}"',
                (where,),
            )
        ]
    errors = []
    if ref.get("namespace", "") not in ("", namespace):
        errors.append(
            FieldError(
                f'Namespace must be empty or equal to the trigger namespace "{namespace}"',
                (f"{where}.namespace",),
            )
        )
    absent = [f"{where}.{name}" for name in ("kind", "name", "apiVersion") if not ref.get(name)]
    return [*errors, missing(*absent)] if absent else errors


RULES = KindRules(
    SHAPE,
    set_defaults=default,
    validate=validate,
    validate_update=validate_update,
    warnings=remarks,
)
