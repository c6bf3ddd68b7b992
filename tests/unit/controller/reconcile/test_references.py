"""What a reconcile asks to be shown: everything that resources refer to, and the ConfigMaps that
concern all of them.
"""

from collections.abc import Sequence
from typing import Any

from headrace.resources.kinds import BROKER, EVENT_TYPE, TRIGGER
from headrace.resources.resource import Reference, Resource
from headrace_controller.reconcile.kinds import RECONCILERS
from headrace_controller.reconcile.references import SYSTEM_REFERENCES
from tests.unit.controller.harness import NAMESPACE, broker, manifest, trigger

SYSTEM = {
    Reference("v1", "ConfigMap", "knative-eventing", name)
    for name in (
        "config-br-defaults",
        "config-features",
        "default-ch-webhook",
        "kafka-broker-config",
    )
}
SERVICE = {"apiVersion": "v1", "kind": "Service", "name": "sink"}
CHANNEL = {"group": "messaging.knative.dev", "kind": "Channel", "name": "c", "namespace": "other"}


def references(
    brokers: Sequence[Resource],
    triggers: Sequence[Resource],
    event_types: Sequence[Resource] = (),
    *,
    services: bool = True,
) -> frozenset[Reference]:
    """Everything that a reconcile of these resources is shown."""
    resources = {BROKER: brokers, TRIGGER: triggers, EVENT_TYPE: event_types}
    return SYSTEM_REFERENCES | RECONCILERS.references(resources, in_cluster=not services)


def test_the_systems_config_maps_are_always_looked_at() -> None:
    """Also where there is nothing else."""
    assert SYSTEM == references((), ())


def test_every_reference_is_looked_up() -> None:
    """Of destinations, configs, dependencies and EventTypes, in the owner's namespace unless they
    say another; by group too.
    """
    named = {"apiVersion": "v1", "kind": "ConfigMap", "name": "own"}
    dependency = {"knative.dev/dependency": '{"apiVersion": "a/v1", "kind": "Thing", "name": "d"}'}
    found = references(
        [broker(spec={"config": named, "delivery": {"deadLetterSink": {"ref": CHANNEL}}})],
        [trigger(spec={"subscriber": {"ref": SERVICE}}, annotations=dependency)],
        [manifest(EVENT_TYPE, "e", spec={"type": "t", "broker": "b"})],
    )
    assert (
        SYSTEM
        | {
            Reference("v1", "ConfigMap", NAMESPACE, "own"),
            Reference("messaging.knative.dev/v1", "Channel", "other", "c"),
            Reference("v1", "Service", NAMESPACE, "sink"),
            Reference("a/v1", "Thing", NAMESPACE, "d"),
            Reference("eventing.knative.dev/v1", "Broker", NAMESPACE, "b"),
        }
        == found
    )


def test_services_are_not_looked_at_where_they_have_names() -> None:
    """A cluster's controller needs no right to read them."""
    assert SYSTEM == references(
        (), [trigger(spec={"subscriber": {"ref": SERVICE}})], services=False
    )


def test_references_of_any_shape_are_survived() -> None:
    """An object that nobody admitted may have anything in their place."""
    values: list[Any] = [None, 5, "x", [], {"kind": 5, "name": ""}]
    odd = [
        trigger(
            spec={"subscriber": value, "delivery": value},
            annotations={"knative.dev/dependency": "["},
        )
        for value in values
    ]
    odd += [
        trigger(spec={"subscriber": {"ref": value}, "delivery": {"deadLetterSink": value}})
        for value in values
    ]
    assert SYSTEM == references(
        [broker(spec={"config": "x"})], odd, [manifest(EVENT_TYPE, "e", spec={"reference": 5})]
    )
