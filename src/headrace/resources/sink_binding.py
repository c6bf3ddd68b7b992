"""SinkBinding (`sources.knative.dev/v1`): validation, defaults, conditions, which workloads it has
and what it changes in them.

A workload that is bound has an annotation for the binding, so that what was changed can be undone
when the binding is deleted, or no longer selects it.
"""

from collections.abc import Mapping
from typing import Any, Final

from headrace.domain.field_errors import FieldError, both_given, invalid
from headrace.domain.sink_variables import SinkVariables
from headrace.resources.condition_types import OIDC_IDENTITY_CREATED
from headrace.resources.conditions import ConditionSet
from headrace.resources.kind_rules import KindRules
from headrace.resources.pod_template import (
    list_of,
    pod_spec_of,
    with_pod_spec,
    with_variables,
    without_variables,
)
from headrace.resources.resource import Resource
from headrace.resources.source import (
    SINK_PROVIDED,
    default_source,
    extensions_of,
    shape_of,
    source_warnings,
    validate_source,
)
from headrace.resources.system_config import BUILT_IN, SystemConfig

SINK_BINDING_AVAILABLE: Final = "SinkBindingAvailable"
OIDC_TOKEN_SECRET_CREATED: Final = "OIDCTokenSecretCreated"  # noqa: S105 - a condition
TRUST_BUNDLE_PROPAGATED: Final = "TrustBundlePropagated"
CONDITIONS = ConditionSet(
    SINK_BINDING_AVAILABLE,
    SINK_PROVIDED,
    OIDC_IDENTITY_CREATED,
    OIDC_TOKEN_SECRET_CREATED,
    TRUST_BUNDLE_PROPAGATED,
)
EXCLUDE_LABEL: Final = "bindings.knative.dev/exclude"
BOUND_PREFIX: Final = "sinkbinding.headrace.dev/"
"""Annotation of a bound workload, with the uid of the binding; its value is the binding's name."""
BOUND_KINDS: Final = "headrace.dev/bound-kinds"
"""In `status.annotations`: the kinds of which workloads may be bound, separated by commas. It is
written before the first of them is changed.
"""
SHAPE = shape_of(
    {
        "subject": {
            "apiVersion": str,
            "kind": str,
            "namespace": str,
            "name": str,
            "selector": {"matchLabels": {"*": str}, "matchExpressions": list},
        }
    }
)
Kind = tuple[str, str]
"""apiVersion and kind."""


def set_defaults(binding: Resource, system: SystemConfig = BUILT_IN) -> Resource:
    """Set the namespaces of the subject and of the sink's reference."""
    binding = default_source(binding, system)
    subject = binding.spec.get("subject")
    if not isinstance(subject, Mapping) or subject.get("namespace"):
        return binding
    spec = {**binding.spec, "subject": {**subject, "namespace": binding.namespace}}
    return Resource(binding.kind, {**binding.object, "spec": spec})


def validate(binding: Resource, system: SystemConfig = BUILT_IN) -> list[FieldError]:
    """The errors of a defaulted SinkBinding, with Knative's messages."""
    errors = validate_source(binding, system)
    subject = _subject(binding)
    name, selector = subject.get("name"), subject.get("selector")
    paths = ("spec.subject.name", "spec.subject.selector")
    if name and selector is not None:
        errors.append(both_given(*paths))
    elif not name and selector is None:
        errors.append(FieldError("expected exactly one, got neither", paths))
    namespace = subject.get("namespace")
    if namespace and namespace != binding.namespace:
        errors.append(invalid(str(namespace)[:100], "spec.subject.namespace"))
    return errors


def kind_of(binding: Resource) -> Kind:
    """Of its subject."""
    subject = _subject(binding)
    return str(subject.get("apiVersion")), str(subject.get("kind"))


def kinds_of(binding: Resource) -> frozenset[Kind]:
    """The kinds of all workloads that may have been changed, and of those that are to be."""
    return bound_kinds_of(binding) | {kind_of(binding)}


def bound_kinds_of(binding: Resource) -> frozenset[Kind]:
    """The kinds of all workloads that may have been changed."""
    found = (each.rpartition(" ") for each in recorded_kinds(binding))
    return frozenset((version, kind) for version, _, kind in found)


def recorded_kinds(binding: Resource) -> frozenset[str]:
    """The kinds in the status, each as `apiVersion kind`."""
    annotations = binding.status.get("annotations")
    text = annotations.get(BOUND_KINDS) if isinstance(annotations, Mapping) else None
    return frozenset(filter(None, text.split(","))) if isinstance(text, str) else frozenset()


def selects(binding: Resource, workload: Resource) -> bool:
    """Whether the binding is about a workload of its namespace and kind."""
    subject = _subject(binding)
    if is_excluded(workload):
        return False
    if subject.get("name"):
        return bool(subject["name"] == workload.name)
    labels = workload.metadata.get("labels")
    return _matches(subject.get("selector") or {}, labels if isinstance(labels, Mapping) else {})


def is_excluded(resource: Resource) -> bool:
    """Whether the label of a workload, or of a namespace, says that no binding changes it."""
    labels = resource.metadata.get("labels")
    return isinstance(labels, Mapping) and labels.get(EXCLUDE_LABEL) == "true"


def named_subject(binding: Resource) -> str:
    """The name of the subject; empty if it is a selector."""
    return str(_subject(binding).get("name") or "")


def variables_of(binding: Resource, sink: str, ca_certs: str) -> SinkVariables:
    """What the workloads learn of the sink."""
    return SinkVariables(sink=sink, extensions=extensions_of(binding), ca_certs=ca_certs)


def has_variables(workload: Resource, variables: SinkVariables) -> bool:
    """Whether every container has these variables."""
    pod = pod_spec_of(workload)
    return pod is not None and with_variables(pod, variables) == pod


def bound(workload: Resource, binding: Resource, variables: SinkVariables) -> Resource:
    """The workload as the binding wants it; it has containers."""
    pod = pod_spec_of(workload) or {}
    annotations = {**workload.annotations, BOUND_PREFIX + binding.uid: binding.name}
    changed = with_pod_spec(workload, with_variables(pod, variables))
    return changed.with_metadata(annotations=annotations)


def unbound(workload: Resource, binding: Resource) -> Resource:
    """The workload without what the binding has changed."""
    own = BOUND_PREFIX + binding.uid
    annotations = {name: value for name, value in workload.annotations.items() if name != own}
    pod = pod_spec_of(workload)
    if pod is not None and not any(name.startswith(BOUND_PREFIX) for name in annotations):
        workload = with_pod_spec(workload, without_variables(pod))
    return workload.with_metadata(annotations=annotations or None)


def is_bound_by(workload: Resource, binding: Resource) -> bool:
    """Whether the workload has the annotation of the binding."""
    return BOUND_PREFIX + binding.uid in workload.annotations


def bindings_of(workload: Resource) -> Mapping[str, str]:
    """The names, by uid, of the bindings in the workload's annotations."""
    return {
        name.removeprefix(BOUND_PREFIX): value
        for name, value in workload.annotations.items()
        if name.startswith(BOUND_PREFIX)
    }


def _subject(binding: Resource) -> Mapping[str, Any]:
    subject = binding.spec.get("subject")
    return subject if isinstance(subject, Mapping) else {}


def _matches(selector: Mapping[str, Any], labels: Mapping[str, Any]) -> bool:
    """A label selector of Kubernetes; an empty one matches everything."""
    wanted = selector.get("matchLabels") or {}
    return all(labels.get(name) == value for name, value in wanted.items()) and all(
        _fulfils(each, labels) for each in list_of(selector, "matchExpressions")
    )


def _fulfils(requirement: Mapping[str, Any], labels: Mapping[str, Any]) -> bool:
    key, values = str(requirement.get("key")), requirement.get("values") or ()
    match requirement.get("operator"):
        case "In":
            return key in labels and labels[key] in values
        case "NotIn":
            return key not in labels or labels[key] not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
        case _:
            return False


RULES = KindRules(SHAPE, set_defaults=set_defaults, validate=validate, warnings=source_warnings)
