"""The rules of Channel, KafkaChannel and Subscription: what Knative's webhook rejects, with its
texts.
"""

from typing import Any

import pytest

from headrace.domain.field_errors import render
from headrace.resources import channel, kafka_channel, subscription
from headrace.resources.channel_defaults import (
    BUILT_IN_TEMPLATE,
    ChannelDefaults,
    read_defaults,
)
from headrace.resources.features import Features
from headrace.resources.kinds import CHANNEL, KAFKA_CHANNEL, SUBSCRIPTION
from headrace.resources.resource import Resource, ResourceKind
from headrace.resources.system_config import SystemConfig

NAMED = {"apiVersion": "messaging.knative.dev/v1", "kind": "Channel", "name": "orders"}
SUBSCRIBER = {"uri": "http://sink.example/"}
TEMPLATE = {"apiVersion": "messaging.knative.dev/v1beta1", "kind": "KafkaChannel"}


def of(kind: ResourceKind, spec: dict[str, Any], **annotations: str) -> Resource:
    """An object as a client writes it."""
    metadata = {"name": "x", "namespace": "shop", "annotations": annotations}
    return Resource(kind, {"metadata": metadata, "spec": spec})


KAFKA_CHANNELS: list[tuple[dict[str, Any], str]] = [
    ({}, ""),
    ({"numPartitions": 0}, "invalid value: 0: spec.numPartitions"),
    ({"replicationFactor": -1}, "invalid value: -1: spec.replicationFactor"),
    ({"replicationFactor": 32_768}, "invalid value: 32768: spec.replicationFactor"),
    ({"retentionDuration": "a week"}, "invalid value: a week: spec.retentionDuration"),
    ({"retentionDuration": "PT0S"}, "invalid value: PT0S: spec.retentionDuration"),
    ({"retentionDuration": "PT0.0005S"}, "invalid value: PT0.0005S: spec.retentionDuration"),
    ({"delivery": {"retry": -1}}, "invalid value: -1: spec.delivery.retry"),
    ({"subscribers": [{"uid": "1", "replyUri": "http://r/"}]}, ""),
    (
        {"subscribers": [{"uid": "1"}]},
        "missing field(s): spec.subscribable.subscriber[0].replyURI,"
        " spec.subscribable.subscriber[0].subscriberURI\nexpected at least one of, got none",
    ),
]


@pytest.mark.parametrize(("spec", "expected"), KAFKA_CHANNELS)
def test_kafka_channels(spec: dict[str, Any], expected: str) -> None:
    """The first line is Knative's text."""
    found = render(kafka_channel.validate(kafka_channel.default(of(KAFKA_CHANNEL, spec))))
    assert found.startswith(expected) if expected else not found


def test_the_scope_of_a_channel_is_cluster_or_namespace() -> None:
    """As an annotation; Headrace serves both in the same way."""
    for value, message in (
        ("cluster", ""),
        ("namespace", ""),
        (
            "x",
            "invalid value: x: metadata.annotations.[eventing.knative.dev/scope]\n"
            "expected either 'cluster' or 'namespace'",
        ),
    ):
        scoped = of(KAFKA_CHANNEL, {}, **{"eventing.knative.dev/scope": value})
        assert render(kafka_channel.validate(kafka_channel.default(scoped))) == message


def test_the_topic_of_a_kafka_channel_is_immutable() -> None:
    """Subscribers and delivery may change, and a retention may be added to an object without."""
    old = kafka_channel.default(of(KAFKA_CHANNEL, {}))
    for spec, changed in (
        ({"delivery": {"retry": 3}, "subscribers": [{"uid": "1"}]}, False),
        ({"numPartitions": 2}, True),
        ({"replicationFactor": 2}, True),
        ({"retentionDuration": "PT1H"}, True),
    ):
        new = kafka_channel.default(of(KAFKA_CHANNEL, spec))
        found = render(kafka_channel.validate_update(new, old))
        assert found.startswith("Immutable fields changed (-old +new): spec") == changed
    stored = of(KAFKA_CHANNEL, {"numPartitions": 1, "replicationFactor": 1})
    longer = kafka_channel.default(of(KAFKA_CHANNEL, {"retentionDuration": "PT1H"}))
    assert kafka_channel.validate_update(longer, stored) == []


CHANNELS: list[tuple[dict[str, Any], str]] = [
    ({}, ""),
    ({"channelTemplate": {"kind": "K"}}, "missing field(s): spec.channelTemplate.apiVersion"),
    ({"channelTemplate": {"apiVersion": "v1"}}, "missing field(s): spec.channelTemplate.kind"),
    (
        {"channelTemplate": {**TEMPLATE, "spec": "x"}},
        "invalid value: str: spec.channelTemplate.spec\nexpected an object",
    ),
    (
        {"subscribers": [{"uid": "1", "replyUri": "http://r/"}]},
        "must not set the field(s): spec.subscribable.subscribers",
    ),
]


@pytest.mark.parametrize(("spec", "expected"), CHANNELS)
def test_channels(spec: dict[str, Any], expected: str) -> None:
    """The template has a default; subscribers are not for users."""
    found = render(channel.validate(channel.default(of(CHANNEL, spec))))
    assert found == expected


@pytest.mark.clause("C3")
def test_the_template_of_a_channel_is_immutable() -> None:
    """So is its delivery; an object that was stored without a template may get one."""
    old = channel.default(of(CHANNEL, {}))
    other = {**TEMPLATE, "spec": {"numPartitions": 3}}
    for spec in ({"channelTemplate": other}, {"delivery": {"retry": 1}}):
        new = channel.default(of(CHANNEL, spec))
        text = render(channel.validate_update(new, old))
        assert text.startswith("Immutable fields changed (-old +new): spec\n{v1.ChannelSpec}")
    bare = of(CHANNEL, {})
    assert (
        channel.validate_update(channel.default(of(CHANNEL, {"channelTemplate": other})), bare)
        == []
    )


SUBSCRIPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"channel": NAMED, "subscriber": SUBSCRIBER}, ""),
    ({"channel": NAMED, "reply": SUBSCRIBER}, ""),
    (
        {"subscriber": SUBSCRIBER},
        "missing field(s): spec.channel\nthe Subscription must reference a channel",
    ),
    (
        {"channel": NAMED},
        "missing field(s): spec.subscriber\nthe Subscription must reference a subscriber",
    ),
    (
        {"channel": {"kind": "Channel"}, "subscriber": SUBSCRIBER},
        "missing field(s): spec.channel.apiVersion, spec.channel.name",
    ),
    (
        {"channel": {**NAMED, "namespace": "other"}, "subscriber": SUBSCRIBER},
        "must not set the field(s): spec.channel.namespace\nonly name, apiVersion and kind are"
        " supported fields when feature.CrossNamespaceEventLinks is disabled",
    ),
    (
        {"channel": NAMED, "subscriber": {"uri": "/relative"}},
        "invalid value: Relative URI is not allowed when Ref and [apiVersion, kind, name] is"
        " absent: spec.subscriber.uri",
    ),
    (
        {"channel": NAMED, "subscriber": SUBSCRIBER, "delivery": {"timeout": "PT0S"}},
        "invalid value: PT0S: spec.delivery.timeout\nexpected a duration above zero",
    ),
]


@pytest.mark.parametrize(("spec", "expected"), SUBSCRIPTIONS)
def test_subscriptions(spec: dict[str, Any], expected: str) -> None:
    """Channel and subscriber are required; the channel is in the same namespace."""
    found = subscription.validate(subscription.default(of(SUBSCRIPTION, spec)))
    assert render(found) == expected


@pytest.mark.clause("S2")
def test_the_channel_of_a_subscription_is_immutable() -> None:
    """And may be in another namespace only with the flag."""
    old = of(SUBSCRIPTION, {"channel": NAMED, "subscriber": SUBSCRIBER})
    new = of(SUBSCRIPTION, {"channel": {**NAMED, "name": "b"}, "subscriber": SUBSCRIBER})
    expected = (
        "Immutable fields changed (-old +new): spec\n"
        '{v1.SubscriptionSpec}.Channel.Name:\n\t-: "orders"\n\t+: "b"\n'
    )
    assert render(subscription.validate_update(new, old)) == expected
    elsewhere = {"channel": {**NAMED, "namespace": "other"}, "subscriber": SUBSCRIBER}
    links = SystemConfig(features=Features(cross_namespace_event_links=True))
    assert subscription.validate(of(SUBSCRIPTION, elsewhere), links) == []


def test_a_subscriber_that_can_never_be_called_is_a_warning() -> None:
    """As for a Trigger; replies too."""
    odd = {"channel": NAMED, "subscriber": {"uri": "kafka://x/"}, "reply": {"uri": "ftp://x/"}}
    found = subscription.remarks(of(SUBSCRIPTION, odd))
    assert [each.rpartition("change ")[2] for each in found] == [
        "spec.subscriber.uri",
        "spec.reply.uri",
    ]


DOCUMENTS: list[tuple[Any, str]] = [
    ({}, ""),
    ({"clusterDefault": TEMPLATE}, ""),
    ({"clusterDefault": {"kind": "K"}}, "missing field(s): clusterDefault.apiVersion"),
    (
        {"namespaceDefaults": {"shop": {**TEMPLATE, "spec": 5}}},
        "invalid value: int: namespaceDefaults.shop.spec\nexpected a mapping",
    ),
    (
        {"clusterDefaults": TEMPLATE},
        "invalid value: clusterDefaults: clusterDefaults\n"
        "expected one of clusterDefault, namespaceDefaults",
    ),
    (
        {"clusterDefault": {**TEMPLATE, "kind": 5}},
        "invalid value: int: clusterDefault.kind\nexpected text",
    ),
    ([], "invalid value: list: default-ch-config\nexpected a mapping"),
]


@pytest.mark.parametrize(("document", "expected"), DOCUMENTS)
def test_documents_of_channel_defaults(document: Any, expected: str) -> None:
    """Errors name the field."""
    assert render(read_defaults(document)[1]) == expected


def test_the_template_of_the_namespace_takes_precedence() -> None:
    """Then the cluster's, then the built-in one."""
    wide, own = {**TEMPLATE, "spec": {"numPartitions": 2}}, {**TEMPLATE, "spec": {}}
    defaults, errors = read_defaults({"clusterDefault": wide, "namespaceDefaults": {"shop": own}})
    assert errors == []
    assert (defaults.template_in("shop"), defaults.template_in("other")) == (own, wide)
    assert ChannelDefaults().template_in("shop") == BUILT_IN_TEMPLATE
