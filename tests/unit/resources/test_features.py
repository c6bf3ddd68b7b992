"""Feature flags: their effect, case-insensitive values, and errors for features that are not
implemented.
"""

from typing import Any

import pytest

from headrace.domain.field_errors import render
from headrace.resources.features import Features, read_features
from headrace.resources.kinds import BROKER, CONFIG_MAP, TRIGGER
from headrace.resources.resource import Resource
from headrace.resources.system_config import SystemConfig
from tests.support.api_admission import admit, refusal

SINK = {"uri": "http://sink.example/"}
CROSS = {
    "apiVersion": "eventing.knative.dev/v1",
    "kind": "Broker",
    "name": "b",
    "namespace": "other",
}


def trigger(**spec: Any) -> Resource:
    """A valid Trigger, apart from `spec`."""
    whole = {"broker": "default", "subscriber": SINK, **spec}
    return Resource(
        TRIGGER,
        {
            "apiVersion": TRIGGER.api_version,
            "kind": "Trigger",
            "metadata": {"name": "x", "namespace": "ns"},
            "spec": whole,
        },
    )


@pytest.mark.parametrize(
    ("flag", "value", "expected"),
    [
        ("eventtype-auto-create", "enabled", Features(eventtype_auto_create=True)),
        ("eventtype-auto-create", "Enabled ", Features(eventtype_auto_create=True)),
        ("eventtype-auto-create", "DISABLED", Features()),
        ("eventtype-auto-create", "allowed", Features()),
        ("new-apiserversource-filters", "enabled", Features(api_server_source_filters=True)),
        ("delivery-timeout", "disabled", Features(delivery_timeout=False)),
        ("delivery-retryafter", "disabled", Features(delivery_retry_after=False)),
        ("delivery-backoff-max", "disabled", Features(delivery_backoff_max=False)),
        ("kreference-group", "enabled", Features(kreference_group=True)),
        ("cross-namespace-event-links", "enabled", Features(cross_namespace_event_links=True)),
        ("requestreply-default-timeout", "enabled", Features()),
        ("authentication-oidc", "disabled", Features()),
        ("transport-encryption", "Disabled", Features()),
        ("default-authorization-mode", "allow-same-namespace", Features()),
    ],
)
def test_a_flag_switches_what_it_names(flag: str, value: str, expected: Features) -> None:
    """Values are case-insensitive; flags of components that do not exist here are ignored."""
    assert (expected, []) == read_features({flag: value})


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        (
            "delivery-timeout",
            "yes",
            "invalid value: yes: data.delivery-timeout\nexpected enabled or disabled",
        ),
        (
            "transport-encryption",
            "Strict",
            (
                "invalid value: Strict: data.transport-encryption\nnot available in this version,"
                " addresses of Brokers are those that the ingress is configured with;"
                " expected disabled"
            ),
        ),
        (
            "authentication-oidc",
            "enabled",
            (
                "invalid value: enabled: data.authentication-oidc\nnot available in this version,"
                " tokens are neither sent nor checked; expected disabled or allowed"
            ),
        ),
        (
            "default-authorization-mode",
            "deny-all",
            (
                "invalid value: deny-all: data.default-authorization-mode\nnot available in this"
                " version, there are no policies: every client that can reach the ingress may send"
                " events; expected allow-same-namespace or allow-all"
            ),
        ),
    ],
)
def test_unavailable_features_are_refused(flag: str, value: str, message: str) -> None:
    """A user who enables encryption must not believe that it is active: the ConfigMap is refused,
    in Knative's format.
    """
    assert message == render(read_features({flag: value})[1])
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "config-features", "namespace": "knative-eventing"},
        "data": {flag: value},
    }
    assert message == refusal(Resource(CONFIG_MAP, config_map))


def test_an_invalid_value_keeps_its_flag() -> None:
    """The other flags are read nevertheless."""
    before = Features(eventtype_auto_create=True)
    now, errors = read_features(
        {"eventtype-auto-create": "maybe", "kreference-group": "enabled"}, before=before
    )
    assert Features(eventtype_auto_create=True, kreference_group=True) == now
    assert 1 == len(errors)


@pytest.mark.parametrize(
    ("features", "spec", "message"),
    [
        (
            Features(delivery_timeout=False),
            {"delivery": {"timeout": "PT1S"}},
            "must not set the field(s): spec.delivery.timeout",
        ),
        (
            Features(delivery_retry_after=False),
            {"delivery": {"retryAfterMax": "PT1S"}},
            "must not set the field(s): spec.delivery.retryAfterMax",
        ),
        (
            Features(delivery_backoff_max=False),
            {"delivery": {"backoffMax": "PT1S"}},
            "must not set the field(s): spec.delivery.backoffMax",
        ),
        (
            Features(),
            {"broker": "", "brokerRef": CROSS},
            (
                "must not set the field(s): spec.brokerRef.namespace\nonly name, apiVersion and"
                " kind are supported fields when feature.CrossNamespaceEventLinks is disabled"
            ),
        ),
        (Features(cross_namespace_event_links=True), {"broker": "", "brokerRef": CROSS}, ""),
        (
            Features(),
            {
                "subscriber": {
                    "ref": {"group": "messaging.knative.dev", "kind": "Channel", "name": "c"}
                }
            },
            "missing field(s): spec.subscriber.ref.apiVersion",
        ),
        (
            Features(kreference_group=True),
            {
                "subscriber": {
                    "ref": {"group": "messaging.knative.dev", "kind": "Channel", "name": "c"}
                }
            },
            "",
        ),
        (
            Features(),
            {
                "subscriber": {
                    "ref": {"group": "g", "apiVersion": "g/v1", "kind": "Channel", "name": "c"}
                }
            },
            (
                "expected exactly one, got both: spec.subscriber.ref.apiVersion,"
                " spec.subscriber.ref.group"
            ),
        ),
        (
            Features(kreference_group=True),
            {"subscriber": {"ref": {"kind": "Channel", "name": "c"}}},
            "missing field(s): spec.subscriber.ref.apiVersion, spec.subscriber.ref.group",
        ),
        (
            Features(kreference_group=True),
            {
                "subscriber": {
                    "ref": {"group": "g", "apiVersion": "g/v1", "kind": "Channel", "name": "c"}
                }
            },
            (
                "expected exactly one, got both: spec.subscriber.ref.apiVersion,"
                " spec.subscriber.ref.group"
            ),
        ),
    ],
)
def test_a_field_needs_its_flag(features: Features, spec: dict[str, Any], message: str) -> None:
    """If it is off, the field is refused with Knative's message."""
    system = SystemConfig(features)
    if message:
        assert message == refusal(trigger(**spec), system=system)
    else:
        admitted = admit(trigger(**spec), system=system).spec
        assert spec.keys() <= admitted.keys()


def test_flags_hold_for_brokers_too() -> None:
    """The delivery block of a Broker has the same flags."""
    broker = {
        "apiVersion": BROKER.api_version,
        "kind": "Broker",
        "metadata": {"name": "x", "namespace": "ns"},
        "spec": {"delivery": {"timeout": "PT1S"}},
    }
    refused = refusal(
        Resource(BROKER, broker), system=SystemConfig(Features(delivery_timeout=False))
    )
    assert "must not set the field(s): spec.delivery.timeout" == refused
