"""EventTypes of a source follow what it sends, and where."""

from collections.abc import Mapping, Sequence
from typing import Any

from headrace.resources.kinds import EVENT_TYPE, KAFKA_SOURCE
from headrace.resources.resource import Resource
from tests.unit.controller.harness import NAMESPACE, ControllerHarness, broker, manifest, settled

ORIGIN = f"/apis/v1/namespaces/{NAMESPACE}/kafkasources/orders"


def kafka_source(topics: Sequence[str], sink: Mapping[str, Any]) -> Resource:
    """A source with an event type for each topic."""
    spec = {"bootstrapServers": ["kafka:9092"], "topics": list(topics), "sink": sink}
    return manifest(KAFKA_SOURCE, "orders", spec=spec)


def to_broker(name: str) -> Mapping[str, Any]:
    """A Broker as sink."""
    return {"ref": {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": name}}


async def harness_with(*more: Resource) -> ControllerHarness:
    """An installation with two Brokers and a source of two topics."""
    source = kafka_source(["paid", "sent"], to_broker("default"))
    services = ("ingress", "dispatcher", "sources")
    return await settled(broker(), broker("other"), *more, source, services=services)


def found(harness: ControllerHarness) -> set[tuple[str, str]]:
    """Source and Broker of the EventTypes that exist."""
    types = harness.store.list(EVENT_TYPE, NAMESPACE)
    return {(each.spec["source"], each.spec["reference"]["name"]) for each in types}


async def test_a_type_that_is_no_longer_sent_is_gone() -> None:
    """And one that is sent to another Broker refers to that one."""
    harness = await harness_with()
    paid, sent = f"{ORIGIN}#paid", f"{ORIGIN}#sent"
    assert found(harness) == {(paid, "default"), (sent, "default")}
    await harness.apply(kafka_source(["sent"], to_broker("other")))
    await harness.settle()
    assert found(harness) == {(sent, "other")}
    assert await harness.resync() == []
    await harness.apply(kafka_source(["sent"], {"uri": "http://orders.example/"}))
    await harness.settle()
    assert found(harness) == set()


async def test_an_event_type_has_no_field_of_a_sink_that_it_does_not_know() -> None:
    """A sink may have an address and a group; the schema of an EventType has neither, and a
    Kubernetes API server refuses the whole object for it.
    """
    sink = to_broker("default")
    source = kafka_source(["paid"], {"ref": {**sink["ref"], "address": "http"}})
    harness = await settled(broker(), source, services=("ingress", "dispatcher", "sources"))
    (made,) = harness.store.list(EVENT_TYPE, NAMESPACE)
    assert set(made.spec["reference"]) <= {"apiVersion", "kind", "name", "namespace"}
    assert sink["ref"].items() <= made.spec["reference"].items()


async def test_an_event_type_of_a_user_is_left_alone() -> None:
    """Although it has the name that the controller would give."""
    made = (await harness_with()).store.list(EVENT_TYPE, NAMESPACE)
    name = next(each.name for each in made if each.spec["source"].endswith("#paid"))
    reference = {**to_broker("default")["ref"], "namespace": NAMESPACE}
    spec = {"type": "com.example.other", "source": "/users", "reference": reference}
    harness = await harness_with(manifest(EVENT_TYPE, name, spec=spec))
    assert found(harness) == {("/users", "default"), (f"{ORIGIN}#sent", "default")}
    await harness.apply(kafka_source(["new"], to_broker("default")))
    await harness.settle()
    assert found(harness) == {("/users", "default"), (f"{ORIGIN}#new", "default")}
