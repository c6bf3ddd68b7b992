"""ContainerSource, and that of Knative 0.5 to 0.7: validation, defaults, conditions, and the
Deployment and the SinkBinding that they have in a cluster.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from headrace.domain.field_errors import FieldError, missing
from headrace.domain.sink_variables import SinkVariables
from headrace.resources.kind_rules import KindRules
from headrace.resources.kinds import DEPLOYMENT, LEGACY_CONTAINER_SOURCE, SINK_BINDING
from headrace.resources.pod_template import list_of, with_variables
from headrace.resources.resource import Resource
from headrace.resources.source import (
    default_source,
    is_paused,
    shape_of,
    sink_of,
    source_conditions,
    source_warnings,
    validate_source,
)
from headrace.resources.system_config import BUILT_IN, SystemConfig

SINK_BINDING_READY: Final = "SinkBindingReady"
RECEIVE_ADAPTER_READY: Final = "ReceiveAdapterReady"
CONDITIONS = source_conditions(SINK_BINDING_READY, RECEIVE_ADAPTER_READY)
SHAPE = shape_of({"template": {"metadata": dict, "spec": {"containers": list, "*": object}}})
LEGACY_SHAPE = shape_of(
    {
        "image": str,
        "args": list,
        "env": list,
        "template": {"metadata": dict, "spec": {"containers": list, "*": object}},
    }
)
TEMPLATE_HASH: Final = "headrace.dev/template-hash"
"""Annotation of the Deployment: what it was made from. An API server writes some values in another
form than it was given, so that a comparison would find a difference each time.
"""
APPLIED_GENERATION: Final = "headrace.dev/applied-generation"
"""Label of the Deployment: its generation when it was last applied. The generation counts changes
by any client, and none by the API server itself. Of a Deployment it counts changes of annotations
too, but not of labels.
"""
_SOURCE_LABEL: Final = "sources.knative.dev/containerSource"
_AGENT_LABELS: Final = {"sources.knative.dev/source": "container-source-controller"}
_LABEL_MAX: Final = 63
_NAME_MAX: Final = 63
_LEGACY_NAME: Final = "source"


def is_legacy(source: Resource) -> bool:
    """Whether it is the kind of Knative 0.5 to 0.7."""
    return source.kind == LEGACY_CONTAINER_SOURCE


def template_of(source: Resource) -> Mapping[str, Any]:
    """The pod template; the kind of Knative 0.5 has one container in its spec instead."""
    template = source.spec.get("template")
    if isinstance(template, Mapping) and template.get("spec"):
        found = dict(template)
    else:
        container: dict[str, Any] = {"name": _LEGACY_NAME}
        for name in ("image", "args", "env"):
            if source.spec.get(name):
                container[name] = source.spec[name]
        found = {"spec": {"containers": [container]}}
    pod = dict(found["spec"])
    pod["containers"] = [
        {**each, "name": each.get("name") or f"{source.name}-{index}"}
        for index, each in enumerate(list_of(pod, "containers"))
    ]
    account = source.spec.get("serviceAccountName") if is_legacy(source) else None
    return {**found, "spec": {**pod, "serviceAccountName": account} if account else pod}


def validate(source: Resource, system: SystemConfig = BUILT_IN) -> list[FieldError]:
    """The errors of a defaulted ContainerSource, with Knative's messages."""
    errors = validate_source(source, system)
    template = source.spec.get("template")
    pod = template.get("spec") if isinstance(template, Mapping) else None
    containers = list_of(pod, "containers") if isinstance(pod, Mapping) else ()
    if not containers:
        errors.append(missing("spec.containers"))
    errors += [
        missing(f"spec.containers[{index}].image")
        for index, each in enumerate(containers)
        if not each.get("image")
    ]
    return errors


def validate_legacy(source: Resource, system: SystemConfig = BUILT_IN) -> list[FieldError]:
    """The errors of a ContainerSource of Knative 0.5 to 0.7: an image, or a template."""
    if not source.spec.get("template"):
        errors = validate_source(source, system)
        return errors if source.spec.get("image") else [*errors, missing("spec.image")]
    return validate(source, system)


def variables_of(source: Resource, sink: str, ca_certs: str) -> SinkVariables:
    """What its containers learn of the sink."""
    overrides = source.spec.get("ceOverrides")
    extensions = overrides.get("extensions") if isinstance(overrides, Mapping) else None
    return SinkVariables(
        sink=sink,
        extensions=extensions if isinstance(extensions, Mapping) else {},
        ca_certs=ca_certs,
        legacy=is_legacy(source),
    )


def sink_binding(source: Resource) -> Resource:
    """The SinkBinding that resolves the sink, and that shows to clients what is bound to it."""
    deployment = deployment_named(source)
    spec = {
        "subject": {
            "apiVersion": DEPLOYMENT.api_version,
            "kind": DEPLOYMENT.kind,
            "namespace": source.namespace,
            "name": deployment.name,
        },
        "sink": sink_of(source),
        **{name: source.spec[name] for name in ("ceOverrides",) if source.spec.get(name)},
    }
    metadata = {"name": _child_name(source, "-sinkbinding"), "namespace": source.namespace}
    return Resource(SINK_BINDING, {"metadata": metadata, "spec": spec})


def deployment_named(source: Resource) -> Resource:
    """The Deployment, with its name only."""
    metadata = {"name": _child_name(source, "-deployment"), "namespace": source.namespace}
    return Resource(DEPLOYMENT, {"metadata": metadata})


def deployment(source: Resource, variables: SinkVariables) -> Resource:
    """The Deployment that runs the containers. A source that is switched off has no replicas."""
    template = template_of(source)
    labels = {**_AGENT_LABELS, _SOURCE_LABEL: _shortened(source.name, _LABEL_MAX)}
    metadata = template.get("metadata") if isinstance(template.get("metadata"), Mapping) else {}
    spec = {
        "replicas": 0 if is_paused(source) else 1,
        "selector": {"matchLabels": labels},
        "template": {
            "metadata": {
                "labels": {**((metadata or {}).get("labels") or {}), **labels},
                "annotations": dict((metadata or {}).get("annotations") or {}),
            },
            "spec": with_variables(template["spec"], variables),
        },
    }
    named = deployment_named(source)
    found = Resource(named.kind, {**named.object, "spec": spec})
    return found.with_metadata(labels=labels, annotations={TEMPLATE_HASH: _hash(spec)})


def _hash(spec: Mapping[str, Any]) -> str:
    text = json.dumps(spec, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _child_name(source: Resource, suffix: str) -> str:
    return _shortened(source.name, _NAME_MAX - len(suffix)) + suffix


def _shortened(name: str, length_max: int) -> str:
    """The name itself, or with a hash in the place of its end."""
    if len(name) <= length_max:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: length_max - 9].rstrip('.-')}-{digest}"


RULES = KindRules(SHAPE, set_defaults=default_source, validate=validate, warnings=source_warnings)
LEGACY_RULES = KindRules(LEGACY_SHAPE, validate=validate_legacy, warnings=source_warnings)
