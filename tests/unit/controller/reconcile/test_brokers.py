"""Brokers, line by line as Knative has them, and what the ConfigMaps of the installation do to
them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from headrace.adapters.memory.admin import MemoryTopicAdmin
from headrace.domain.errors import WriteRefused
from headrace.resources.kinds import BROKER, CONFIG_MAP, TRIGGER
from headrace.resources.resource import Resource
from tests.unit.controller.harness import (
    NAMESPACE,
    ControllerHarness,
    broker,
    config_map,
    manifest,
    trigger,
)

TRUE, FALSE = "True", "False"
SYSTEM = "knative-eventing"
CLASS = "eventing.knative.dev/broker.class"
CONDITIONS = [
    "Addressable",
    "ConfigMapUpdated",
    "ConfigParsed",
    "DataPlaneAvailable",
    "DeadLetterSinkResolved",
    "EventPoliciesReady",
    "ProbeSucceeded",
    "Ready",
    "TopicReady",
]
OWN = {"apiVersion": "v1", "kind": "ConfigMap", "name": "own", "namespace": NAMESPACE}
NOWHERE = {"ref": {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": "nowhere"}}


@dataclass(frozen=True)
class Line:
    """One line: what there is, which condition of the Broker says what."""

    name: str
    condition: str
    status: str
    reason: str = ""
    message: str = ""
    spec: Mapping[str, Any] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    there: tuple[Resource, ...] = ()
    services: tuple[str, ...] = ("ingress", "dispatcher")


LINES = [
    Line("all is well", "Ready", TRUE),
    Line("an address", "Addressable", TRUE),
    Line(
        "no dead letter sink",
        "DeadLetterSinkResolved",
        TRUE,
        "DeadLetterSinkNotConfigured",
        "No dead letter sink is configured.",
    ),
    Line(
        "a dead letter sink",
        "DeadLetterSinkResolved",
        TRUE,
        spec={"delivery": {"deadLetterSink": {"uri": "http://d/"}}},
    ),
    Line(
        "a lost dead letter sink",
        "DeadLetterSinkResolved",
        FALSE,
        "Unable to get the dead letter sink's URI",
        'brokers.eventing.knative.dev "nowhere" not found',
        {"delivery": {"deadLetterSink": NOWHERE}},
    ),
    Line(
        "a lost dead letter sink, not Ready",
        "Ready",
        FALSE,
        "Unable to get the dead letter sink's URI",
        "",
        {"delivery": {"deadLetterSink": NOWHERE}},
    ),
    Line(
        "no policies",
        "EventPoliciesReady",
        TRUE,
        "OIDCDisabled",
        'Feature "authentication-oidc" must be enabled to support Authorization',
    ),
    Line("the default ConfigMap need not be there", "ConfigParsed", TRUE),
    Line(
        "a ConfigMap that is named must",
        "ConfigParsed",
        FALSE,
        "InvalidConfiguration",
        f'configmap "own" not found in namespace "{NAMESPACE}"',
        {"config": OWN},
    ),
    Line(
        "a ConfigMap",
        "ConfigParsed",
        TRUE,
        spec={"config": OWN},
        there=(config_map("own", {"default.topic.partitions": "3"}),),
    ),
    Line(
        "a ConfigMap with a misspelt key",
        "ConfigParsed",
        TRUE,
        "KeysNotUsed",
        "unknown keys: default.topic.partition (did you mean default.topic.partitions?)",
        {"config": OWN},
        there=(config_map("own", {"default.topic.partition": "3"}),),
    ),
    Line(
        "a ConfigMap that makes no sense",
        "ConfigParsed",
        FALSE,
        "InvalidConfiguration",
        "default.topic.partitions",
        {"config": OWN},
        there=(config_map("own", {"default.topic.partitions": "many"}),),
    ),
    Line(
        "an external topic that is not there",
        "TopicReady",
        FALSE,
        "TopicNotPresent",
        "external topic orders",
        annotations={"kafka.eventing.knative.dev/external.topic": "orders"},
    ),
    Line(
        "no ingress",
        "DataPlaneAvailable",
        FALSE,
        "NoIngress",
        "start one",
        services=("dispatcher",),
    ),
]


@pytest.mark.clause("B3", "X2", "X3", "X4", "X5")
@pytest.mark.parametrize("line", LINES, ids=lambda line: line.name)
async def test_each_situation_shows_what_knative_shows(line: Line) -> None:
    """Condition, status, reason and message; not True always says why."""
    harness = ControllerHarness(services=line.services)
    await harness.restart()
    await harness.apply(
        *line.there, broker(spec=dict(line.spec), annotations=dict(line.annotations))
    )
    await harness.settle()
    assert (line.status, line.reason) == harness.condition(BROKER, "default", line.condition)
    assert line.message in harness.message(BROKER, "default", line.condition)
    conditions = harness.status(BROKER, "default")["conditions"]
    assert CONDITIONS == [each["type"] for each in conditions]
    assert (
        FALSE not in {each["status"] for each in conditions}
        or FALSE == harness.condition(BROKER, "default")[0]
    )
    assert all(each.get("reason") for each in conditions if each["status"] == FALSE)


@pytest.mark.clause("B1", "B3")
async def test_a_ready_broker_shows_its_address_and_sink() -> None:
    """`status.address.url` and `status.deadLetterSinkUri`, with the generation they are about."""
    harness = ControllerHarness()
    await harness.restart()
    await harness.apply(broker(spec={"delivery": {"deadLetterSink": {"uri": "http://d/"}}}))
    await harness.settle()
    status = harness.status(BROKER, "default")
    assert {
        "name": "http",
        "url": f"http://127.0.0.1:8080/{NAMESPACE}/default",
        "hostname": f"default-broker.{NAMESPACE}.svc.cluster.local",
    } == status["address"]
    assert ("http://d/", 1) == (status["deadLetterSinkUri"], status["observedGeneration"])


@pytest.mark.clause("B1")
async def test_the_address_stays_while_events_are_taken_there() -> None:
    """A ConfigMap that is broken, or gone, makes the Broker not Ready and says why; it keeps
    working as before, and so does what refers to it.
    """
    harness = ControllerHarness()
    await harness.restart()
    own = config_map("own", {"default.topic.partitions": "3"})
    sink = {"ref": {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": "default"}}
    await harness.apply(
        own, broker(spec={"config": OWN}), trigger(spec={"delivery": {"deadLetterSink": sink}})
    )
    await harness.settle()
    address, routes = harness.status(BROKER, "default")["address"], harness.routes()
    await harness.apply(config_map("own", {"default.topic.partitions": "many"}))
    await harness.settle()
    assert (FALSE, "InvalidConfiguration") == harness.condition(BROKER, "default")
    assert "default.topic.partitions" in harness.message(BROKER, "default", "Ready")
    assert (address, routes) == (harness.status(BROKER, "default").get("address"), harness.routes())
    await harness.delete(CONFIG_MAP, "own")
    await harness.settle()
    assert (FALSE, "InvalidConfiguration") == harness.condition(BROKER, "default")
    assert (address, routes) == (harness.status(BROKER, "default").get("address"), harness.routes())
    assert [TRUE] * 3 == [
        harness.condition(BROKER, "default", name)[0]
        for name in ("Addressable", "ConfigMapUpdated", "DataPlaneAvailable")
    ]
    assert TRUE == harness.condition(TRIGGER, "orders", "DeadLetterSinkResolved")[0]
    await harness.apply(own)
    await harness.settle()
    assert (TRUE, "") == harness.condition(BROKER, "default")


class Strict(MemoryTopicAdmin):
    """Takes numbers only."""

    async def alter(self, topic: str, settings: Mapping[str, str]) -> None:
        """As `TopicAdmin.alter`."""
        if not all(value.isdecimal() for value in settings.values()):
            raise WriteRefused(f"topic {topic}: Not a number of type LONG")
        await super().alter(topic, settings)


async def test_the_address_stays_while_kafka_refuses_a_setting() -> None:
    """A topic setting that Kafka does not take is shown in `TopicReady`; the topic is as good as
    before.
    """
    harness = ControllerHarness(admin=Strict(brokers=3))
    await harness.restart()
    await harness.apply(
        config_map("own", {"default.topic.config.retention.ms": "3600000"}),
        broker(spec={"config": OWN}),
    )
    await harness.settle()
    address = harness.status(BROKER, "default")["address"]
    await harness.apply(config_map("own", {"default.topic.config.retention.ms": "soon"}))
    await harness.settle()
    assert (FALSE, "TopicSettings") == harness.condition(BROKER, "default")
    assert "retention.ms=soon" in harness.message(BROKER, "default", "TopicReady")
    assert "Not a number of type LONG" in harness.message(BROKER, "default", "TopicReady")
    assert address == harness.status(BROKER, "default").get("address")


async def test_a_broker_that_was_never_served_shows_no_address() -> None:
    """Nothing takes events there yet."""
    harness = ControllerHarness()
    await harness.restart()
    await harness.apply(broker(spec={"config": OWN}))
    await harness.settle()
    assert "address" not in harness.status(BROKER, "default")


@pytest.mark.clause("B4", "B5")
async def test_a_class_that_changes_is_said_and_changes_nothing() -> None:
    """Where nobody refuses it (rules in CEL see no annotations): the topic, the address and the
    Triggers stay.
    """
    harness = ControllerHarness()
    await harness.restart()
    await harness.apply(broker(), trigger())
    await harness.settle()
    routes, topics = harness.routes(), dict(harness.admin.topics)
    stored = harness.find(BROKER, "default")
    assert stored is not None
    await harness.store.replace(stored.with_metadata(annotations={CLASS: "Other"}))
    await harness.settle()
    assert (
        (FALSE, "ClassChanged")
        == harness.condition(BROKER, "default")
        == harness.condition(BROKER, "default", "ConfigParsed")
    )
    assert (
        'Immutable annotations changed (-old +new): annotations: "Kafka" became "Other"'
        in harness.message(BROKER, "default", "Ready")
    )
    assert (FALSE, "ClassChanged") == harness.condition(TRIGGER, "orders", "BrokerReady")
    assert "address" in harness.status(BROKER, "default")
    assert (routes, topics) == (harness.routes(), harness.admin.topics)
    await harness.store.replace(
        stored.with_metadata(annotations={CLASS: "Kafka"}, resourceVersion=None)
    )
    await harness.settle()
    assert (TRUE, "") == harness.condition(BROKER, "default")


async def test_another_class_is_left_alone() -> None:
    """No status, no topic: it is another controller's."""
    harness = ControllerHarness()
    await harness.restart()
    await harness.apply(broker(annotations={CLASS: "Other"}), trigger())
    await harness.settle()
    assert {} == harness.status(BROKER, "default") == harness.status(TRIGGER, "orders")
    assert {"delays"} == set(harness.routes())


def system_map(name: str, data: Mapping[str, str]) -> Resource:
    """A ConfigMap of the system namespace."""
    return manifest(CONFIG_MAP, name, namespace=SYSTEM, data=dict(data))


async def put(harness: ControllerHarness, resource: Resource) -> None:
    """Store what a cluster's API server would let pass."""
    old = harness.find(resource.kind, resource.name, resource.namespace)
    await (harness.store.create(resource) if old is None else harness.store.replace(resource))


DEFAULTS = """
clusterDefault:
  brokerClass: Kafka
  apiVersion: v1
  kind: ConfigMap
  name: small
  namespace: knative-eventing
  delivery: {retry: 3, deadLetterSink: {uri: "http://d/"}}
namespaceDefaults:
  theirs: {brokerClass: Other}
"""


async def test_defaults_hold_for_brokers_that_nobody_admitted() -> None:
    """In a cluster no webhook fills them in: class and settings come from config-br-defaults at
    every look, delivery once.
    """
    harness = ControllerHarness()
    await harness.restart()
    await put(harness, system_map("small", {"default.topic.partitions": "2"}))
    await put(harness, system_map("config-br-defaults", {"default-br-config": DEFAULTS}))
    await put(harness, broker())
    await put(harness, broker(namespace="theirs"))
    await put(harness, trigger())
    await harness.settle()
    assert 2 == harness.admin.topics[f"knative-broker-{NAMESPACE}-default"].partitions
    assert "http://d/" == harness.status(BROKER, "default")["deadLetterSinkUri"]
    route = next(each for key, each in harness.routes().items() if key.startswith("subscription/"))
    assert (3, "http://d/") == (route.delivery.retry, route.dead_letter_sink.url)
    stored = harness.find(BROKER, "default")
    assert stored is not None
    assert ({"delivery": {"retry": 3, "deadLetterSink": {"uri": "http://d/"}}}, {}) == (
        stored.spec,
        stored.annotations,
    )
    assert {} == harness.status(BROKER, "default", "theirs")


@pytest.mark.parametrize(
    "broken",
    ["clusterDefault: [", "clusterDefault: {delivery: {retry: -1}}", "a: 1\n---\nb: 2", "&a [*a]"],
)
async def test_broken_defaults_are_said_and_the_last_good_ones_stay(broken: str) -> None:
    """A condition for information on every Broker names the ConfigMap and the field; Ready does not
    depend on it.
    """
    harness = ControllerHarness()
    await harness.restart()
    await put(
        harness,
        system_map(
            "config-br-defaults", {"default-br-config": "clusterDefault: {delivery: {retry: 3}}"}
        ),
    )
    await put(harness, broker())
    await put(harness, trigger())
    await harness.settle()
    await put(harness, system_map("config-br-defaults", {"default-br-config": broken}))
    await harness.settle()
    assert (FALSE, "InvalidConfigMap") == harness.condition(BROKER, "default", "SystemConfigValid")
    assert f"configmap {SYSTEM}/config-br-defaults" in harness.message(
        BROKER, "default", "SystemConfigValid"
    )
    assert (TRUE, "") == harness.condition(BROKER, "default")
    await put(harness, broker("second"))
    await put(harness, trigger("seconds", broker_name="second"))
    await harness.settle()
    assert {"orders": 3, "seconds": 3} == retries(harness)
    await put(
        harness,
        system_map(
            "config-br-defaults", {"default-br-config": "clusterDefault: {delivery: {retry: 4}}"}
        ),
    )
    await put(harness, broker("third"))
    await put(harness, trigger("thirds", broker_name="third"))
    await harness.settle()
    assert ("", "") == harness.condition(BROKER, "default", "SystemConfigValid")
    # What was written into a Broker stays there.
    assert {"orders": 3, "seconds": 3, "thirds": 4} == retries(harness)


def retries(harness: ControllerHarness) -> dict[str, int]:
    """By Trigger, the retries of its route."""
    return {
        each.name: each.delivery.retry
        for key, each in harness.routes().items()
        if key.startswith("subscription/")
    }


async def test_a_flag_for_what_does_not_exist_is_said() -> None:
    """Where the ConfigMap was not refused; and the other flags hold."""
    harness = ControllerHarness()
    await harness.restart()
    await put(
        harness,
        system_map(
            "config-features",
            {"transport-encryption": "strict", "eventtype-auto-create": "Enabled"},
        ),
    )
    await put(harness, broker())
    await harness.settle()
    assert "invalid value: strict: data.transport-encryption" in harness.message(
        BROKER, "default", "SystemConfigValid"
    )
    route = next(each for key, each in harness.routes().items() if key.startswith("addressable/"))
    assert route.event_types
    assert (TRUE, "") == harness.condition(BROKER, "default")
