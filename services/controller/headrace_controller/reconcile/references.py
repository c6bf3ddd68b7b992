"""Which objects of other kinds the resources refer to: what a reconcile has to be shown beside
them.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from headrace.resources import broker as broker_rules
from headrace.resources import event_type as event_type_rules
from headrace.resources import trigger as trigger_rules
from headrace.resources.broker_defaults import DEFAULTS_CONFIG_MAP
from headrace.resources.destination import api_version_of
from headrace.resources.features import FEATURES_CONFIG_MAP
from headrace.resources.resource import Reference, Resource
from headrace.resources.system_config import SYSTEM_NAMESPACE

SYSTEM_CONFIG_MAPS = (DEFAULTS_CONFIG_MAP, FEATURES_CONFIG_MAP, broker_rules.DEFAULT_CONFIG["name"])
"""ConfigMaps that say something about all resources."""


def references(
    brokers: Iterable[Resource],
    triggers: Iterable[Resource],
    event_types: Iterable[Resource] = (),
    *,
    services: bool = True,
) -> set[Reference]:
    """Every object that is named in a destination, a config, a dependency or an EventType, and the
    system's ConfigMaps.

    `services` is False where Services have DNS names and nobody needs to look at them.
    """
    found = {Reference("v1", "ConfigMap", SYSTEM_NAMESPACE, name) for name in SYSTEM_CONFIG_MAPS}
    for broker in brokers:
        found.update(
            _named(broker, broker.spec.get("config") or broker_rules.DEFAULT_CONFIG, _sink(broker))
        )
    for trigger in triggers:
        found.update(
            _named(
                trigger, _ref(trigger.spec.get("subscriber")), _sink(trigger), _dependency(trigger)
            )
        )
    for event_type in event_types:
        found.update(_named(event_type, event_type_rules.reference_of(event_type)))
    return (
        found
        if services
        else {each for each in found if (each.api_version, each.kind) != ("v1", "Service")}
    )


def _named(owner: Resource, *refs: Any) -> Iterator[Reference]:
    for ref in refs:
        if isinstance(ref, Mapping) and ref.get("kind") and ref.get("name"):
            yield Reference(
                api_version_of(ref),
                str(ref["kind"]),
                str(ref.get("namespace") or owner.namespace),
                str(ref["name"]),
            )


def _ref(destination: Any) -> Any:
    return destination.get("ref") if isinstance(destination, Mapping) else None


def _sink(owner: Resource) -> Any:
    block = owner.spec.get("delivery")
    return _ref(block.get("deadLetterSink")) if isinstance(block, Mapping) else None


def _dependency(trigger: Resource) -> Any:
    try:
        return trigger_rules.dependency_of(trigger)
    except ValueError:
        return None
