"""Subscriptions of Knative 0.5: what each situation shows, and what becomes of them."""

from typing import Any

import pytest

from headrace.domain.routing import Reply, Subscription
from headrace.resources.kinds import LEGACY_SUBSCRIPTION, SUBSCRIPTION
from headrace.resources.resource import Resource
from tests.support.api_admission import refusal
from tests.unit.controller.harness import NAMESPACE, ControllerHarness, manifest, settled
from tests.unit.controller.reconcile.test_legacy_channels import (
    FALSE,
    TRUE,
    UNKNOWN,
    legacy_channel,
)

OLD = "eventing.knative.dev/v1alpha1"


def channel_ref(name: str) -> dict[str, str]:
    """A reference to a Channel of 0.5."""
    return {"apiVersion": OLD, "kind": "Channel", "name": name}


def legacy_subscription(name: str = "billing", *, of: str = "orders", **spec: Any) -> Resource:
    """A Subscription as it was written in 2019."""
    return manifest(LEGACY_SUBSCRIPTION, name, spec={"channel": channel_ref(of), **spec})


def subscribed(harness: ControllerHarness) -> dict[str, Subscription]:
    """The routing records of subscriptions by name."""
    return {each.name: each for each in harness.routes().values() if isinstance(each, Subscription)}


@pytest.mark.parametrize(
    ("subscriber", "url"),
    [
        ({"dnsName": "sink.example"}, "http://sink.example/"),
        ({"uri": "http://sink.example/a"}, "http://sink.example/a"),
        ({"ref": channel_ref("other")}, f"http://127.0.0.1:8080/{NAMESPACE}/kafkachannels/other"),
    ],
)
async def test_each_form_of_subscriber_receives_events(
    subscriber: dict[str, Any], url: str
) -> None:
    """An object, the name of a host, or a URL."""
    harness = await settled(
        legacy_channel(), legacy_channel("other"), legacy_subscription(subscriber=subscriber)
    )
    assert (TRUE, "") == harness.condition(LEGACY_SUBSCRIPTION, "billing")
    status = harness.status(LEGACY_SUBSCRIPTION, "billing")
    assert status["physicalSubscription"] == {"subscriberURI": url}
    route = subscribed(harness)["billing"]
    assert route.subscriber.url == url
    child = harness.find(SUBSCRIPTION, "billing")
    assert child is not None
    assert child.metadata["ownerReferences"][0]["apiVersion"] == OLD
    assert child.spec["channel"] == {
        "apiVersion": "messaging.knative.dev/v1",
        "kind": "Channel",
        "name": "orders",
    }


async def test_replies_go_to_the_channel_that_is_named() -> None:
    """Straight to its topic; a Subscription with a reply only forwards."""
    harness = await settled(
        legacy_channel(),
        legacy_channel("answers"),
        legacy_subscription(
            subscriber={"dnsName": "s.example"}, reply={"channel": channel_ref("answers")}
        ),
        legacy_subscription("forward", reply={"channel": channel_ref("answers")}),
    )
    answers = f"knative-messaging-kafka.{NAMESPACE}.answers"
    routes = subscribed(harness)
    assert routes["billing"].reply == Reply(topic=answers)
    forwarded = routes["forward"].subscriber
    assert forwarded.url.endswith("/kafkachannels/answers")
    status = harness.status(LEGACY_SUBSCRIPTION, "forward")
    assert list(status["physicalSubscription"]) == ["replyURI"]


async def test_a_subscriber_that_changes_is_changed_and_a_reply_is_removed() -> None:
    """Both may change, as in 0.5."""
    reply = {"channel": channel_ref("answers")}
    harness = await settled(
        legacy_channel(),
        legacy_channel("answers"),
        legacy_subscription(subscriber={"dnsName": "a.example"}, reply=reply),
    )
    await harness.apply(legacy_subscription(subscriber={"uri": "http://b.example/x"}))
    await harness.settle()
    route = subscribed(harness)["billing"]
    assert route.subscriber.url == "http://b.example/x"
    assert route.reply is None
    assert (TRUE, "") == harness.condition(LEGACY_SUBSCRIPTION, "billing")


async def test_a_subscription_waits_for_its_channel() -> None:
    """With the reason of today's Subscription."""
    harness = await settled(legacy_subscription(subscriber={"dnsName": "s.example"}))
    assert (FALSE, "ChannelReferenceFailed") == harness.condition(
        LEGACY_SUBSCRIPTION, "billing", "Resolved"
    )
    await harness.apply(legacy_channel())
    await harness.settle()
    assert (TRUE, "") == harness.condition(LEGACY_SUBSCRIPTION, "billing")
    assert UNKNOWN not in {
        each["status"] for each in harness.status(LEGACY_SUBSCRIPTION, "billing")["conditions"]
    }


SUBSCRIBER = {"dnsName": "s.example"}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (
            {"channel": {}, "subscriber": SUBSCRIBER},
            "missing field(s): spec.channel\nthe Subscription must reference a channel",
        ),
        (
            {"subscriber": {}},
            "missing field(s): spec.reply, spec.subscriber\nthe Subscription must reference at"
            " least one of (reply or a subscriber)",
        ),
        (
            {"subscriber": {"dnsName": "a", "ref": channel_ref("b")}},
            "expected exactly one, got both: spec.subscriber.dnsName, spec.subscriber.ref",
        ),
        (
            {"subscriber": {"dnsName": "a", "uri": "http://a/"}},
            "expected exactly one, got both: spec.subscriber.dnsName, spec.subscriber.uri",
        ),
        (
            {"subscriber": {"ref": {"name": "x"}}},
            "missing field(s): spec.subscriber.ref.apiVersion, spec.subscriber.ref.kind",
        ),
        (
            {
                "subscriber": SUBSCRIBER,
                "reply": {"channel": {**channel_ref("b"), "kind": "Broker"}},
            },
            "invalid value: Broker: spec.reply.channel.kind\nonly 'Channel' kind is allowed",
        ),
        (
            {"subscriber": SUBSCRIBER, "channel": {**channel_ref("b"), "namespace": "n"}},
            "must not set the field(s): spec.channel.namespace\nonly name, apiVersion and kind are"
            " supported fields",
        ),
        (
            {"channel": {**channel_ref("b"), "apiVersion": "v1"}, "subscriber": SUBSCRIBER},
            "invalid value: v1: spec.channel.apiVersion\nonly eventing.knative.dev/v1alpha1 is"
            " allowed for apiVersion",
        ),
        (
            {"subscriber": {"uri": "/relative"}},
            "invalid value: Relative URI is not allowed when Ref and [apiVersion, kind, name] is"
            " absent: spec.subscriber.uri",
        ),
    ],
)
def test_what_is_wrong_is_refused(spec: dict[str, Any], expected: str) -> None:
    """In the words of 0.5."""
    assert expected == refusal(legacy_subscription(**spec))


def test_the_channel_is_immutable() -> None:
    """Subscriber and reply are not."""
    old = legacy_subscription(subscriber=SUBSCRIBER)
    message = refusal(legacy_subscription(of="other", subscriber=SUBSCRIBER), old=old)
    assert message.startswith("Immutable fields changed (-old +new): spec\n")
