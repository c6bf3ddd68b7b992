"""The routing table of a process that serves only some backends."""

from dataclasses import replace

import pytest

from headrace.domain.backend_name import (
    IN_MEMORY,
    JETSTREAM,
    KAFKA,
    backend_of,
    with_backend,
    without_backend,
)
from headrace.domain.routing import (
    Addressable,
    Delays,
    DelayTier,
    Destination,
    Subscription,
    delays_key,
    route_key,
)
from headrace.domain.routing import RoutingTable as Table

ORDERS = Addressable(
    uid="a",
    generation=1,
    epoch=1,
    namespace="default",
    name="orders",
    topic="in-memory:channel.default.orders",
    paths=("/default/inmemorychannels/orders",),
    hosts=("orders-kn-channel.default.svc.cluster.local",),
)
BILLING = Subscription(
    uid="s",
    generation=1,
    epoch=1,
    namespace="default",
    name="billing",
    topic=ORDERS.topic,
    group="in-memory:subscription.default.orders.s",
    retry_topic="in-memory:subscription.default.orders.s.retry",
    dead_topic="in-memory:subscription.default.orders.s.dead",
    subscriber=Destination(url="http://127.0.0.1:9000/"),
)


def delays(backend: str) -> Delays:
    """The delay topics of a backend."""
    tier = DelayTier(seconds=10, topic=with_backend(backend, "headrace.delay.10s"))
    group = with_backend(backend, "headrace.delay")
    return Delays(generation=1, epoch=1, group=group, tiers=(tier,))


def table(*backends: str) -> Table:
    """A table with routes of Kafka and of the in-memory backend."""
    found = Table(backends or None)
    kafka = replace(ORDERS, uid="k", topic="knative-messaging-kafka.default.k", paths=("/k",))
    for route in (ORDERS, BILLING, kafka, delays(KAFKA), delays(IN_MEMORY)):
        found.apply(route_key(route), route)
    return found


@pytest.mark.parametrize(
    ("name", "backend"),
    [("orders", KAFKA), ("in-memory:orders", IN_MEMORY), ("jetstream:a.b-c", JETSTREAM)],
)
def test_the_prefix_of_a_name_says_its_backend(name: str, backend: str) -> None:
    assert backend == backend_of(name)
    assert name == with_backend(backend, without_backend(name))


def test_routes_of_other_backends_are_absent() -> None:
    kafka, memory = table(KAFKA), table(IN_MEMORY)

    assert kafka.addressable("/default/inmemorychannels/orders", "") is None
    assert kafka.addressable("/x", ORDERS.hosts[0]) is not None  # of the channel in Kafka
    assert [] == list(kafka.subscriptions())
    assert memory.addressable("/k", "") is None
    assert [BILLING] == list(memory.subscriptions())
    assert [ORDERS] == list(memory.addressables())


def test_a_route_that_moves_to_another_backend_is_removed() -> None:
    served = table(IN_MEMORY)
    moved = replace(ORDERS, topic="knative-messaging-kafka.default.orders", generation=2)

    assert served.apply(route_key(moved), moved)

    assert served.addressable("/default/inmemorychannels/orders", "") is None


def test_every_backend_has_its_own_delay_topics() -> None:
    everything = table()

    assert delays(KAFKA) == everything.delays()
    assert delays(IN_MEMORY) == everything.delays(IN_MEMORY)
    assert everything.delays(JETSTREAM) is None
    assert {"delays", "delays/in-memory"} == {
        delays_key(each.backend) for each in everything.all_delays()
    }
    assert table(KAFKA).delays(IN_MEMORY) is None
