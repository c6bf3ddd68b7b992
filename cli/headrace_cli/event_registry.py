"""Who receives a type of events, and which types a subscription receives: computed from EventTypes,
Triggers and Subscriptions as the API lists them.

The status of an EventType has the first of these too, for one EventType and up to a limit.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.domain import filters
from headrace.domain.filter_possibility import Possibility, Verdict, possibility
from headrace.resources import event_type as rules
from headrace.resources import trigger as trigger_rules
from headrace.resources.destination import api_version_of
from headrace.resources.kinds import BROKER, EVENT_TYPE, SUBSCRIPTION, TRIGGER
from headrace.resources.resource import Resource

_CHANNEL = "Channel"


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A Broker or channel. A Channel and the object of its name that backs it are one place."""

    namespace: str
    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True, order=True)
class ReadObject:
    """What a Trigger or Subscription refers to: the object that it reads events from. The version
    is left out, because objects are looked up by group.
    """

    group: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Receiver:
    """A Trigger or Subscription, and whether its filter lets the events through."""

    kind: str
    name: str
    found: Possibility
    reads: ReadObject

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Registry:
    """The objects of one namespace, or of all."""

    event_types: Sequence[Resource]
    triggers: Sequence[Resource]
    subscriptions: Sequence[Resource]

    def read_objects(self) -> set[ReadObject]:
        """What the Triggers and Subscriptions read from, whether it exists or not."""
        found = {broker_of(each) for each in self.triggers}
        return found | {channel_of(each) for each in self.subscriptions}

    def place_of(self, event_type: Resource) -> Place | None:
        """Where events of the type are; None if it is not said, or not known here."""
        ref = rules.reference_of(event_type)
        if ref is None:
            return None
        kind, name = str(ref.get("kind")), str(ref.get("name"))
        namespace = str(ref.get("namespace") or event_type.namespace)
        match kind:
            case TRIGGER.kind:
                found = _named(self.triggers, namespace, name)
                return place_of_trigger(found) if found else None
            case SUBSCRIPTION.kind:
                found = _named(self.subscriptions, namespace, name)
                reply = found.spec.get("reply") if found else None
                ref = reply.get("ref") if isinstance(reply, Mapping) else None
                return _place(ref, namespace) if isinstance(ref, Mapping) else None
        return _place(ref, namespace)

    def places(self) -> list[Place]:
        """Every place that is read from."""
        found = {place_of_trigger(each) for each in self.triggers}
        return sorted(found | {place_of_subscription(each) for each in self.subscriptions})

    def receivers(self, place: Place, known: Mapping[str, str]) -> Iterator[Receiver]:
        """The subscriptions of a place that get, or may get, events with these attributes, if what
        they read from exists.
        """
        for trigger in self.triggers:
            if place_of_trigger(trigger) == place:
                found = what_passes(trigger, known)
                if found.verdict is not Verdict.NO:
                    yield Receiver(TRIGGER.kind, trigger.name, found, broker_of(trigger))
        for subscription in self.subscriptions:
            if place_of_subscription(subscription) == place:
                yield Receiver(
                    SUBSCRIPTION.kind,
                    subscription.name,
                    Possibility(Verdict.YES),
                    channel_of(subscription),
                )

    def types_at(self, place: Place) -> list[Resource]:
        """The EventTypes of a place."""
        return [each for each in self.event_types if self.place_of(each) == place]


def what_passes(trigger: Resource, known: Mapping[str, str]) -> Possibility:
    """Whether events with these attributes pass a Trigger's filters; those of an invalid Trigger
    let nothing through.
    """
    try:
        compiled = filters.compile(trigger_rules.filters_of(trigger))
    except filters.InvalidFilter:
        return Possibility(Verdict.NO)
    return possibility(compiled, known)


def broker_of(trigger: Resource) -> ReadObject:
    """The Broker that a Trigger reads from."""
    return ReadObject(
        BROKER.group,
        BROKER.kind,
        trigger_rules.broker_namespace(trigger),
        trigger_rules.broker_name(trigger),
    )


def channel_of(subscription: Resource) -> ReadObject:
    """The channel that a Subscription reads from."""
    ref = _channel_ref(subscription)
    return ReadObject(
        api_version_of(ref).rpartition("/")[0],
        str(ref.get("kind")),
        str(ref.get("namespace") or subscription.namespace),
        str(ref.get("name")),
    )


def place_of_trigger(trigger: Resource) -> Place:
    """The place of the Broker that a Trigger reads from."""
    found = broker_of(trigger)
    return Place(found.namespace, found.kind, found.name)


def place_of_subscription(subscription: Resource) -> Place:
    """The place of the channel that a Subscription reads from."""
    return _place(_channel_ref(subscription), subscription.namespace)


def _channel_ref(subscription: Resource) -> Mapping[str, Any]:
    ref = subscription.spec.get("channel")
    return ref if isinstance(ref, Mapping) else {}


def _place(ref: Mapping[str, Any], namespace: str) -> Place:
    kind = str(ref.get("kind"))
    return Place(
        str(ref.get("namespace") or namespace),
        _CHANNEL if kind.endswith(_CHANNEL) else kind,
        str(ref.get("name")),
    )


def _named(resources: Sequence[Resource], namespace: str, name: str) -> Resource | None:
    return next(
        (each for each in resources if (each.namespace, each.name) == (namespace, name)), None
    )


def origin_of(event_type: Resource) -> str:
    """Who described the type: a user, the controller for traffic, or the controller for a
    source.
    """
    if rules.is_auto_created(event_type):
        return "traffic"
    owners = event_type.metadata.get("ownerReferences")
    first = owners[0] if isinstance(owners, list) and owners else None
    return f"{first.get('kind')} {first.get('name')}" if isinstance(first, dict) else "manifest"


KINDS = (EVENT_TYPE, TRIGGER, SUBSCRIPTION)
"""What has to be listed, in the order of the fields of `Registry`."""
