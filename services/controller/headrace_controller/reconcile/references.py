"""Which objects of other kinds the resources refer to: what a reconcile has to be shown beside them."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from headrace.domain import broker as broker_rules
from headrace.domain import trigger as trigger_rules
from headrace.domain.resources import Reference, Resource

SYSTEM_NAMESPACE = "knative-eventing"
SYSTEM_CONFIG_MAPS = ("config-br-defaults", "config-features", "kafka-broker-config")
"""ConfigMaps that say something about all resources."""


def references(brokers: Iterable[Resource], triggers: Iterable[Resource]) -> set[Reference]:
    """Every object that is named in a destination, a config or a dependency, and the system's ConfigMaps."""
    found = {Reference("v1", "ConfigMap", SYSTEM_NAMESPACE, name) for name in SYSTEM_CONFIG_MAPS}
    for broker in brokers:
        found.update(_named(broker, broker.spec.get("config") or broker_rules.DEFAULT_CONFIG, _sink(broker)))
    for trigger in triggers:
        found.update(_named(trigger, _ref(trigger.spec.get("subscriber")), _sink(trigger), _dependency(trigger)))
    return found


def _named(owner: Resource, *refs: Any) -> Iterator[Reference]:
    for ref in refs:
        if isinstance(ref, Mapping) and ref.get("kind") and ref.get("name"):
            yield Reference(
                str(ref.get("apiVersion") or ""), str(ref["kind"]), str(ref.get("namespace") or owner.namespace), str(ref["name"])
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
