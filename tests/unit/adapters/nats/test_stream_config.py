"""Settings of topics as configurations of streams."""

import pytest

from headrace.adapters.nats.stream_config import (
    InvalidSettings,
    altered_config,
    stream_config,
    topic_description,
)
from headrace.resources.control_ports import TopicSpec

SPEC = TopicSpec(
    name="jetstream:orders",
    partitions=1,
    replication=3,
    settings={
        "retention.ms": "5000",
        "max.message.bytes": "851968",
        "cleanup.policy": "delete",
        "jetstream.discard": "new",
        "jetstream.retention.messages": "7",
    },
)


def test_a_topic_is_described_with_the_settings_it_was_created_with() -> None:
    """Those that JetStream does not have too."""
    config = stream_config(SPEC, message_bytes_max=1_048_576)
    assert (3, 5_000_000_000, 5_000_000_000, 983_040, "new", 7) == (
        config["num_replicas"],
        config["max_age"],
        config["duplicate_window"],
        config["max_msg_size"],
        config["discard"],
        config["max_msgs"],
    )
    facts = topic_description(SPEC.name, {"config": config, "created": "now"})
    assert SPEC.settings.items() <= facts.settings.items()
    assert (1, 3, "now") == (facts.partitions, facts.replication, facts.id)


def test_what_another_program_changed_shows_in_the_description() -> None:
    """The controller can then correct it."""
    config = stream_config(SPEC, message_bytes_max=-1) | {"max_age": 0, "max_bytes": 9}
    settings = topic_description(SPEC.name, {"config": config, "created": ""}).settings
    assert ("-1", "9") == (settings["retention.ms"], settings["retention.bytes"])


def test_an_alteration_keeps_the_other_settings() -> None:
    """One is changed."""
    config = altered_config(
        stream_config(SPEC, message_bytes_max=-1), {"retention.ms": "-1"}, message_bytes_max=-1
    )
    settings = topic_description(SPEC.name, {"config": config, "created": ""}).settings
    assert {**SPEC.settings, "retention.ms": "-1"}.items() <= settings.items()


@pytest.mark.parametrize(
    ("partitions", "settings", "reason"),
    [
        (4, {}, "has 1 partition, 4 were requested"),
        (1, {"max.message.bytes": "917505"}, "needs max_payload of at least 1048577"),
        (1, {"retention.ms": "week"}, "retention.ms must be a whole number, not week"),
    ],
)
def test_settings_that_no_stream_can_have(
    partitions: int, settings: dict[str, str], reason: str
) -> None:
    """Are refused with the setting and the limit."""
    spec = TopicSpec(
        name="jetstream:orders", partitions=partitions, replication=1, settings=settings
    )
    with pytest.raises(InvalidSettings) as raised:
        stream_config(spec, message_bytes_max=1_048_576)
    assert reason in raised.value.reason
