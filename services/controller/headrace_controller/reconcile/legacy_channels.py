"""Channel of Knative 0.5: it owns the Channel of today of the same name, and shows its state."""

from collections.abc import Iterable

from headrace.resources import legacy_channel as rules
from headrace.resources.channel_provisioners import (
    ProvisionedTemplate,
    provisioner_name,
    unknown_provisioner,
)
from headrace.resources.condition_types import ADDRESSABLE
from headrace.resources.conditions import READY, Condition, failed, happy, unknown
from headrace.resources.destination import Unresolved
from headrace.resources.kinds import CHANNEL, LEGACY_CHANNEL
from headrace.resources.naming import channel_host
from headrace.resources.resource import Reference, Resource
from headrace_controller.reconcile.objects import (
    condition_from,
    ensure_object,
    named_object,
    owned_object,
    reference_to,
)
from headrace_controller.reconcile.registry import KindReconciler, ReconcileRequest
from headrace_controller.reconcile.statuses import (
    condition_of_problem,
    set_invalid_status,
    set_status,
)


def decide(request: ReconcileRequest) -> None:
    """Plan today's Channel, and a status that shows its state. An invalid Channel is left as it
    was, and its status says why.
    """
    if set_invalid_status(request, rules.CONDITIONS, rules.PROVISIONED):
        return
    channel, conditions = request.resource, request.conditions
    try:
        child = owned_object(request, named_object(CHANNEL, channel.namespace, channel.name))
    except Unresolved as error:
        conditions[rules.PROVISIONED] = unknown("ChannelUnknown", str(error))
        set_status(request, rules.CONDITIONS)
        return
    found = rules.channel_template(channel, request.observed.system)
    if found is None:
        text = unknown_provisioner(provisioner_name(channel.spec))
        fault = failed("UnknownProvisioner", f"spec.provisioner: {text}")
        conditions[rules.PROVISIONER_INSTALLED] = fault
    else:
        conditions[rules.PROVISIONER_INSTALLED] = happy("")
        if child is None:
            conditions[rules.PROVISIONED] = _create(request, found)
        conditions.update(_arguments_condition(channel, child, found))
    if child is not None:
        _show(request, child)
    if rules.has_subscribers(channel):
        conditions[rules.SUBSCRIBERS_USED] = failed(
            "SubscribersNotUsed", rules.SUBSCRIBERS_NOT_USED
        )
    set_status(request, rules.CONDITIONS)


def _create(request: ReconcileRequest, found: ProvisionedTemplate) -> Condition:
    """Plan today's Channel; the condition until it is there."""
    spec = {"channelTemplate": dict(found.template)}
    channel = request.resource
    wanted = named_object(CHANNEL, channel.namespace, channel.name, spec=spec)
    problem = ensure_object(request, wanted)
    return condition_of_problem(problem) if problem else unknown()


def _arguments_condition(
    channel: Resource, child: Resource | None, found: ProvisionedTemplate
) -> dict[str, Condition]:
    """An informational condition, if any of the arguments has no effect. The template of a Channel
    is immutable, and so were the arguments of a channel that existed.
    """
    given = channel.spec.get("provisioner")
    if child is not None and given and child.spec.get("channelTemplate") != found.template:
        text = (
            "spec.arguments were changed after the channel had been made, which has no effect;"
            " delete this Channel and create it again"
        )
        return {rules.ARGUMENTS_APPLIED: failed("ArgumentsChanged", text)}
    if found.unused:
        name, unused = provisioner_name(channel.spec), ", ".join(found.unused)
        text = f"the provisioner {name} has no such arguments: {unused:.1000}"
        return {rules.ARGUMENTS_APPLIED: failed("UnknownArguments", text)}
    return {}


def _show(request: ReconcileRequest, child: Resource) -> None:
    """Show the state and the address of today's Channel."""
    request.conditions[rules.PROVISIONED] = condition_from(child, READY)
    request.conditions[ADDRESSABLE] = condition_from(child, ADDRESSABLE)
    request.status["internal"] = reference_to(child).fields
    address = child.status.get("address")
    if isinstance(address, dict) and address.get("url"):
        domain = request.observed.installation.cluster_domain
        hostname = channel_host(child.namespace, child.name, domain)
        request.status["address"] = {**address, "hostname": hostname}


def _children(channel: Resource) -> Iterable[Reference]:
    return (Reference(CHANNEL.api_version, CHANNEL.kind, channel.namespace, channel.name),)


RECONCILER = KindReconciler(
    kind=LEGACY_CHANNEL,
    rules=rules.RULES,
    children=_children,
    decide=decide,
    owns=(CHANNEL,),
)
