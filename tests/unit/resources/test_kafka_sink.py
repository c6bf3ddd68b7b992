"""The rules of a KafkaSink."""

from typing import Any

import pytest

from headrace.domain.field_errors import render
from headrace.domain.routing import Format
from headrace.resources.kafka_sink import (
    RULES,
    bootstrap_servers,
    creates_topic,
    format_of,
    topic_config,
    warnings,
)
from headrace.resources.kind_rules import default_and_validate
from headrace.resources.kinds import KAFKA_SINK
from headrace.resources.resource import Resource


def sink(**spec: Any) -> Resource:
    """A KafkaSink."""
    metadata = {"namespace": "shop", "name": "archive"}
    return Resource(KAFKA_SINK, {"metadata": metadata, "spec": {"topic": "orders", **spec}})


@pytest.mark.parametrize("topic", ["orders", "a.b_c-D.1", "...", "x" * 249])
def test_a_topic_that_kafka_allows(topic: str) -> None:
    """Nothing else is required."""
    assert default_and_validate(sink(topic=topic), RULES)[1] == []


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"topic": ""}, "missing field(s): spec.topic"),
        ({"topic": "my topic"}, "invalid value: my topic: spec.topic"),
        ({"topic": "."}, "invalid value: .: spec.topic"),
        ({"topic": ".."}, "invalid value: ..: spec.topic"),
        ({"topic": "orders\n"}, "invalid value: orders\n: spec.topic"),
        ({"topic": "jetstream:orders"}, "invalid value: jetstream:orders: spec.topic"),
        ({"topic": "x" * 250}, f"invalid value: {'x' * 250}: spec.topic"),
        ({"contentMode": "batched"}, "invalid value: batched: spec.contentMode"),
        ({"numPartitions": 0}, "invalid value: 0: spec.numPartitions"),
        ({"replicationFactor": 32_768}, "invalid value: 32768: spec.replicationFactor"),
    ],
)
def test_what_is_wrong_is_named(spec: dict[str, Any], expected: str) -> None:
    """With the field, in Knative's words."""
    assert render(default_and_validate(sink(**spec), RULES)[1]).startswith(expected)


def test_the_topic_does_not_change() -> None:
    """Nor does how it is created, which may not be added either. Everything else may."""
    before = sink(replicationFactor=1)
    after = sink(topic="new", numPartitions=3, replicationFactor=1)
    assert render(RULES.validate_update(after, before)) == (
        "Immutable field updated: spec.numPartitions, spec.topic"
    )
    changed = sink(replicationFactor=1, contentMode="structured", bootstrapServers=["k:1"])
    assert RULES.validate_update(changed, before) == []


def test_what_has_no_effect_is_a_warning() -> None:
    """Credentials, and half of what creates a topic."""
    auth = {"secret": {"ref": {"name": "kafka"}}}
    assert [each.partition(" has")[0] for each in warnings(sink(auth=auth, numPartitions=3))] == [
        "spec.auth",
        "spec.numPartitions",
    ]
    assert warnings(sink(numPartitions=3, replicationFactor=1)) == []


def test_a_topic_is_created_with_both_numbers() -> None:
    """With the settings that an acknowledged event relies on, and no others."""
    assert not creates_topic(sink(replicationFactor=3))
    made = sink(numPartitions=6, replicationFactor=3)
    assert creates_topic(made)
    config = topic_config(made)
    assert (config.partitions, config.replication) == (6, 3)
    assert config.settings == {"min.insync.replicas": "2"}
    assert topic_config(sink(numPartitions=1, replicationFactor=2)).settings == {}


def test_forms_and_addresses() -> None:
    """Binary is the default; an entry may have several addresses."""
    assert format_of(sink()) is format_of(sink(contentMode="binary")) is Format.BINARY
    assert format_of(sink(contentMode="structured")) is Format.JSON
    given = sink(bootstrapServers=["a:1, b:2", "c:3"])
    assert bootstrap_servers(given) == ["a:1", "b:2", "c:3"]
    assert bootstrap_servers(sink()) == []
