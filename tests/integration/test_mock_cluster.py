"""The embedded Kafka: what `headrace up` relies on when it uses no other Kafka."""

import time
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, Producer

from headrace.adapters.kafka.local import mock_cluster
from headrace.adapters.kafka.local.mock_cluster import MockCluster
from headrace.domain.errors import Permanent


@pytest.fixture
def cluster() -> Iterator[MockCluster]:
    """A running cluster."""
    started = MockCluster()
    started.start()
    yield started
    started.stop()


def _first_record(servers: str, topic: str) -> tuple[bytes | None, float]:
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "g",
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 10,
        }
    )
    began_at = time.monotonic()
    try:
        consumer.subscribe([topic])
        message = consumer.poll(10)
        return (None if message is None else message.value()), time.monotonic() - began_at
    finally:
        consumer.close()


def test_a_group_gets_its_partitions_at_once(cluster: MockCluster) -> None:
    """A new group reads its first record within 2 s, not after the mock's own initial delay
    of 3 s.
    """
    producer = Producer(
        {"bootstrap.servers": cluster.bootstrap_servers, "enable.idempotence": True}
    )
    producer.produce("events", b"x")
    assert 0 == producer.flush(10)
    value, seconds = _first_record(cluster.bootstrap_servers, "events")
    assert b"x" == value
    assert cluster.tuned
    assert seconds < 2.0


def test_topics_have_the_requested_partitions(cluster: MockCluster) -> None:
    """`create_topic` is exact and refuses a second topic with the same name."""
    assert cluster.create_topic("ten", 10)
    assert not cluster.create_topic("ten", 10)
    producer = Producer({"bootstrap.servers": cluster.bootstrap_servers})
    assert 10 == len(producer.list_topics("ten", timeout=5).topics["ten"].partitions)


def test_without_the_c_interface_it_still_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the wheel has its library in another place, the plain cluster is used: without topic
    administration, with the same log.
    """
    monkeypatch.setattr(mock_cluster, "_library", lambda: None)
    plain = MockCluster()
    plain.start()
    try:
        assert not plain.tuned
        assert not plain.create_topic("ten", 10)
        producer = Producer({"bootstrap.servers": plain.bootstrap_servers})
        producer.produce("events", b"x")
        assert 0 == producer.flush(10)
    finally:
        plain.stop()


def test_it_has_no_address_before_its_start() -> None:
    """Requesting the address of a cluster that is not running is an error with this message."""
    with pytest.raises(Permanent, match="has not been started"):
        _ = MockCluster().bootstrap_servers
