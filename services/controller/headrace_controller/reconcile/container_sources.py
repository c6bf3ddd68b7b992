"""ContainerSource, and that of Knative 0.5 to 0.7: in a cluster a Deployment and a SinkBinding,
elsewhere the adapter `container`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from headrace.resources import container_source as rules
from headrace.resources.condition_types import OIDC_IDENTITY_CREATED
from headrace.resources.conditions import (
    HAPPY,
    Condition,
    condition_of,
    failed,
    happy,
    is_true,
    unknown,
)
from headrace.resources.destination import Unresolved
from headrace.resources.kinds import (
    CONTAINER_SOURCE,
    LEGACY_CONTAINER_SOURCE,
    SINK_BINDING,
)
from headrace.resources.pod_template import containers_of, list_of
from headrace.resources.resource import Reference, Resource, ResourceKind
from headrace.resources.source import (
    DEPLOYED,
    PAUSED,
    SINK_PROVIDED,
    extensions_of,
    is_paused,
)
from headrace_controller.reconcile.objects import (
    condition_from,
    ensure_object,
    is_owned,
    object_name,
    owned,
    owned_object,
    readiness_of,
    reference_to,
)
from headrace_controller.reconcile.plan import ApplyObject
from headrace_controller.reconcile.registry import KindReconciler, ReconcileRequest
from headrace_controller.reconcile.sources import InvalidSource, SourceKind
from headrace_controller.reconcile.statuses import (
    OIDC_DISABLED,
    condition_of_problem,
    set_invalid_status,
    set_status,
)

ADAPTER = "container"
_SINK_FIELDS = ("sinkUri", "sinkCACerts", "sinkAudience")
_PASSED_ON = ("name", "image", "command", "args", "workingDir", "imagePullPolicy")
_CLUSTER_ONLY = ("envFrom", "volumeMounts", "volumeDevices")
_KEPT_FIELDS = ("metadata.name", "metadata.namespace")


def _reconciler(kind: ResourceKind) -> KindReconciler:
    local = SourceKind(
        kind=kind,
        rules=rules.RULES if kind == CONTAINER_SOURCE else rules.LEGACY_RULES,
        adapter=ADAPTER,
        config=config_of,
        conditions=rules.CONDITIONS,
    ).reconciler()

    def decide(request: ReconcileRequest) -> None:
        in_cluster = request.observed.installation.in_cluster
        (_decide_in_cluster if in_cluster else local.decide)(request)

    return KindReconciler(
        kind=kind,
        rules=local.rules,
        references=local.references,
        children=_children,
        decide=decide,
        owns=(*local.owns, SINK_BINDING),
    )


def _children(source: Resource) -> Iterator[Reference]:
    yield reference_to(rules.deployment_named(source))


# Without a cluster.


def config_of(request: ReconcileRequest) -> Mapping[str, Any]:
    """The configuration of the adapter. Raises InvalidSource for what only a cluster can do."""
    source = request.resource
    template = rules.template_of(source)
    found: dict[str, list[Mapping[str, Any]]] = {"initContainers": [], "containers": []}
    for path, container in containers_of(template["spec"]):
        found[path.partition("[")[0]].append(_container(source, path, container))
    config = {
        "sink": request.status.get("sinkUri"),
        "extensions": {name: str(value) for name, value in extensions_of(source).items()},
        "caCerts": request.status.get("sinkCACerts"),
        "legacy": rules.is_legacy(source),
        **found,
    }
    return {name: value for name, value in config.items() if value}


def _container(source: Resource, path: str, container: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in _CLUSTER_ONLY:
        if container.get(name):
            raise _only_in_cluster(f"{path}.{name}")
    if path.startswith("initContainers") and container.get("restartPolicy"):
        raise _only_in_cluster(f"{path}.restartPolicy")
    result: dict[str, Any] = {name: container[name] for name in _PASSED_ON if container.get(name)}
    result.setdefault("name", path.replace("[", "-").rstrip("]").lower())
    variables = [
        _variable(source, f"{path}.env[{index}]", each)
        for index, each in enumerate(list_of(container, "env"))
    ]
    return {**result, "env": variables} if variables else result


def _variable(source: Resource, path: str, variable: Mapping[str, Any]) -> Mapping[str, Any]:
    name, origin = str(variable.get("name")), variable.get("valueFrom")
    if not isinstance(origin, Mapping):
        return {"name": name, "value": str(variable.get("value") or "")}
    secret, field = origin.get("secretKeyRef"), origin.get("fieldRef")
    if isinstance(secret, Mapping):
        reference = {"name": str(secret.get("name")), "key": str(secret.get("key"))}
        return {"name": name, "secretKeyRef": reference}
    if isinstance(field, Mapping) and field.get("fieldPath") in _KEPT_FIELDS:
        is_name = field["fieldPath"] == "metadata.name"
        return {"name": name, "value": source.name if is_name else source.namespace}
    raise _only_in_cluster(f"{path}.valueFrom.{next(iter(origin), '')}")


def _only_in_cluster(path: str) -> InvalidSource:
    return InvalidSource(
        "OnlyInCluster",
        f"spec.template.spec.{path} works only in a cluster; without one, containers have command,"
        " args, workingDir, and env with values and secretKeyRef",
        condition=rules.RECEIVE_ADAPTER_READY,
    )


# In a cluster.


def _decide_in_cluster(request: ReconcileRequest) -> None:
    source, conditions = request.resource, request.conditions
    if set_invalid_status(request, rules.CONDITIONS, rules.RECEIVE_ADAPTER_READY):
        return
    conditions[OIDC_IDENTITY_CREATED] = OIDC_DISABLED
    wanted = rules.sink_binding(source)
    problem = ensure_object(request, wanted)
    binding = owned_object(request, wanted)
    if problem is not None or binding is None:
        found = condition_of_problem(problem) if problem else unknown("SinkBindingBeingDeleted")
        conditions.update(dict.fromkeys((rules.SINK_BINDING_READY, SINK_PROVIDED), found))
    else:
        conditions[rules.SINK_BINDING_READY] = readiness_of(request, wanted)
        conditions[SINK_PROVIDED] = condition_of(binding.status, SINK_PROVIDED) or condition_from(
            binding, SINK_PROVIDED
        )
    status = binding.status if binding is not None else source.status
    request.status.update({name: status[name] for name in _SINK_FIELDS if status.get(name)})
    conditions[rules.RECEIVE_ADAPTER_READY] = conditions[DEPLOYED] = _deployed(request)
    set_status(request, rules.CONDITIONS, when_ready=PAUSED if is_paused(source) else HAPPY)


def _deployed(request: ReconcileRequest) -> Condition:
    """Plan the Deployment, once the sink is known: a container without one fails."""
    source = request.resource
    sink = request.status.get("sinkUri")
    if not sink:
        return unknown("NoSink", "the Deployment is created when the sink has an address")
    variables = rules.variables_of(source, sink, request.status.get("sinkCACerts", ""))
    wanted = owned(source, rules.deployment(source, variables))
    try:
        present = request.observed.find(reference_to(wanted))
    except Unresolved as error:
        return unknown("ObjectUnknown", str(error))
    if present is not None and not is_owned(source, present):
        return failed(
            "ObjectNotOwned",
            f'Deployment "{wanted.name}" exists and belongs to another owner; delete it, or rename'
            " this resource",
        )
    if present is None:
        request.draft.add(ApplyObject(wanted))
    elif not _is_current(wanted, present):
        request.draft.add(ApplyObject(_with_generation(wanted, present)))
    failure = request.observed.failed_steps.get(object_name(wanted))
    if failure is not None:
        return failed("ObjectNotApplied", failure.message)
    if present is None:
        return unknown("ObjectNotCreated", f"Deployment {wanted.name} is being created")
    return _availability(source, present)


def _is_current(wanted: Resource, present: Resource) -> bool:
    """Whether the Deployment was made from this template, and no client has changed it since."""
    labels = present.metadata.get("labels") or {}
    made = present.annotations.get(rules.TEMPLATE_HASH)
    return made == wanted.annotations[rules.TEMPLATE_HASH] and (
        labels.get(rules.APPLIED_GENERATION) == str(present.generation)
    )


def _with_generation(wanted: Resource, present: Resource) -> Resource:
    """If applying it changes the spec, the generation is the next one: it is applied once more,
    which changes the label only. So what fails is tried again, and what a client
    changes at the same moment is found.
    """
    labels = {**wanted.metadata["labels"], rules.APPLIED_GENERATION: str(present.generation)}
    return wanted.with_metadata(labels=labels)


def _availability(source: Resource, deployment: Resource) -> Condition:
    if is_paused(source):
        return happy("Paused", "switched off: the Deployment has no replicas")
    status = deployment.status
    if is_true(status, "Available") and status.get("observedGeneration") == deployment.generation:
        return happy("")
    for name in ("ReplicaFailure", "Progressing", "Available"):
        found = condition_of(status, name)
        if found is not None and (found.status == "True") == (name == "ReplicaFailure"):
            return failed(
                found.reason or "DeploymentUnavailable",
                f"Deployment {deployment.name} is not available: {found.message}",
            )
    return unknown("DeploymentUnavailable", f"Deployment {deployment.name} is not available yet")


RECONCILER = _reconciler(CONTAINER_SOURCE)
LEGACY_RECONCILER = _reconciler(LEGACY_CONTAINER_SOURCE)
