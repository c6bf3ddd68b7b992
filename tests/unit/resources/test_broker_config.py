"""The settings of a Broker's topic: defaults, settings that are passed on, and refusals with key
and limit.
"""

from collections.abc import Mapping

import pytest

from headrace.resources.broker_config import InvalidConfig, read_config


@pytest.mark.parametrize(
    ("data", "brokers", "expected"),
    [
        ({}, 3, (10, 3, "2")),
        ({}, 5, (10, 3, "2")),
        ({}, 2, (10, 2, None)),
        ({}, 1, (10, 1, None)),
        (
            {"default.topic.partitions": "4", "default.topic.replication.factor": "3"},
            1,
            (4, 3, "2"),
        ),
        ({"default.topic.partitions": " 4 "}, 1, (4, 1, None)),
        (
            {
                "default.topic.replication.factor": "3",
                "default.topic.config.min.insync.replicas": "1",
            },
            3,
            (10, 3, "1"),
        ),
        ({"bootstrap.servers": "elsewhere:9092"}, 1, (10, 1, None)),
    ],
)
def test_partitions_replicas_and_insync(
    data: Mapping[str, str], brokers: int, expected: tuple[int, int, str | None]
) -> None:
    """Requested values are not adjusted; defaults are as safe as the cluster allows."""
    config = read_config(data, brokers=brokers)
    assert expected == (
        config.partitions,
        config.replication,
        config.settings.get("min.insync.replicas"),
    )


def test_fewer_replicas_than_three_are_warned_about_unless_asked_for() -> None:
    """One sentence states the consequence."""
    assert "1 of 3 replicas" in read_config({}, brokers=1).warnings[0]
    assert () == read_config({"default.topic.replication.factor": "1"}, brokers=1).warnings


def test_keys_without_effect_are_reported() -> None:
    """An unused secret, and a misspelt key; not the address, nor the example in Knative's own
    ConfigMaps.
    """
    quiet = {
        "bootstrap.servers": "x:1",
        "_example": "…",
        "default.topic.config.retention.ms": "1",
        "default.topic.partitions": "1",
    }
    assert () == read_config(quiet, brokers=3).unused
    secret, unknown = read_config(
        {**quiet, "auth.secret.ref.name": "s", "default.topic.partition": "3"}, brokers=3
    ).unused
    assert secret.startswith(
        "auth.secret.ref.name is not used: Headrace connects to Kafka with the credentials"
    )
    assert (
        unknown == "unknown keys: default.topic.partition (did you mean default.topic.partitions?)"
    )
    assert read_config({f"k{number}": "" for number in range(7)}, brokers=3).unused == (
        "unknown keys: k0, k1, k2, k3, k4 and 2 more",
    )


def test_any_setting_is_passed_on() -> None:
    """Under its own name; the size limit has a default of 1 MiB."""
    config = read_config({"default.topic.config.retention.ms": "5", "unrelated": "x"}, brokers=1)
    assert {"retention.ms": "5", "max.message.bytes": "1048576"} == config.settings
    assert (
        2_000_000
        == read_config({"default.topic.config.max.message.bytes": "2000000"}, brokers=1).bytes_max
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"default.topic.partitions": "0"},
            "default.topic.partitions: '0' is not a number from 1 to 10000",
        ),
        (
            {"default.topic.partitions": "10001"},
            "default.topic.partitions: '10001' is not a number from 1 to 10000",
        ),
        ({"default.topic.partitions": "٣"}, "default.topic.partitions: '٣' is not a number"),
        ({"default.topic.partitions": "9" * 5000}, "is not a number from 1 to 10000"),
        (
            {"default.topic.replication.factor": "-1"},
            "default.topic.replication.factor: '-1' is not a number from 1 to 100",
        ),
        ({"default.topic.config.max.message.bytes": "100"}, "'100' is not a number above 131072"),
        ({"default.topic.config.cleanup.policy": "compact"}, "only delete is possible"),
    ],
)
def test_wrong_values_are_refused_by_name(data: Mapping[str, str], message: str) -> None:
    """Key, value and limit are in the message."""
    with pytest.raises(InvalidConfig) as raised:
        read_config(data, brokers=3)
    assert message in str(raised.value)
