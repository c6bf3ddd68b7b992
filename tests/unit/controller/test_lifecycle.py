"""The life of Brokers and Triggers over memory adapters: what is made, in which order, and what is
left when they go.
"""

import asyncio
from dataclasses import replace

import pytest

from headrace.codec import routing as codec
from headrace.domain.errors import Permanent
from headrace.domain.routing import Addressable, Delays, DeliveryOrder, RemovedRoute, Subscription
from headrace.domain.subscription_state import SubscriptionState
from headrace.resources.control_ports import TopicSpec
from headrace.resources.kinds import BROKER, OWNERSHIP_RECORD, TRIGGER
from headrace_controller.observer import store_identity_record
from headrace_controller.reconcile.observed_state import Installation
from headrace_controller.reconcile.plan import (
    PutRoute,
    SetStatus,
    Step,
)
from headrace_controller.topic_backend.steps import CommitInitialOffsets, CreateTopic
from tests.unit.controller.harness import (
    NAMESPACE,
    ControllerHarness,
    broker,
    config_map,
    manifest,
    trigger,
)

GROUP = f"knative-trigger-{NAMESPACE}-orders"
TOPIC = f"knative-broker-{NAMESPACE}-default"


@pytest.fixture
async def harness() -> ControllerHarness:
    """An installation with a data plane that keeps up and nothing in it but what is always
    there.
    """
    made = ControllerHarness()
    await made.restart()
    await made.settle()
    return made


async def test_an_empty_installation_has_delay_topics_and_their_record(
    harness: ControllerHarness,
) -> None:
    """Four tiers, append time, no expiry, 64 KiB above the largest channel."""
    assert {f"headrace.delay.{tier}" for tier in ("10s", "1m", "10m", "1h")} == set(
        harness.admin.topics
    )
    facts = harness.admin.topics["headrace.delay.1m"]
    assert (4, 3) == (facts.partitions, facts.replication)
    assert ("LogAppendTime", "-1", str(1_048_576 + 65_536)) == tuple(
        facts.settings[name]
        for name in ("message.timestamp.type", "retention.ms", "max.message.bytes")
    )
    delays = harness.routes()["delays"]
    assert isinstance(delays, Delays)
    assert [10, 60, 600, 3600] == [tier.seconds for tier in delays.tiers]


@pytest.mark.clause("B1")
async def test_a_broker_becomes_ready_with_its_topic_and_address(
    harness: ControllerHarness,
) -> None:
    """Topic by the defaults, routing record, address, every condition True."""
    await harness.apply(broker())
    await harness.settle()
    facts = harness.admin.topics[TOPIC]
    assert (10, 3, "2") == (
        facts.partitions,
        facts.replication,
        facts.settings["min.insync.replicas"],
    )
    assert ("True", "") == harness.condition(BROKER, "default")
    status = harness.status(BROKER, "default")
    assert {
        "name": "http",
        "url": f"http://127.0.0.1:8080/{NAMESPACE}/default",
        "hostname": f"default-broker.{NAMESPACE}.svc.cluster.local",
    } == status["address"]
    assert 1 == status["observedGeneration"]
    assert {"True"} == {each["status"] for each in status["conditions"]}
    route = next(each for each in harness.routes().values() if isinstance(each, Addressable))
    assert (TOPIC, (f"/{NAMESPACE}/default",), 1_048_576 - 65_536) == (
        route.topic,
        route.paths,
        route.event_bytes_max,
    )


async def test_a_trigger_goes_topics_offsets_record_ready(harness: ControllerHarness) -> None:
    """Each comes only after the one before was done; an event after Ready is behind the committed
    offsets.
    """
    await harness.apply(broker())
    await harness.settle()
    harness.admin.ends_of[TOPIC][3] = 17
    await harness.apply(trigger())
    steps = await harness.settle()
    order = [_stage(step) for step in steps if _stage(step)]
    assert ["topics", "offsets", "record", "ready"] == list(dict.fromkeys(order))
    assert {p: 17 if p == 3 else 0 for p in range(10)} == harness.group(GROUP).offsets[TOPIC]
    assert ("True", "") == harness.condition(TRIGGER, "orders")
    status = harness.status(TRIGGER, "orders")
    assert ("http://sink.example/", {"group.id": GROUP}) == (
        status["subscriberUri"],
        status["annotations"],
    )
    for suffix in ("retry", "dead"):
        facts = harness.admin.topics[f"{GROUP}.{suffix}"]
        assert (1, "-1", str(1_048_576 + 65_536)) == (
            facts.partitions,
            facts.settings["retention.ms"],
            facts.settings["max.message.bytes"],
        )


def _stage(step: Step) -> str:
    match step:
        case CreateTopic():
            return "topics"
        case CommitInitialOffsets():
            return "offsets"
        case PutRoute():
            return "record"
        case SetStatus(_, status) if any(
            each["type"] == "Ready" and each["status"] == "True" for each in status["conditions"]
        ):
            return "ready"
    return ""


async def test_a_converged_world_is_left_alone(harness: ControllerHarness) -> None:
    """No step, no write, also after everything was observed again."""
    await harness.apply(broker(), trigger())
    await harness.settle()
    position, records = harness.store.resource_version, len(harness.routing.records)
    assert [] == await harness.settle()
    assert [] == await harness.resync()
    assert (position, records) == (harness.store.resource_version, len(harness.routing.records))


@pytest.mark.clause("T1")
async def test_a_trigger_may_precede_its_broker(harness: ControllerHarness) -> None:
    """It says so, and becomes Ready when the Broker is there."""
    await harness.apply(trigger())
    await harness.settle()
    assert ("False", "BrokerDoesNotExist") == harness.condition(TRIGGER, "orders", "BrokerReady")
    assert 'Broker "default" does not exist' == harness.message(TRIGGER, "orders", "Ready")
    await harness.apply(broker())
    await harness.settle()
    assert ("True", "") == harness.condition(TRIGGER, "orders")


@pytest.mark.clause("T5")
async def test_ready_waits_until_every_live_process_has_the_record(
    harness: ControllerHarness,
) -> None:
    """One that lags keeps Ready Unknown and the generation unobserved; when it has caught up Ready
    is True.
    """
    harness.applies = False
    await harness.apply(broker(), trigger())
    await harness.settle()
    assert ("Unknown", "RoutingRecordNotApplied") == harness.condition(
        BROKER, "default", "ProbeSucceeded"
    )
    assert ("Unknown", "RoutingRecordNotApplied") == harness.condition(
        TRIGGER, "orders", "SubscriptionReady"
    )
    assert "observedGeneration" not in harness.status(TRIGGER, "orders")
    harness.applies = True
    await harness.report()
    await harness.settle()
    assert ("True", "") == harness.condition(TRIGGER, "orders")


async def test_without_a_data_plane_nothing_is_ready(harness: ControllerHarness) -> None:
    """The condition says which process to start."""
    harness.services = ()
    harness.clock.advance(60)
    await harness.apply(broker(), trigger())
    await harness.settle()
    assert ("False", "NoIngress") == harness.condition(BROKER, "default", "DataPlaneAvailable")
    assert ("False", "NoDispatcher") == harness.condition(TRIGGER, "orders", "SubscriptionReady")


async def test_a_changed_filter_is_a_new_record_and_nothing_else(
    harness: ControllerHarness,
) -> None:
    """No topic, no offset, no group is touched; Ready is True again at the new generation."""
    await harness.apply(broker(), trigger())
    await harness.settle()
    await harness.apply(trigger(spec={"filter": {"attributes": {"type": "order.placed"}}}))
    steps = await harness.settle()
    assert {"PutRoute", "SetStatus"} == {type(step).__name__ for step in steps}
    route = next(each for each in harness.routes().values() if isinstance(each, Subscription))
    assert ({"attributes": {"type": "order.placed"}},) == route.filters
    assert (2, 2) == (route.generation, harness.status(TRIGGER, "orders")["observedGeneration"])


@pytest.mark.clause("F3")
async def test_delivery_merges_trigger_over_broker_field_by_field(
    harness: ControllerHarness,
) -> None:
    """A zero is a choice; what the Trigger leaves out is the Broker's, the dead letter sink too."""
    await harness.apply(
        broker(
            spec={
                "delivery": {
                    "retry": 3,
                    "backoffDelay": "PT1S",
                    "deadLetterSink": {"uri": "http://dls.example/"},
                }
            }
        ),
        trigger(spec={"delivery": {"retry": 0}}),
    )
    await harness.settle()
    route = next(each for each in harness.routes().values() if isinstance(each, Subscription))
    assert (0, 1.0) == (route.delivery.retry, route.delivery.delay_seconds)
    assert route.dead_letter_sink is not None
    assert (
        "http://dls.example/"
        == route.dead_letter_sink.url
        == harness.status(TRIGGER, "orders")["deadLetterSinkUri"]
    )


async def test_annotations_choose_order_and_breaker(harness: ControllerHarness) -> None:
    """Ordered delivery and no breaker arrive in the routing record; replies go to the Broker's
    topic.
    """
    annotations = {
        "kafka.eventing.knative.dev/delivery.order": "ordered",
        "headrace.dev/breaker": "disabled",
    }
    await harness.apply(broker(), trigger(annotations=annotations))
    await harness.settle()
    route = next(each for each in harness.routes().values() if isinstance(each, Subscription))
    assert (DeliveryOrder.ORDERED, False) == (route.order, route.breaker)
    assert route.reply is not None
    assert TOPIC == route.reply.topic


@pytest.mark.clause("R1", "R3")
async def test_destinations_resolve_services_brokers_and_relative_uris(
    harness: ControllerHarness,
) -> None:
    """In a cluster a Service is its DNS name, a Broker its address, a relative uri is resolved
    against either.
    """
    harness.installation = Installation(in_cluster=True)
    await harness.restart()
    service = {"apiVersion": "v1", "kind": "Service", "name": "sink"}
    target = {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": "other"}
    await harness.apply(
        broker(),
        broker("other"),
        trigger(),
        trigger("a", spec={"subscriber": {"ref": service, "uri": "/in?x=1"}}),
    )
    await harness.apply(trigger("b", spec={"subscriber": {"ref": target}}))
    await harness.settle()
    assert (
        f"http://sink.{NAMESPACE}.svc.cluster.local/in?x=1"
        == harness.status(TRIGGER, "a")["subscriberUri"]
    )
    assert (
        f"http://127.0.0.1:8080/{NAMESPACE}/other" == harness.status(TRIGGER, "b")["subscriberUri"]
    )


@pytest.mark.clause("T2", "R2")
async def test_an_unresolved_subscriber_is_a_condition_in_knatives_words(
    harness: ControllerHarness,
) -> None:
    """The reason is Knative's, the message names the object."""
    ref = {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": "nowhere"}
    await harness.apply(broker(), trigger(spec={"subscriber": {"ref": ref}}))
    await harness.settle()
    assert ("False", "Unable to get the Subscriber's URI") == harness.condition(
        TRIGGER, "orders", "SubscriberResolved"
    )
    assert 'brokers.eventing.knative.dev "nowhere" not found' in harness.message(
        TRIGGER, "orders", "Ready"
    )


async def test_a_subscriber_that_gets_lost_leaves_the_last_good_record(
    harness: ControllerHarness,
) -> None:
    """Ready is False, and the data plane keeps delivering to the last known URL."""
    ref = {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": "other"}
    await harness.apply(broker(), broker("other"), trigger(spec={"subscriber": {"ref": ref}}))
    await harness.settle()
    await harness.delete(BROKER, "other")
    await harness.settle()
    assert ("False", "Unable to get the Subscriber's URI") == harness.condition(TRIGGER, "orders")
    assert any(isinstance(each, Subscription) for each in harness.routes().values())


async def test_a_dependency_holds_ready_back(harness: ControllerHarness) -> None:
    """Not there, then there: the Trigger follows."""
    annotation = '{"apiVersion":"eventing.knative.dev/v1","kind":"Broker","name":"source"}'
    await harness.apply(broker(), trigger(annotations={"knative.dev/dependency": annotation}))
    await harness.settle()
    assert ("False", "DependencyDoesNotExist") == harness.condition(
        TRIGGER, "orders", "DependencyReady"
    )
    await harness.apply(broker("source"))
    await harness.settle()
    assert ("True", "") == harness.condition(TRIGGER, "orders")


async def test_config_map_decides_the_topic(harness: ControllerHarness) -> None:
    """Partitions, replicas and settings are taken from spec.config; room for private headers is
    kept.
    """
    data = {
        "default.topic.partitions": "3",
        "default.topic.replication.factor": "1",
        "default.topic.config.max.message.bytes": "4000000",
        "default.topic.config.retention.ms": "60000",
    }
    await harness.apply(config_map("mine", data))
    await harness.apply(
        broker(spec={"config": {"apiVersion": "v1", "kind": "ConfigMap", "name": "mine"}}),
        trigger(),
    )
    await harness.settle()
    facts = harness.admin.topics[TOPIC]
    assert (3, 1, "60000", "4000000") == (
        facts.partitions,
        facts.replication,
        facts.settings["retention.ms"],
        facts.settings["max.message.bytes"],
    )
    for name in (f"{GROUP}.retry", f"{GROUP}.dead", "headrace.delay.1h"):
        assert str(4_000_000 + 65_536) == harness.admin.topics[name].settings["max.message.bytes"]
    (route,) = [each for each in harness.routes().values() if isinstance(each, Subscription)]
    assert 60.0 == route.retention_seconds


async def test_a_config_map_that_is_missing_or_wrong_is_a_condition(
    harness: ControllerHarness,
) -> None:
    """ConfigParsed is False with the key and the limit; no topic is made."""
    await harness.apply(
        broker(spec={"config": {"apiVersion": "v1", "kind": "ConfigMap", "name": "mine"}})
    )
    await harness.settle()
    assert ("False", "InvalidConfiguration") == harness.condition(BROKER, "default", "ConfigParsed")
    assert f'configmap "mine" not found in namespace "{NAMESPACE}"' == harness.message(
        BROKER, "default", "Ready"
    )
    await harness.apply(config_map("mine", {"default.topic.partitions": "many"}))
    await harness.settle()
    assert "default.topic.partitions: 'many' is not a number from 1 to 10000" == harness.message(
        BROKER, "default", "Ready"
    )
    assert TOPIC not in harness.admin.topics


async def test_fewer_brokers_than_replicas_is_warned_about() -> None:
    """One broker gives one replica, and the condition says what that costs."""
    harness = ControllerHarness()
    harness.admin.brokers = 1
    await harness.restart()
    await harness.apply(broker())
    await harness.settle()
    assert 1 == harness.admin.topics[TOPIC].replication
    assert ("True", "FewerReplicas") == harness.condition(BROKER, "default", "ConfigParsed")


async def test_colliding_names_of_two_namespaces_stay_apart(harness: ControllerHarness) -> None:
    """`a`/`b-c` and `a-b`/`c` get topics and groups of their own; the second ones end in a hash."""
    await harness.apply(broker("b-c", namespace="a"), broker("c", namespace="a-b"))
    await harness.apply(
        trigger("b-c", namespace="a", broker_name="b-c"),
        trigger("c", namespace="a-b", broker_name="c"),
    )
    await harness.settle()
    routes = list(harness.routes().values())
    topics = [each.topic for each in routes if isinstance(each, Addressable)]
    groups = [each.group for each in routes if isinstance(each, Subscription)]
    assert 2 == len(set(topics)) == len(set(groups))
    assert "knative-broker-a-b-c" in topics
    assert "knative-trigger-a-b-c" in groups
    for each in (route for route in routes if isinstance(route, Subscription)):
        assert each.topic == next(
            other.topic
            for other in routes
            if isinstance(other, Addressable) and other.namespace == each.namespace
        )


@pytest.mark.clause("B4")
async def test_brokers_of_another_class_are_left_alone(harness: ControllerHarness) -> None:
    """No status, no topic, no finalizer; neither for their Triggers."""
    await harness.apply(
        broker(annotations={"eventing.knative.dev/broker.class": "MTChannelBasedBroker"}), trigger()
    )
    assert [] == await harness.settle()
    assert {} == harness.status(BROKER, "default") == harness.status(TRIGGER, "orders")


async def test_a_deleted_trigger_leaves_only_its_dead_letters(harness: ControllerHarness) -> None:
    """Tombstone, group forgotten, retry topic deleted at once; the dead letter topic after the
    grace period.
    """
    await harness.apply(broker(), trigger())
    await harness.settle()
    await harness.delete(TRIGGER, "orders")
    await harness.settle()
    assert harness.find(TRIGGER, "orders") is None
    assert not any(isinstance(each, Subscription) for each in harness.routes().values())
    assert GROUP not in harness.admin.groups_of
    assert f"{GROUP}.retry" not in harness.admin.topics
    assert f"{GROUP}.dead" in harness.admin.topics
    harness.clock.advance(7 * 24 * 3600 + 1)
    await harness.resync()
    assert f"{GROUP}.dead" not in harness.admin.topics
    assert 2 == len(harness.store.list(OWNERSHIP_RECORD))


async def test_a_deletion_waits_for_processes_and_consumers(harness: ControllerHarness) -> None:
    """Nothing is deleted while a process has not seen the tombstone or a consumer is still in the
    group.
    """
    await harness.apply(broker(), trigger())
    await harness.settle()
    harness.group(GROUP).members = 1
    harness.applies = False
    await harness.delete(TRIGGER, "orders")
    await harness.settle()
    assert f"{GROUP}.retry" in harness.admin.topics
    harness.applies = True
    await harness.report()
    await harness.settle()
    assert f"{GROUP}.retry" in harness.admin.topics
    harness.group(GROUP).members = 0
    await harness.settle()
    assert f"{GROUP}.retry" not in harness.admin.topics
    assert harness.find(TRIGGER, "orders") is None


async def test_created_again_under_the_same_name_nothing_old_is_delivered(
    harness: ControllerHarness,
) -> None:
    """The group has its name again but starts at the end, and the old dead letters stay apart under
    their own name.
    """
    await harness.apply(broker(), trigger())
    await harness.settle()
    await harness.delete(TRIGGER, "orders")
    await harness.settle()
    harness.admin.ends_of[TOPIC] = dict.fromkeys(range(10), 5)
    await harness.apply(trigger())
    await harness.settle()
    route = next(each for each in harness.routes().values() if isinstance(each, Subscription))
    assert GROUP == route.group
    assert set(harness.group(GROUP).offsets[TOPIC].values()) == {5}
    assert f"{GROUP}.dead" != route.dead_topic
    assert {f"{GROUP}.dead", route.dead_topic} <= set(harness.admin.topics)


async def test_a_deleted_broker_stops_its_triggers_and_takes_its_topic(
    harness: ControllerHarness,
) -> None:
    """Readers leave first; the Trigger stays and says why; a new Broker of the name starts it at
    the new topic's end.
    """
    await harness.apply(broker(), trigger())
    await harness.settle()
    harness.group(GROUP).members = 1
    await harness.delete(BROKER, "default")
    await harness.settle()
    assert TOPIC in harness.admin.topics
    harness.group(GROUP).members = 0
    await harness.settle()
    assert TOPIC not in harness.admin.topics
    assert harness.find(BROKER, "default") is None
    assert ("False", "BrokerDoesNotExist") == harness.condition(TRIGGER, "orders")
    await harness.apply(broker())
    await harness.settle()
    assert ("True", "") == harness.condition(TRIGGER, "orders")
    assert dict.fromkeys(range(10), 0) == harness.group(GROUP).offsets[TOPIC]


async def test_an_external_topic_is_neither_made_nor_deleted(harness: ControllerHarness) -> None:
    """Missing it is a condition; its own limit decides what is accepted; it outlives the Broker."""
    annotations = {"kafka.eventing.knative.dev/external.topic": "Their_Topic"}
    await harness.apply(broker(annotations=annotations))
    await harness.settle()
    assert ("False", "TopicNotPresent") == harness.condition(BROKER, "default", "TopicReady")
    await harness.admin.create(
        [
            TopicSpec(
                name="Their_Topic",
                partitions=2,
                replication=1,
                settings={"max.message.bytes": "500000"},
            )
        ]
    )
    await harness.resync()
    assert ("True", "") == harness.condition(BROKER, "default")
    route = next(each for each in harness.routes().values() if isinstance(each, Addressable))
    assert ("Their_Topic", 500_000 - 65_536) == (route.topic, route.event_bytes_max)
    await harness.delete(BROKER, "default")
    await harness.settle()
    assert "Their_Topic" in harness.admin.topics


async def test_a_topic_under_our_name_that_is_not_ours_is_not_taken(
    harness: ControllerHarness,
) -> None:
    """TopicNotOwned, with three ways out; one of them is to adopt it; deleting the Broker meanwhile
    leaves it alone.
    """
    await harness.admin.create([TopicSpec(name=TOPIC, partitions=10, replication=3)])
    await harness.apply(broker())
    await harness.settle()
    assert ("False", "TopicNotOwned") == harness.condition(BROKER, "default")
    await harness.delete(BROKER, "default")
    await harness.settle()
    assert TOPIC in harness.admin.topics
    await harness.apply(broker(annotations={"headrace.dev/existing-topics": "adopt"}))
    await harness.settle()
    assert ("True", "") == harness.condition(BROKER, "default")


@pytest.mark.parametrize("name", [TOPIC, f"{GROUP}.retry", f"{GROUP}.dead"])
async def test_a_topic_deleted_outside_headrace_is_reported_and_not_recreated(
    harness: ControllerHarness, name: str
) -> None:
    """The condition names the topic and the way on; only the owner's word makes an empty one."""
    await harness.apply(broker(), trigger())
    await harness.settle()
    del harness.admin.topics[name]
    await harness.resync()
    kind, owner, type_ = (
        (BROKER, "default", "TopicReady")
        if name == TOPIC
        else (TRIGGER, "orders", "SubscriptionReady")
    )
    assert ("False", "TopicLost") == harness.condition(kind, owner, type_)
    assert name in harness.message(kind, owner, type_)
    assert name not in harness.admin.topics
    accept = {"headrace.dev/lost-topics": "recreate"}
    await harness.apply(
        broker(annotations=accept) if kind is BROKER else trigger(annotations=accept)
    )
    await harness.settle()
    assert name in harness.admin.topics
    assert ("True", "") == harness.condition(TRIGGER, "orders")


async def test_a_topic_recreated_outside_headrace_is_detected(harness: ControllerHarness) -> None:
    """Kafka's id is another one: the events in the first are gone, whatever the name says."""
    await harness.apply(broker(), trigger())
    await harness.settle()
    harness.admin.topics[TOPIC] = replace(harness.admin.topics[TOPIC], id="another")
    await harness.resync()
    assert ("False", "TopicReplaced") == harness.condition(BROKER, "default")


async def test_settings_that_drift_are_brought_back(harness: ControllerHarness) -> None:
    """A retry topic with a retention time would lose events."""
    await harness.apply(broker(), trigger())
    await harness.settle()
    name = f"{GROUP}.retry"
    facts = harness.admin.topics[name]
    harness.admin.topics[name] = replace(facts, settings={**facts.settings, "retention.ms": "1000"})
    await harness.resync()
    assert "-1" == harness.admin.topics[name].settings["retention.ms"]
    assert ("True", "") == harness.condition(TRIGGER, "orders")


async def test_partitions_added_later_start_at_zero(harness: ControllerHarness) -> None:
    """Events that came into them before the group knew are not skipped, although no dispatcher
    runs.
    """
    await harness.apply(broker(), trigger())
    await harness.settle()
    await harness.stop("dispatcher")
    await harness.admin.add_partitions(TOPIC, 12)
    harness.admin.ends_of[TOPIC][11] = 9
    await harness.resync()
    assert (0, 0) == (
        harness.group(GROUP).offsets[TOPIC][10],
        harness.group(GROUP).offsets[TOPIC][11],
    )
    assert ("True", "PartitionsDiffer") == harness.condition(BROKER, "default", "TopicReady")


async def test_forgotten_offsets_are_an_alarm_and_never_a_reset(harness: ControllerHarness) -> None:
    """OffsetsLost names the choice; the annotation makes it. A dispatcher that runs has the
    offsets, and commits them again.
    """
    await harness.apply(broker(), trigger())
    await harness.settle()
    await harness.stop("dispatcher")
    harness.admin.groups_of.clear()
    harness.clock.advance(301)
    await harness.resync()
    assert ("False", "OffsetsLost") == harness.condition(TRIGGER, "orders", "SubscriptionReady")
    assert GROUP not in harness.admin.groups_of
    await harness.apply(trigger(annotations={"headrace.dev/lost-offsets": "earliest"}))
    harness.clock.advance(301)
    await harness.resync()
    assert dict.fromkeys(range(10), 0) == harness.group(GROUP).offsets[TOPIC]


async def test_what_kafka_refuses_is_shown_and_tried_again(harness: ControllerHarness) -> None:
    """The reason is in the condition; after a pause the step is repeated."""
    data = {"default.topic.replication.factor": "9"}
    await harness.apply(
        config_map("mine", data),
        broker(spec={"config": {"apiVersion": "v1", "kind": "ConfigMap", "name": "mine"}}),
    )
    await harness.settle()
    assert ("False", "TopicCreationFailed") == (harness.condition(BROKER, "default", "TopicReady"))
    assert "replication factor 9 exceeds the 3 brokers" in harness.message(
        BROKER, "default", "TopicReady"
    )
    harness.admin.brokers = 9
    harness.clock.advance(2)
    await harness.report()
    await harness.settle()
    assert TOPIC in harness.admin.topics


async def test_routing_records_nobody_owns_are_removed(harness: ControllerHarness) -> None:
    """Written late by a controller that was replaced, they would keep a dead subscription alive."""
    await harness.apply(broker())
    await harness.settle()
    route = next(each for each in harness.routes().values() if isinstance(each, Addressable))
    harness.routing.append(
        "addressable/stray", codec.write(replace(route, uid="stray", paths=("/x/y",)))
    )
    await harness.restart()
    await harness.settle()
    assert "addressable/stray" not in harness.routes()


async def test_a_removal_is_ended_by_a_tombstone_and_by_nothing_more(
    harness: ControllerHarness,
) -> None:
    """Compaction may forget the key then; a converged world writes nothing."""
    await harness.apply(broker(), trigger())
    await harness.settle()
    await harness.delete(TRIGGER, "orders")
    await harness.settle()
    found = [
        (record.value is None, b'"removed"' in (record.value or b""))
        for record in harness.routing.records[-2:]
    ]
    assert [(False, True), (True, False)] == found
    length = len(harness.routing.records)
    await harness.resync()
    assert (length, {}) == (len(harness.routing.records), harness.follower.table.removed_routes)


async def test_a_controller_that_was_replaced_removes_nothing_and_ends_nothing(
    harness: ControllerHarness,
) -> None:
    """It does not know yet: its removal is ignored by everybody, itself included, and so no
    tombstone of it follows.
    """
    await harness.apply(broker(), trigger())
    await harness.settle()
    old = harness.loop
    await harness.restart()
    await harness.settle()
    routes = harness.routes()
    key = next(key for key in routes if key.startswith("subscription/"))
    harness.routing.append(key, codec.write(RemovedRoute(epoch=routes[key].epoch - 1)))
    await asyncio.sleep(0)
    assert {} == old.observer._applied_removed_routes()
    await harness.settle()
    assert routes == harness.routes()
    assert all(record.value is not None for record in harness.routing.records)


async def test_a_removal_that_its_controller_did_not_end_is_ended_by_the_next(
    harness: ControllerHarness,
) -> None:
    """It died between the two records."""
    await harness.apply(broker())
    await harness.settle()
    harness.routing.append("subscription/gone", codec.write(RemovedRoute(epoch=1)))
    await harness.restart()
    await harness.settle()
    await harness.follower.refresh(1)
    assert {} == harness.follower.table.removed_routes
    assert [None] == [
        record.value for record in harness.routing.records if record.key == b"subscription/gone"
    ][1:]


async def test_what_is_gone_without_us_is_kept_for_a_while(harness: ControllerHarness) -> None:
    """A Trigger whose finalizer was removed by hand is no longer served; its topics are deleted
    when the grace period is over and not before.
    """
    await harness.apply(broker(), trigger())
    await harness.settle()
    found = harness.find(TRIGGER, "orders")
    assert found is not None
    await harness.store.replace(found.with_metadata(finalizers=None))
    await harness.delete(TRIGGER, "orders")
    await harness.settle()
    assert [] == list(harness.follower.table.subscriptions())
    assert {f"{GROUP}.retry", f"{GROUP}.dead"} <= set(harness.admin.topics)
    harness.clock.advance(harness.installation.dead_grace_seconds + 1.0)
    await harness.settle()
    assert not {f"{GROUP}.retry", f"{GROUP}.dead"} & set(harness.admin.topics)


async def test_what_cannot_be_seen_does_not_count_as_gone(harness: ControllerHarness) -> None:
    """A controller that serves other namespaces than before leaves what it does not see as
    it is.
    """
    await harness.apply(broker(), trigger())
    await harness.settle()
    before, routes = set(harness.admin.topics), len(list(harness.follower.table.subscriptions()))
    harness.installation = Installation(namespaces=("elsewhere",))
    hidden = ControllerHarness(
        clock=harness.clock,
        admin=harness.admin,
        routing=harness.routing,
        installation=harness.installation,
    )
    await hidden.restart()
    for held in harness.store.list(OWNERSHIP_RECORD):
        await hidden.store.create(held)
    await hidden.settle()
    assert before <= set(hidden.admin.topics)
    assert routes == len(list(hidden.follower.table.subscriptions())) == 1


async def test_topics_of_other_resources_are_left_alone(harness: ControllerHarness) -> None:
    """A record in Kafka says to which store its topics belong: a controller of another store does
    nothing, unless a setting says to take them over.
    """
    await harness.apply(broker(), trigger())
    await harness.settle()
    await harness.store.replace(store_identity_record("kubernetes/other"))
    await harness.restart()
    with pytest.raises(
        Permanent, match="belong to the resources of kubernetes/other, but this controller reads"
    ):
        await harness.loop.run_once()
    harness.installation = Installation(adopts_store=True)
    await harness.restart()
    await harness.settle()
    assert ("True", "") == harness.condition(TRIGGER, "orders")


async def test_manifest_builder_is_what_the_api_would_store() -> None:
    """The tests' own builder passes admission unchanged in what it says."""
    made = manifest(BROKER, "x", spec={})
    assert ("x", NAMESPACE) == (made.name, made.namespace)


async def test_an_unhealthy_subscription_is_shown_and_stays_ready(
    harness: ControllerHarness,
) -> None:
    """Each ill has its reason, the worst comes first, and when all is well again the condition says
    so.
    """
    await harness.apply(broker(), trigger())
    await harness.settle()
    assert ("True", "") == harness.condition(TRIGGER, "orders", "DeliveryHealthy")
    found = harness.find(TRIGGER, "orders")
    assert found is not None
    harness.groups = {found.uid: SubscriptionState(breaker="open", expired=3).write()}
    await harness.report()
    await harness.settle()
    assert ("False", "EventsExpired") == harness.condition(TRIGGER, "orders", "DeliveryHealthy")
    assert "until it answers a probe; look at the subscriber" in harness.message(
        TRIGGER, "orders", "DeliveryHealthy"
    )
    assert ("True", "") == harness.condition(TRIGGER, "orders")
    harness.groups = {found.uid: SubscriptionState(retention_used=70).write()}
    await harness.report()
    await harness.settle()
    assert ("False", "EventsExpiringSoon") == harness.condition(
        TRIGGER, "orders", "DeliveryHealthy"
    )
    assert "70 % of the Broker's retention" in harness.message(TRIGGER, "orders", "DeliveryHealthy")
    harness.groups = {}
    await harness.report()
    await harness.settle()
    assert ("True", "") == harness.condition(TRIGGER, "orders", "DeliveryHealthy")
