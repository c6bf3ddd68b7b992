"""EventTypes: whether what they refer to exists, and those that are made out of what the data plane
has seen.
"""

from dataclasses import replace
from typing import Any

import pytest

from headrace.adapters.kafka.control.instances import read, write
from headrace.domain.observed_event_types import ObservedEventType
from headrace.domain.ports import Instance
from headrace.resources.event_type import event_type_name
from headrace.resources.kinds import (
    BROKER,
    CHANNEL,
    CONFIG_MAP,
    EVENT_TYPE,
    KAFKA_CHANNEL,
    SUBSCRIPTION,
    TRIGGER,
)
from headrace_controller.reconcile.event_types import AUTO_CREATED_MAX
from tests.unit.controller.harness import NAMESPACE, ControllerHarness, broker, manifest, trigger

TRUE, FALSE = "True", "False"
ABOUT_BROKER = {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": "default"}


async def site_with(flag: str = "") -> ControllerHarness:
    """An installation with a Broker and a Trigger; the flag for auto-creation has this value."""
    made = ControllerHarness()
    await made.restart()
    if flag:
        data = {"eventtype-auto-create": flag}
        await made.store.create(
            manifest(CONFIG_MAP, "config-features", namespace="knative-eventing", data=data)
        )
    await made.apply(broker(), trigger())
    await made.settle()
    return made


async def see(
    harness: ControllerHarness, *types: ObservedEventType, instance: str = "ingress"
) -> None:
    """A process reports what it has seen."""
    known = next(each for each in harness.instances.live() if each.id == instance)
    await harness.instances.report(replace(known, types=types))


def uid(harness: ControllerHarness, kind: Any, name: str) -> str:
    """Of a resource."""
    found = harness.find(kind, name)
    assert found is not None
    return found.uid


@pytest.mark.parametrize(
    ("spec", "status", "reason", "message"),
    [
        ({}, TRUE, "ReferenceNotSet", "No reference is set."),
        ({"reference": ABOUT_BROKER}, TRUE, "", ""),
        ({"broker": "default"}, TRUE, "", ""),
        (
            {"reference": {**ABOUT_BROKER, "name": "gone"}},
            FALSE,
            "ResourceDoesNotExist",
            'Broker "gone" of spec.reference does not exist',
        ),
        ({"broker": "gone"}, FALSE, "ResourceDoesNotExist", 'Broker "gone"'),
    ],
)
async def test_ready_is_whether_the_reference_exists(
    spec: dict[str, Any], status: str, reason: str, message: str
) -> None:
    """In Knative's reasons; without a reference there is nothing to miss."""
    harness = await site_with()
    await harness.apply(manifest(EVENT_TYPE, "e", spec={"type": "t", **spec}))
    await harness.settle()
    assert (status, reason) == harness.condition(EVENT_TYPE, "e", "ReferenceExists")
    assert status == harness.condition(EVENT_TYPE, "e")[0]
    assert message in harness.message(EVENT_TYPE, "e", "ReferenceExists")
    assert 1 == harness.status(EVENT_TYPE, "e")["observedGeneration"]


async def test_a_reference_may_come_and_go() -> None:
    """The condition follows."""
    harness = await site_with()
    await harness.apply(
        manifest(EVENT_TYPE, "e", spec={"type": "t", "reference": {**ABOUT_BROKER, "name": "late"}})
    )
    await harness.settle()
    assert (FALSE, "ResourceDoesNotExist") == harness.condition(EVENT_TYPE, "e")
    await harness.apply(broker("late"))
    await harness.settle()
    assert TRUE == harness.condition(EVENT_TYPE, "e")[0]
    await harness.delete(BROKER, "late")
    await harness.settle()
    assert (FALSE, "ResourceDoesNotExist") == harness.condition(EVENT_TYPE, "e")


async def test_what_was_seen_is_described() -> None:
    """Of a Broker's events and of a Trigger's replies: named, owned and referring as Knative's are;
    and Ready.
    """
    harness = await site_with("enabled")
    at_broker = ObservedEventType(
        uid(harness, BROKER, "default"), "events.type", "events.source", "http://schema/"
    )
    in_replies = ObservedEventType(uid(harness, TRIGGER, "orders"), "reply.type", "/r")
    await see(harness, at_broker)
    await see(harness, in_replies, instance="dispatcher")
    await harness.run_once()
    await harness.settle()
    named = event_type_name("default", NAMESPACE, "events.type", "events.source")
    found = harness.find(EVENT_TYPE, named)
    assert found is not None
    assert [{**ABOUT_BROKER, "uid": at_broker.uid}] == found.metadata["ownerReferences"]
    assert ("events.type", "events.source", "http://schema/") == tuple(
        found.spec[name] for name in ("type", "source", "schema")
    )
    assert TRUE == harness.condition(EVENT_TYPE, named)[0]
    reply = harness.find(EVENT_TYPE, event_type_name("orders", NAMESPACE, "reply.type", "/r"))
    assert reply is not None
    assert ("Trigger", "orders") == (
        reply.spec["reference"]["kind"],
        reply.spec["reference"]["name"],
    )


async def test_it_is_made_once_and_not_changed() -> None:
    """Another schema later, another process, another report: nothing is written; one that a person
    took away comes again with the next.
    """
    harness = await site_with("enabled")
    first = ObservedEventType(uid(harness, BROKER, "default"), "t", "/s", "http://one/")
    await see(harness, first)
    await harness.run_once()
    await see(harness, first._replace(schema="http://two/"))
    await see(harness, first, instance="dispatcher")
    await harness.run_once()
    [made] = harness.store.list(EVENT_TYPE)
    assert "http://one/" == made.spec["schema"]
    await harness.store.delete(EVENT_TYPE, NAMESPACE, made.name)
    await see(harness, first)
    await harness.run_once()
    assert 1 == len(harness.store.list(EVENT_TYPE))


@pytest.mark.parametrize("flag", ["", "disabled", "allowed"])
async def test_nothing_is_made_while_it_is_off(flag: str) -> None:
    """And the data plane is not asked to look."""
    harness = await site_with(flag)
    await see(harness, ObservedEventType(uid(harness, BROKER, "default"), "t", "/s"))
    await harness.run_once()
    assert [] == list(harness.store.list(EVENT_TYPE))
    assert not any(getattr(route, "event_types", False) for route in harness.routes().values())


async def test_the_data_plane_is_asked_to_look_when_it_is_on() -> None:
    """By the routing records; turning it on makes nobody unready."""
    harness = await site_with()
    await harness.store.create(
        manifest(
            CONFIG_MAP,
            "config-features",
            namespace="knative-eventing",
            data={"eventtype-auto-create": "enabled"},
        )
    )
    harness.applies = False
    await harness.settle()
    assert [True, True] == [
        route.event_types for key, route in harness.routes().items() if key != "delays"
    ]
    assert (TRUE, TRUE) == (
        harness.condition(BROKER, "default")[0],
        harness.condition(TRIGGER, "orders")[0],
    )


async def test_what_was_seen_of_a_deleted_owner_is_ignored() -> None:
    """A Broker that is gone or going owns nothing new."""
    harness = await site_with("enabled")
    gone = uid(harness, BROKER, "default")
    await harness.store.delete(BROKER, NAMESPACE, "default", finalizers=["test.example/hold"])
    await see(harness, ObservedEventType(gone, "t", "/s"), ObservedEventType("nobody", "t", "/s"))
    await harness.run_once()
    assert [] == list(harness.store.list(EVENT_TYPE))


async def test_one_addressable_does_not_fill_the_store() -> None:
    """A producer that puts an id into the type of every event gets a thousand descriptions, and
    no more.
    """
    harness = await site_with("enabled")
    owner = uid(harness, BROKER, "default")
    await see(
        harness,
        *(ObservedEventType(owner, f"t{number}", "/s") for number in range(AUTO_CREATED_MAX + 50)),
    )
    await harness.run_once()
    await see(harness, ObservedEventType(owner, "one more", "/s"))
    await harness.run_once()
    assert AUTO_CREATED_MAX == len(harness.store.list(EVENT_TYPE))


async def test_a_rotating_report_wakes_the_loop_only_for_what_is_new() -> None:
    """A process with many types reports another part of them every second; that must not cost an
    iteration every second.
    """
    harness = await site_with("enabled")
    owner = uid(harness, BROKER, "default")
    parts = [
        tuple(ObservedEventType(owner, f"t{part}-{number}", "/s") for number in range(3))
        for part in range(2)
    ]
    for part in parts:
        await see(harness, *part)
        assert harness.loop.observer.has_process_changes()
        await harness.run_once()
        await see(harness, *part)
        await harness.run_once()
        assert not harness.loop.observer.has_process_changes()
    await see(harness, *parts[0])
    assert not harness.loop.observer.has_process_changes()


def test_an_instance_is_reported_with_its_types() -> None:
    """The reports of this and the last version are read by the next and this one."""
    report = Instance(
        "i",
        "ingress",
        3,
        4,
        {"u": "x"},
        (ObservedEventType("u", "t", "/s", "http://schema/", "1.0"),),
    )
    assert report == read(write(report))
    assert b"types" not in write(replace(report, types=()))
    assert replace(report, types=()) == read(write(replace(report, types=())))
    newer = (
        b'{"v":1,"id":"i","service":"s","applied":1,"seenMs":2,'
        b'"types":[["u","t","/s","x","1.0","more"],["u"],7]}'
    )
    found = read(newer)
    assert found is not None
    assert (ObservedEventType("u", "t", "/s", "x", "1.0"),) == found.types


async def receivers_of(harness: ControllerHarness, name: str = "e") -> dict[str, Any]:
    """The part of the status about receivers."""
    await harness.settle()
    status = harness.status(EVENT_TYPE, name)
    return {key: value for key, value in status.items() if key.startswith("receiver")}


async def test_the_status_names_the_triggers_that_let_the_type_through() -> None:
    """Those that do, those that may, and on what that depends; not those that do not."""
    harness = await site_with()
    await harness.apply(
        manifest(EVENT_TYPE, "e", spec={"type": "t", "reference": ABOUT_BROKER}),
        trigger("never", spec={"filters": [{"exact": {"type": "other"}}]}),
        trigger("perhaps", spec={"filters": [{"cesql": "type = 't' AND subject = 'a'"}]}),
        broker("other"),
        trigger("elsewhere", broker_name="other"),
    )
    assert {
        "receiverCount": 2,
        "receivers": [
            {"kind": "Trigger", "name": "orders", "match": "Yes"},
            {"kind": "Trigger", "name": "perhaps", "match": "Maybe", "dependsOn": ["subject"]},
        ],
    } == await receivers_of(harness)
    await harness.delete(TRIGGER, "perhaps")
    assert 1 == (await receivers_of(harness))["receiverCount"]


async def test_a_long_list_of_receivers_is_cut_and_says_so() -> None:
    """The status stays small."""
    harness = await site_with()
    await harness.apply(
        manifest(EVENT_TYPE, "e", spec={"type": "t", "broker": "default"}),
        *(trigger(f"t{number:02}") for number in range(24)),
    )
    found = await receivers_of(harness)
    assert (25, 20, 5) == (
        found["receiverCount"],
        len(found["receivers"]),
        found["receiversOmitted"],
    )


async def test_receivers_on_a_channel_are_its_subscriptions() -> None:
    """Of a Channel too, which another object backs; and of the replies of a Trigger those of its
    Broker.
    """
    harness = await site_with()
    channel = {"apiVersion": CHANNEL.api_version, "kind": "Channel", "name": "c"}
    replies = {"apiVersion": TRIGGER.api_version, "kind": "Trigger", "name": "orders"}
    unknown = {"apiVersion": "v1", "kind": "ConfigMap", "name": "config-br-default-channel"}
    subscriber = {"uri": "http://sink.example/"}
    await harness.apply(
        manifest(CHANNEL, "c", spec={}),
        manifest(SUBSCRIPTION, "s", spec={"channel": channel, "subscriber": subscriber}),
        manifest(EVENT_TYPE, "e", spec={"type": "t", "reference": channel}),
        manifest(EVENT_TYPE, "replies", spec={"type": "t", "reference": replies}),
        manifest(EVENT_TYPE, "unknown", spec={"type": "t", "reference": unknown}),
    )
    expected = {"kind": "Subscription", "name": "s", "match": "Yes"}
    assert [expected] == (await receivers_of(harness))["receivers"]
    found = (await receivers_of(harness, "replies"))["receivers"]
    assert [{"kind": "Trigger", "name": "orders", "match": "Yes"}] == found
    assert {} == await receivers_of(harness, "unknown")


AUTO_CREATE = "headrace.dev/eventtype-auto-create"


@pytest.mark.parametrize(("flag", "said"), [("enabled", "disabled"), ("", "enabled")])
async def test_a_broker_may_differ_from_the_flag(flag: str, said: str) -> None:
    """The annotation decides for its events and for the replies of its Triggers; others follow the
    flag.
    """
    harness = await site_with(flag)
    await harness.apply(
        broker("own", annotations={AUTO_CREATE: said}), trigger("t", broker_name="own")
    )
    await harness.settle()
    for kind, name in ((BROKER, "own"), (TRIGGER, "t"), (BROKER, "default"), (TRIGGER, "orders")):
        await see(harness, ObservedEventType(uid(harness, kind, name), f"of-{name}", "/s"))
        await harness.run_once()
    own = {"of-own", "of-t"}
    expected = own if said == "enabled" else {"of-default", "of-orders"}
    assert expected == {each.spec["type"] for each in harness.store.list(EVENT_TYPE)}


async def test_a_channel_has_the_annotation_of_the_object_that_it_backs() -> None:
    """A user annotates the Channel; the object behind it takes the events."""
    harness = await site_with()
    await harness.apply(manifest(CHANNEL, "c", spec={}, annotations={AUTO_CREATE: "enabled"}))
    await harness.settle()
    await see(harness, ObservedEventType(uid(harness, KAFKA_CHANNEL, "c"), "t", "/s"))
    await harness.run_once()
    [made] = harness.store.list(EVENT_TYPE)
    assert ("KafkaChannel", "c") == (made.spec["reference"]["kind"], made.spec["reference"]["name"])


async def test_a_wrong_annotation_is_an_error() -> None:
    """It names the annotation and the values."""
    harness = await site_with()
    with pytest.raises(Exception, match=r"(?s)eventtype-auto-create.*expected enabled, disabled"):
        await harness.apply(broker("b", annotations={AUTO_CREATE: "yes"}))
    with pytest.raises(Exception, match=r"(?s)schema-validation.*expected off, warn, enforce"):
        await harness.apply(broker("b", annotations={"headrace.dev/schema-validation": "on"}))
