"""ClusterChannelProvisioner: those of this installation are always there, and Ready."""

from headrace.resources import cluster_channel_provisioner as rules
from headrace.resources.channel_provisioners import PROVISIONERS, unknown_provisioner
from headrace.resources.conditions import failed, happy
from headrace.resources.kinds import CLUSTER_CHANNEL_PROVISIONER
from headrace_controller.reconcile.observed_state import ObservedState
from headrace_controller.reconcile.plan import CreateObject, Draft
from headrace_controller.reconcile.registry import KindReconciler, ReconcileRequest
from headrace_controller.reconcile.statuses import set_invalid_status, set_status


def decide(request: ReconcileRequest) -> None:
    """Plan a provisioner's status."""
    if set_invalid_status(request, rules.CONDITIONS, rules.PROVISIONER_KNOWN):
        return
    name = request.resource.name
    request.conditions[rules.PROVISIONER_KNOWN] = (
        happy("")
        if name in PROVISIONERS
        else failed("UnknownProvisioner", unknown_provisioner(name))
    )
    set_status(request, rules.CONDITIONS)


def create_missing(observed: ObservedState, draft: Draft) -> None:
    """Plan the provisioners that do not exist, such as one that a user has deleted."""
    existing = {each.name for each in observed.of(CLUSTER_CHANNEL_PROVISIONER)}
    draft.add(*(CreateObject(each) for each in rules.built_in() if each.name not in existing))


RECONCILER = KindReconciler(
    kind=CLUSTER_CHANNEL_PROVISIONER,
    rules=rules.RULES,
    decide=decide,
    decide_all=create_missing,
    creates=(CLUSTER_CHANNEL_PROVISIONER,),
)
