"""Channels of kinds that another controller serves, by Knative's channelable contract: their CRD
has the label `messaging.knative.dev/subscribable`, `spec.subscribers` lists who gets their events,
and `status.subscribers` which of these do.

A cluster lets this controller read and write the kinds for which it has a role
(`duck.knative.dev/channelable`). Without a cluster the label decides.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from headrace.resources.channelable import SUBSCRIBABLE_LABEL
from headrace.resources.control_ports import KIND_NOT_READ, KIND_NOT_SERVED
from headrace.resources.destination import Unresolved, api_version_of
from headrace.resources.kinds import CHANNEL
from headrace.resources.resource import (
    Reference,
    Resource,
    ResourceKind,
    guess_plural,
    kind_of_reference,
)
from headrace.resources.subscription import channel_namespace
from headrace_controller.reconcile.channel_lookup import (
    backing_channel,
    named_channel,
    served_kind,
)
from headrace_controller.reconcile.objects import is_owned
from headrace_controller.reconcile.observed_state import ObservedState

LABELLED = f'every kind whose CustomResourceDefinition has the label {SUBSCRIBABLE_LABEL}: "true"'
"""The kinds of other controllers, for messages."""
DEFINITION = ("apiextensions.k8s.io/v1", "CustomResourceDefinition")


class NotAChannel(Unresolved):
    """There is no such kind, or it does not follow the contract."""


class NotReadYet(Unresolved):
    """The kind is being read: nothing may be concluded, as after a start of the controller."""


def definition_of(api_version: str, kind: str) -> Reference:
    """The CRD of a kind. Its plural is guessed, as Knative does."""
    group = api_version.rpartition("/")[0]
    return Reference(*DEFINITION, "", f"{guess_plural(kind)}.{group}")


def foreign_kinds(channel: Resource) -> Iterator[ResourceKind]:
    """The kinds of other controllers that may back a Channel: the one that does, by its status, and
    the one that its template names. A default for templates may have changed in between.
    """
    references = (channel.status.get("channel"), channel.spec.get("channelTemplate"))
    kinds = (_kind_of(each) for each in references)
    return iter(dict.fromkeys(each for each in kinds if each is not None))


def foreign_kind(reference: Any) -> ResourceKind | None:
    """The kind that a reference or template names, if another controller may serve it."""
    return None if served_kind(reference) is not None else _kind_of(reference)


def _kind_of(reference: Any) -> ResourceKind | None:
    if not isinstance(reference, Mapping) or served_kind(reference) is not None:
        return None
    api_version, kind = api_version_of(reference), str(reference.get("kind") or "")
    return kind_of_reference(api_version, kind) if "/" in api_version and kind else None


def find_foreign(
    observed: ObservedState, kind: ResourceKind, namespace: str, name: str
) -> Resource | None:
    """The channel; None if there is none. Raises NotAChannel, NotReadYet, and Unresolved if its
    kind cannot be read.
    """
    check_kind(observed, kind)
    return observed.find(Reference(kind.api_version, kind.kind, namespace, name))


def check_kind(observed: ObservedState, kind: ResourceKind) -> None:
    """Raises NotAChannel if the kind is none of channels, and NotReadYet."""
    if observed.installation.in_cluster:
        reason = observed.unreadable.get((kind.api_version, kind.kind))
        if reason == KIND_NOT_SERVED:
            raise NotAChannel(f"{_named(kind)} is not a kind of channel here: {reason}")
        if reason == KIND_NOT_READ:
            raise NotReadYet(f"{_named(kind)} to be read")
        return
    definition = observed.find(definition_of(kind.api_version, kind.kind))
    labels = definition.metadata.get("labels") if definition else None
    if not isinstance(labels, Mapping) or labels.get(SUBSCRIBABLE_LABEL) != "true":
        raise NotAChannel(f"{_named(kind)} is not a kind of channel here")


def _named(kind: ResourceKind) -> str:
    return f"{kind.kind} of {kind.api_version}"


def foreign_backing(observed: ObservedState, channel: Resource) -> Resource | None:
    """The object of such a kind that backs a Channel: it has the Channel's name, and is owned by
    it. Raises as `find_foreign` does.
    """
    for kind in foreign_kinds(channel):
        found = find_foreign(observed, kind, channel.namespace, channel.name)
        if found is not None and is_owned(channel, found):
            return found
    return None


def is_foreign(observed: ObservedState, subscription: Resource) -> bool:
    """Whether the channel of a valid Subscription is of such a kind, whether it exists or not."""
    reference = subscription.spec.get("channel")
    if foreign_kind(reference) is not None:
        return True
    named = named_channel(observed, subscription)
    return (
        named is not None
        and named.kind == CHANNEL
        and backing_channel(observed, named) is None
        and any(foreign_kinds(named))
    )


def foreign_channel_of(observed: ObservedState, subscription: Resource) -> Resource | None:
    """The channel of such a kind that a Subscription reads from; None if it does not exist (yet).
    Raises as `find_foreign` does.
    """
    reference = subscription.spec.get("channel")
    kind = foreign_kind(reference)
    if kind is None:
        named = named_channel(observed, subscription)
        return None if named is None else foreign_backing(observed, named)
    name = str(reference.get("name")) if isinstance(reference, Mapping) else ""
    return find_foreign(observed, kind, channel_namespace(subscription), name)


def definitions(*kinds: ResourceKind | None) -> Iterator[Reference]:
    """The CRDs that must be observed for these kinds; None is skipped."""
    return (definition_of(each.api_version, each.kind) for each in kinds if each is not None)
