"""The kinds of channels that this controller serves: addressables whose channel is configured in
their own spec. They differ in the backend.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from headrace.domain.backend_name import with_backend
from headrace.resources.broker_config import TopicConfig
from headrace.resources.condition_types import (
    ADDED_TO_CHANNEL,
    CHANNEL_SERVICE_READY,
    CONFIGURATION_READY,
    EVENT_POLICIES_READY,
)
from headrace.resources.conditions import (
    HAPPY,
    Condition,
    ConditionSet,
    ConditionStatus,
    condition_of,
    happy,
)
from headrace.resources.kind_rules import KindRules
from headrace.resources.kinds import SERVICE
from headrace.resources.naming import channel_host, channel_service, channel_topic
from headrace.resources.resource import Reference, Resource, ResourceKind
from headrace_controller.reconcile.addressable import AddressableSpec, reconcile_addressable
from headrace_controller.reconcile.backend import Progress
from headrace_controller.reconcile.channel_lookup import BACKENDS, subscriptions_of
from headrace_controller.reconcile.finalization import finalize
from headrace_controller.reconcile.objects import (
    ensure_object,
    named_object,
    reference_to,
    remove_object,
)
from headrace_controller.reconcile.references import dead_letter_sink_of, named
from headrace_controller.reconcile.registry import KindReconciler, ReconcileRequest
from headrace_controller.reconcile.statuses import (
    EVENT_POLICIES_DISABLED,
    condition_of_problem,
    resolve_dead_letter_sink,
    set_invalid_status,
    set_status,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackingChannel:
    """One kind of channel."""

    kind: ResourceKind
    rules: KindRules
    conditions: ConditionSet
    topic_config: Callable[[Resource], TopicConfig]
    """The settings of a valid channel's topic."""
    topic: Callable[[Resource], str] = lambda _channel: ""
    """The name of the topic that the spec asks for, without the prefix of the backend; empty if it
    asks for none.
    """
    remarks: Callable[[ReconcileRequest], Mapping[str, Condition]] = lambda _request: {}
    """Further conditions, once the others are decided."""

    @property
    def backend(self) -> str:
        """See `headrace.domain.backend_name`."""
        return BACKENDS[self.kind]

    def topic_of(self, channel: Resource) -> str:
        """The preferred topic of a channel."""
        asked = self.topic(channel)
        if asked:
            return with_backend(self.backend, asked)
        return channel_topic(channel.namespace, channel.name, self.backend)

    def reconciler(self) -> KindReconciler:
        """The reconciler of this kind."""
        return KindReconciler(
            kind=self.kind,
            rules=self.rules,
            references=_references,
            children=_children,
            decide=partial(decide, self),
            finalize=finalize_channel,
            owns=(SERVICE,),
        )


def decide(backing: BackingChannel, request: ReconcileRequest) -> None:
    """Plan what a channel needs next, and its status. An invalid one is left as it was, and its
    status says why.
    """
    observed, channel = request.observed, request.resource
    if set_invalid_status(request, backing.conditions, CONFIGURATION_READY):
        return
    request.conditions[CONFIGURATION_READY] = happy("")
    request.conditions[EVENT_POLICIES_READY] = EVENT_POLICIES_DISABLED
    sink = (channel.spec.get("delivery") or {}).get("deadLetterSink")
    resolve_dead_letter_sink(request, sink, "spec.delivery.deadLetterSink")
    service = _ensure_service(request, observed.installation.ingress_of(backing.backend))
    request.conditions[CHANNEL_SERVICE_READY] = service
    host = channel_host(channel.namespace, channel.name, observed.installation.cluster_domain)
    has_name = service == HAPPY
    reconcile_addressable(
        request,
        AddressableSpec(
            topic=backing.topic_of(channel),
            config=backing.topic_config(channel),
            path=f"/{channel.namespace}/{backing.kind.plural}/{channel.name}",
            hosts=(host,),
            url=f"http://{host}" if has_name else None,
        ),
    )
    request.status["subscribers"] = _subscribers(request)
    request.conditions.update(backing.remarks(request))
    set_status(request, backing.conditions)


def finalize_channel(request: ReconcileRequest) -> None:
    """Plan the clean-up: the Service first, then what the channel has in its backend."""
    in_cluster = request.observed.installation.in_cluster
    if not in_cluster or remove_object(request, _service(request.resource)) is Progress.DONE:
        finalize(request)


def _ensure_service(request: ReconcileRequest, ingress_url: str) -> Condition:
    """Plan the Service whose DNS name is the channel's address, in a cluster. The condition is
    `HAPPY` when the name can be used, and has a reason when the address is a path of the ingress.
    """
    if not request.observed.installation.in_cluster:
        return happy("NoClusterDNS", "Without a cluster the address is a path of the ingress.")
    host = _external_name(ingress_url)
    if host is None:
        return happy(
            "NoExternalName",
            f"The address is a path of the ingress: a Service has no name for"
            f" {ingress_url}, only for http, a host name and port 80.",
        )
    spec = {"type": "ExternalName", "externalName": host}
    service = Resource(SERVICE, {**_service(request.resource).object, "spec": spec})
    problem = ensure_object(request, service)
    return condition_of_problem(problem) if problem else HAPPY


def _external_name(ingress_url: str) -> str | None:
    """The host of the ingress, if an ExternalName alone leads to it: a name is all it holds."""
    parts = urlsplit(ingress_url)
    host = parts.hostname or ""
    plain = parts.scheme == "http" and parts.port in (None, 80) and parts.path in ("", "/")
    is_name = not host.rpartition(".")[2].isdecimal() and ":" not in host
    return host if plain and is_name else None


def _service(channel: Resource) -> Resource:
    return named_object(SERVICE, channel.namespace, channel_service(channel.name))


def _subscribers(request: ReconcileRequest) -> list[Mapping[str, Any]]:
    """`status.subscribers`: whether events reach each Subscription."""
    entries = []
    for each in subscriptions_of(request.observed, request.resource):
        added = condition_of(each.status, ADDED_TO_CHANNEL)
        entry: dict[str, Any] = {
            "uid": each.uid,
            "observedGeneration": each.status.get("observedGeneration") or 0,
            "ready": str(added.status if added else ConditionStatus.UNKNOWN),
        }
        if added and added.message:
            entry["message"] = added.message
        entries.append(entry)
    return sorted(entries, key=lambda entry: str(entry["uid"]))


def _references(channel: Resource) -> Iterator[Reference]:
    return named(channel, dead_letter_sink_of(channel))


def _children(channel: Resource) -> Iterable[Reference]:
    return (reference_to(_service(channel)),)
