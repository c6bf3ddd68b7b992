"""Which Triggers and Subscriptions get events of a type: those of the addressable that the
EventType refers to, as far as their filters let the type through.

An EventType that was created from replies refers to the Trigger or the Subscription, and its events
go where the replies go.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from headrace.domain import filters
from headrace.domain.filter_possibility import Possibility, Verdict, possibility
from headrace.resources import event_type as rules
from headrace.resources import trigger as trigger_rules
from headrace.resources.destination import api_version_of
from headrace.resources.kinds import BROKER, CHANNEL, SUBSCRIPTION, TRIGGER
from headrace.resources.resource import Resource
from headrace_controller.reconcile.channel_lookup import (
    backing_channel,
    channel_of,
    served_kind,
    subscriptions_of,
)
from headrace_controller.reconcile.observed_state import ObservedState
from headrace_controller.reconcile.references import ref_of

LISTED_MAX = 20
"""Receivers in a status."""
DEPENDS_ON_MAX = 8
"""Attributes listed for one receiver."""
_CACHED_FILTERS_MAX, _CACHED_RESULTS_MAX = 2_048, 4_096


class _Candidate(NamedTuple):
    """A subscription of the addressable, in the order of the status."""

    namespace: str
    kind: str
    name: str
    filters: str
    """As JSON, the key of the cache."""


def receiver_fields(observed: ObservedState, event_type: Resource) -> Mapping[str, Any]:
    """The fields of the status; empty if it is not known who reads what the EventType refers to."""
    addressable = addressable_of(observed, event_type)
    if addressable is None:
        return {}
    known = rules.known_attributes(event_type)
    candidates = observed.derived(_candidates).get(addressable.uid, ())
    found = _receivers(tuple(sorted(known.items())), candidates)
    fields: dict[str, Any] = {"receiverCount": len(found)}
    if found:
        fields["receivers"] = [
            _shown(candidate, verdict, event_type.namespace)
            for candidate, verdict in found[:LISTED_MAX]
        ]
    if len(found) > LISTED_MAX:
        fields["receiversOmitted"] = len(found) - LISTED_MAX
    return fields


def addressable_of(observed: ObservedState, event_type: Resource) -> Resource | None:
    """The Broker or channel through which events of the type pass, the channel behind a Channel
    included; None if that is not known.
    """
    ref = rules.reference_of(event_type)
    if ref is None:
        return None
    namespace = str(ref.get("namespace") or event_type.namespace)
    return _addressable(observed, ref, namespace)


def _addressable(
    observed: ObservedState, ref: Mapping[str, Any], namespace: str
) -> Resource | None:
    group, name = api_version_of(ref).rpartition("/")[0], str(ref.get("name"))
    match group, ref.get("kind"):
        case BROKER.group, BROKER.kind:
            return observed.get(BROKER, namespace, name)
        case TRIGGER.group, TRIGGER.kind:
            trigger = observed.get(TRIGGER, namespace, name)
            return _broker_of(observed, trigger) if trigger else None
        case SUBSCRIPTION.group, SUBSCRIPTION.kind:
            subscription = observed.get(SUBSCRIPTION, namespace, name)
            reply = ref_of(subscription.spec.get("reply")) if subscription else None
            if not isinstance(reply, Mapping) or reply.get("kind") == SUBSCRIPTION.kind:
                return None
            return _addressable(observed, reply, str(reply.get("namespace") or namespace))
    kind = served_kind(ref)
    channel = observed.get(kind, namespace, name) if kind else None
    if channel is not None and channel.kind == CHANNEL:
        return backing_channel(observed, channel)
    return channel


def _broker_of(observed: ObservedState, trigger: Resource) -> Resource | None:
    return observed.get(
        BROKER, trigger_rules.broker_namespace(trigger), trigger_rules.broker_name(trigger)
    )


def _candidates(observed: ObservedState) -> Mapping[str, tuple[_Candidate, ...]]:
    """The subscriptions of each addressable, by its uid."""
    found: dict[str, list[_Candidate]] = defaultdict(list)
    for trigger in observed.of(TRIGGER):
        broker = _broker_of(observed, trigger)
        if broker is None or trigger.deleting or trigger.uid in observed.validation_errors:
            continue
        text = json.dumps(trigger_rules.filters_of(trigger), sort_keys=True)
        found[broker.uid].append(_Candidate(trigger.namespace, TRIGGER.kind, trigger.name, text))
    channels = {
        channel.uid for each in observed.of(SUBSCRIPTION) if (channel := channel_of(observed, each))
    }
    by_uid = {each.uid: each for each in observed.all() if each.uid in channels}
    for uid, channel in by_uid.items():
        found[uid] = [
            _Candidate(each.namespace, SUBSCRIPTION.kind, each.name, "[]")
            for each in subscriptions_of(observed, channel)
        ]
    return {uid: tuple(sorted(each)) for uid, each in found.items()}


@lru_cache(maxsize=_CACHED_RESULTS_MAX)
def _receivers(
    known: tuple[tuple[str, str], ...], candidates: tuple[_Candidate, ...]
) -> Sequence[tuple[_Candidate, Possibility]]:
    """The candidates that the type may pass. Every reconcile asks for every EventType; filters are
    evaluated only when something has changed.
    """
    attributes = dict(known)
    found = []
    for each in candidates:
        compiled = _compiled(each.filters)
        verdict = possibility(compiled, attributes) if compiled is not None else None
        if verdict is not None and verdict.verdict is not Verdict.NO:
            found.append((each, verdict))
    return found


@lru_cache(maxsize=_CACHED_FILTERS_MAX)
def _compiled(text: str) -> filters.Filter | None:
    try:
        return filters.compile(json.loads(text))
    except filters.InvalidFilter:
        return None


def _shown(candidate: _Candidate, found: Possibility, namespace: str) -> dict[str, Any]:
    shown: dict[str, Any] = {"kind": candidate.kind, "name": candidate.name}
    if candidate.namespace != namespace:
        shown["namespace"] = candidate.namespace
    shown["match"] = str(found.verdict)
    if found.depends_on:
        shown["dependsOn"] = list(found.depends_on[:DEPENDS_ON_MAX])
    return shown
