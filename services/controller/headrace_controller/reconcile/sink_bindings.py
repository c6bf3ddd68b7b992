"""SinkBinding: in a cluster, the URL of its sink in the environment of the workloads it selects.

There is no admission webhook: the binding writes a workload after it was created, which starts its
pods again. A Job cannot be changed after that, which its condition says.
"""

from collections.abc import Iterable, Iterator, Sequence

from headrace.domain.sink_variables import SinkVariables
from headrace.resources import sink_binding as rules
from headrace.resources.condition_types import OIDC_IDENTITY_CREATED
from headrace.resources.conditions import Condition, failed, happy, unknown
from headrace.resources.destination import Unresolved
from headrace.resources.kinds import SINK_BINDING
from headrace.resources.pod_template import pod_spec_of
from headrace.resources.resource import Reference, Resource
from headrace.resources.source import SINK_PROVIDED, sink_of
from headrace_controller.reconcile.objects import object_name
from headrace_controller.reconcile.observed_state import FINALIZER
from headrace_controller.reconcile.plan import AddFinalizer, RemoveFinalizer, ReplaceObject
from headrace_controller.reconcile.references import NAMESPACE_KIND, named, ref_of
from headrace_controller.reconcile.registry import KindReconciler, ReconcileRequest
from headrace_controller.reconcile.statuses import (
    OIDC_DISABLED,
    resolve_target,
    set_invalid_status,
    set_status,
)

_JOB = ("batch/v1", "Job")
_NO_CLUSTER = failed(
    "NoWorkloads",
    "only a cluster has workloads that can be bound; here, give the program the URL in"
    " status.sinkUri as K_SINK, or use a ContainerSource",
)
_SHOWN_MAX = 5


def _references(binding: Resource) -> Iterator[Reference]:
    yield from named(binding, ref_of(sink_of(binding)))
    yield _namespace_of(binding)


def _namespace_of(binding: Resource) -> Reference:
    return Reference(*NAMESPACE_KIND, "", binding.namespace)


def _decide(request: ReconcileRequest) -> None:
    binding, conditions = request.resource, request.conditions
    if set_invalid_status(request, rules.CONDITIONS, rules.SINK_BINDING_AVAILABLE):
        return
    in_cluster = request.observed.installation.in_cluster
    if in_cluster and FINALIZER not in binding.finalizers:
        request.draft.add(AddFinalizer(binding))
        return
    found = resolve_target(
        request, sink_of(binding) or {}, "sink", path="spec.sink", reason="NotFound"
    )
    conditions[SINK_PROVIDED] = found.condition
    request.status.update(found.fields)
    conditions[OIDC_IDENTITY_CREATED] = OIDC_DISABLED
    conditions[rules.OIDC_TOKEN_SECRET_CREATED] = OIDC_DISABLED
    conditions[rules.TRUST_BUNDLE_PROPAGATED] = happy("")
    if not in_cluster:
        conditions[rules.SINK_BINDING_AVAILABLE] = _NO_CLUSTER
    elif found.destination is None:
        # What was bound before stays so: a sink that is created again has the same URL.
        _keep_record(request)
        conditions[rules.SINK_BINDING_AVAILABLE] = unknown("NoSink", "there is no sink to bind to")
    else:
        variables = rules.variables_of(
            binding, found.destination.url, found.destination.ca_certs or ""
        )
        conditions[rules.SINK_BINDING_AVAILABLE] = _bind(request, variables)
    set_status(request, rules.CONDITIONS)


def _keep_record(request: ReconcileRequest) -> None:
    recorded = rules.recorded_kinds(request.resource)
    if recorded:
        request.status["annotations"] = {rules.BOUND_KINDS: ",".join(sorted(recorded))}


def _bind(request: ReconcileRequest, variables: SinkVariables) -> Condition:
    """Plan the changes of the workloads, and of those that are selected no longer. Return the
    condition.
    """
    binding, kind = request.resource, rules.kind_of(request.resource)
    try:
        excluded = _is_namespace_excluded(request)
        workloads = request.observed.all_of(*kind, binding.namespace)
        left = [
            each
            for each in _all_bound(request, rules.kinds_of(binding))
            if excluded
            or rules.kind_of(binding) != _kind_of(each)
            or not rules.selects(binding, each)
        ]
    except Unresolved as error:
        _keep_record(request)
        return unknown("SubjectUnknown", str(error))
    recorded = rules.recorded_kinds(binding)
    wanted = {" ".join(kind), *(" ".join(_kind_of(each)) for each in left)}
    request.status["annotations"] = {rules.BOUND_KINDS: ",".join(sorted(wanted))}
    request.draft.add(*(ReplaceObject(rules.unbound(each, binding)) for each in left))
    if excluded:
        return failed(
            "NamespaceExcluded",
            f"namespace {binding.namespace} has the label {rules.EXCLUDE_LABEL}: true; remove it"
            " to bind workloads there",
        )
    subjects = [each for each in workloads if not each.deleting and rules.selects(binding, each)]
    if not subjects:
        return _without_subject(binding, kind)
    if " ".join(kind) not in recorded:
        return unknown("Binding", "the workloads are about to be bound")
    problems = [
        problem for each in subjects if (problem := _bind_one(request, each, variables)) is not None
    ]
    return _worst(problems)


def _is_namespace_excluded(request: ReconcileRequest) -> bool:
    """Whether the label of the namespace says that no workload there is to be changed. Raises
    Unresolved. The Deployment of a ContainerSource is bound by its owner.
    """
    binding, observed = request.resource, request.observed
    if observed.installation.namespaces or _controller_of(binding):
        return False
    found = observed.find(_namespace_of(binding))
    return found is not None and rules.is_excluded(found)


def _bind_one(
    request: ReconcileRequest, workload: Resource, variables: SinkVariables
) -> Condition | None:
    """Plan the change of one workload; what is in the way."""
    binding, name = request.resource, f"{workload.object.get('kind')} {workload.name}"
    if pod_spec_of(workload) is None:
        return failed("UnsupportedSubject", f"{name} has no containers in spec.template.spec")
    if rules.has_variables(workload, variables):
        return None
    if _is_applied_by_owner(binding, workload):
        return unknown("Binding", f"{name} is being changed by its owner")
    others = _other_bindings(request, workload)
    if others:
        return failed(
            "AlreadyBound",
            f"{name} is bound to another sink by SinkBinding {others[0]}; delete one of them",
        )
    if _kind_of(workload) == _JOB:
        return failed(
            "JobNotChangeable",
            f"{name} exists, and the pod template of a Job cannot be changed after that; set K_SINK"
            f"={variables.sink} in the Job itself",
        )
    request.draft.add(ReplaceObject(rules.bound(workload, binding, variables)))
    failure = request.observed.failed_steps.get(object_name(workload))
    if failure is not None:
        return failed("SubjectNotChanged", f"{name} cannot be changed: {failure.message}")
    return unknown("Binding", f"{name} is being changed")


def _other_bindings(request: ReconcileRequest, workload: Resource) -> Sequence[str]:
    """The names of other SinkBindings that exist and have changed the workload."""
    own = request.resource.uid
    existing = {each.uid for each in request.observed.of(SINK_BINDING)}
    return [
        name
        for uid, name in sorted(rules.bindings_of(workload).items())
        if uid != own and uid in existing
    ]


def _is_applied_by_owner(binding: Resource, workload: Resource) -> bool:
    """Whether a ContainerSource owns both: it applies the workload with the sink in it."""
    owner = _controller_of(binding)
    return bool(owner) and owner == _controller_of(workload)


def _controller_of(resource: Resource) -> str:
    for each in resource.metadata.get("ownerReferences") or ():
        if each.get("controller"):
            return str(each.get("uid") or "")
    return ""


def _without_subject(binding: Resource, kind: rules.Kind) -> Condition:
    name = rules.named_subject(binding)
    if name:
        return failed(
            "SubjectMissing",
            f'{kind[1]} "{name}" does not exist in namespace {binding.namespace}, or has the label'
            f" {rules.EXCLUDE_LABEL}: true",
        )
    return happy("NoSubjects", f"no {kind[1]} matches spec.subject.selector yet")


def _worst(problems: Sequence[Condition]) -> Condition:
    if not problems:
        return happy("")
    first = min(problems, key=lambda each: each.status != "False")
    messages = [each.message for each in problems if each.status == first.status]
    more = f"; and {len(messages) - _SHOWN_MAX} more" if len(messages) > _SHOWN_MAX else ""
    return Condition(first.status, first.reason, "; ".join(messages[:_SHOWN_MAX]) + more)


def _kind_of(workload: Resource) -> rules.Kind:
    return str(workload.object.get("apiVersion")), str(workload.object.get("kind"))


def _all_bound(request: ReconcileRequest, kinds: Iterable[rules.Kind]) -> Iterator[Resource]:
    """The workloads that have the annotation of the binding. Raises Unresolved."""
    binding = request.resource
    for kind in sorted(kinds):
        for each in request.observed.all_of(*kind, binding.namespace):
            if rules.is_bound_by(each, binding) and not each.deleting:
                yield each


def _finalize(request: ReconcileRequest) -> None:
    """Undo what was changed in workloads, then let the binding go."""
    binding, draft = request.resource, request.draft
    if FINALIZER not in binding.finalizers:
        return
    try:
        left = list(_all_bound(request, rules.bound_kinds_of(binding)))
    except Unresolved as error:
        draft.wait(str(error))
        return
    if left:
        draft.add(*(ReplaceObject(rules.unbound(each, binding)) for each in left))
        draft.wait(f"the workloads of SinkBinding {binding.namespace}/{binding.name}")
    else:
        draft.add(RemoveFinalizer(binding))


RECONCILER = KindReconciler(
    kind=SINK_BINDING,
    rules=rules.RULES,
    references=_references,
    workloads=rules.kinds_of,
    decide=_decide,
    finalize=_finalize,
)
