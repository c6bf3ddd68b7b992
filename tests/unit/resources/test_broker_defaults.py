"""Defaults of Brokers: by namespace, by class, for the cluster; and the errors of their
document.
"""

from typing import Any

import pytest

from headrace.domain.field_errors import render
from headrace.resources.broker_defaults import DEFAULT_CONFIG, BrokerDefaults, read_defaults
from headrace.resources.kinds import BROKER
from headrace.resources.resource import Resource
from headrace.resources.system_config import SystemConfig
from tests.support.api_admission import admit, refusal

CLASS = "eventing.knative.dev/broker.class"


def config(name: str, namespace: str = "system") -> dict[str, str]:
    """A reference to a ConfigMap, inline as in the document."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "name": name, "namespace": namespace}


DOCUMENT: dict[str, Any] = {
    "clusterDefault": {
        "brokerClass": "Kafka",
        **config("wide"),
        "delivery": {
            "retry": 7,
            "backoffPolicy": "linear",
            "deadLetterSink": {"ref": {"apiVersion": "v1", "kind": "Service", "name": "dls"}},
        },
        "brokerClasses": {"Other": config("other")},
    },
    "namespaceDefaults": {
        "own": {
            "brokerClass": "Other",
            **config("mine", "own"),
            "brokerClasses": {"Kafka": {**config("kafka", "own"), "delivery": {"retry": 1}}},
        },
        "class-only": {"brokerClass": "Other"},
        "delivery-only": {"delivery": {"retry": 2}},
        "strict": {"disallowDifferentNamespaceConfig": True},
    },
}


def defaults(document: Any = DOCUMENT) -> BrokerDefaults:
    """Read, and without errors."""
    found, errors = read_defaults(document)
    assert [] == errors
    return found


def broker(namespace: str, spec: Any = None, broker_class: str | None = None) -> Resource:
    """A Broker as a user writes it."""
    metadata: dict[str, Any] = {"name": "x", "namespace": namespace}
    if broker_class:
        metadata["annotations"] = {CLASS: broker_class}
    return Resource(
        BROKER,
        {
            "apiVersion": "eventing.knative.dev/v1",
            "kind": "Broker",
            "metadata": metadata,
            "spec": spec or {},
        },
    )


@pytest.mark.parametrize(
    ("namespace", "broker_class", "expected_class", "expected_config", "retry"),
    [
        ("any", None, "Kafka", config("wide"), 7),
        ("any", "Other", "Other", config("other"), None),
        ("any", "Third", "Third", config("wide"), 7),
        ("own", None, "Other", config("mine", "own"), None),
        ("own", "Kafka", "Kafka", config("kafka", "own"), 1),
        ("own", "Third", "Third", config("wide"), 7),
        ("class-only", None, "Other", config("other"), None),
        ("delivery-only", None, "Kafka", config("wide"), 2),
    ],
)
def test_the_most_specific_value_applies(
    namespace: str,
    broker_class: str | None,
    expected_class: str,
    expected_config: dict[str, str],
    retry: int | None,
) -> None:
    """A namespace's value overrides the cluster's, a class's overrides the general one; delivery
    comes from the same place as the config.
    """
    admitted = admit(
        broker(namespace, broker_class=broker_class),
        system=SystemConfig(broker_defaults=defaults()),
    )
    assert expected_class == admitted.annotations[CLASS]
    assert expected_config == admitted.spec["config"]
    assert retry == admitted.spec.get("delivery", {}).get("retry")


def test_the_default_is_the_kafka_class_with_its_config_map() -> None:
    """Without a document, and with an empty one."""
    documents: list[Any] = [None, {}, {"clusterDefault": {}}]
    for document in documents:
        found = defaults(document)
        assert ("Kafka", DEFAULT_CONFIG) == (found.class_in("any"), found.of("any", "Kafka").config)


def test_the_values_of_a_broker_are_kept() -> None:
    """Config and delivery are each set only where they are absent; an empty delivery block is not
    absent.
    """
    said = {"config": config("own", "any"), "delivery": {"retry": 0}}
    admitted = admit(broker("any", said), system=SystemConfig(broker_defaults=defaults()))
    assert said == admitted.spec
    assert (
        {}
        == admit(
            broker("any", {"delivery": {}}), system=SystemConfig(broker_defaults=defaults())
        ).spec["delivery"]
    )


def test_references_in_defaults_are_to_the_brokers_own_namespace() -> None:
    """A dead letter sink without a namespace is in the Broker's; so is a config without one."""
    admitted = admit(broker("any"), system=SystemConfig(broker_defaults=defaults()))
    assert "any" == admitted.spec["delivery"]["deadLetterSink"]["ref"]["namespace"]
    bare = {"clusterDefault": {"apiVersion": "v1", "kind": "ConfigMap", "name": "here"}}
    assert (
        "any"
        == admit(broker("any"), system=SystemConfig(broker_defaults=defaults(bare))).spec["config"][
            "namespace"
        ]
    )


@pytest.mark.parametrize(
    ("cluster", "own", "refused"),
    [
        (True, None, True),
        (None, True, True),
        (True, False, False),
        (False, True, True),
        (None, None, False),
    ],
)
def test_a_config_elsewhere_can_be_disallowed(
    cluster: bool | None, own: bool | None, refused: bool
) -> None:
    """For the cluster, and for a namespace, which overrides it."""
    document = {
        "clusterDefault": {"disallowDifferentNamespaceConfig": cluster},
        "namespaceDefaults": {"any": {"disallowDifferentNamespaceConfig": own}},
    }
    system = SystemConfig(broker_defaults=defaults(document))
    made = broker("any", {"config": config("c", "elsewhere")})
    if refused:
        expected = (
            'mismatched namespaces: spec.config.namespace\nparent namespace: "any" does not match'
            ' ref: "elsewhere"'
        )
        assert expected == refusal(made, system=system)
    else:
        assert config("c", "elsewhere") == admit(made, system=system).spec["config"]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "invalid value: list: default-br-config\nexpected a mapping"),
        (
            {"clusterDefaults": {}},
            (
                "invalid value: clusterDefaults: clusterDefaults\nexpected clusterDefault or"
                " namespaceDefaults"
            ),
        ),
        (
            {"clusterDefault": {"name": "x"}},
            "missing field(s): clusterDefault.apiVersion, clusterDefault.kind",
        ),
        (
            {"clusterDefault": {"delivery": {"retry": -1}}},
            "invalid value: -1: clusterDefault.delivery.retry",
        ),
        (
            {"clusterDefault": {"delivery": {"deadLetterSink": {}}}},
            "expected at least one, got none: ",
        ),
        (
            {"namespaceDefaults": {"a": {"brokerClass": 1}}},
            "invalid value: int: namespaceDefaults.a.brokerClass\nexpected text",
        ),
        (
            {"namespaceDefaults": {"a": 1}},
            "invalid value: int: namespaceDefaults.a\nexpected a mapping",
        ),
        (
            {"clusterDefault": {"disallowDifferentNamespaceConfig": "yes"}},
            "invalid value: yes: clusterDefault.disallowDifferent",
        ),
        (
            {"clusterDefault": {"brokerClasses": {"K": {"kind": "ConfigMap"}}}},
            "missing field(s): clusterDefault.brokerClasses.K.apiVersion",
        ),
    ],
)
def test_errors_are_reported_with_their_path(document: Any, message: str) -> None:
    """Nothing is raised, whatever is in the document."""
    assert render(read_defaults(document)[1]).startswith(message)
