"""The embedded Kafka: what `headrace up` relies on when it uses no other Kafka."""

import time
from collections.abc import Iterator, MutableMapping, Sequence
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer
from structlog.testing import capture_logs

from headrace.adapters.kafka.control.routing import KafkaRoutingReader
from headrace.adapters.kafka.control.source_leases import KafkaSourceLeases
from headrace.adapters.kafka.local import mock_cluster
from headrace.adapters.kafka.local.mock_cluster import MockCluster
from headrace.adapters.kafka.options import KafkaOptions
from headrace.adapters.kafka.producer import KafkaLog
from headrace.domain.errors import LogUnavailable, Permanent
from tests.support.wait_until import wait_until_async


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
    """A new group reads its first record before the mock's own initial delay of 3 s has passed."""
    producer = Producer(
        {"bootstrap.servers": cluster.bootstrap_servers, "enable.idempotence": True}
    )
    producer.produce("events", b"x")
    assert 0 == producer.flush(10)
    value, seconds = _first_record(cluster.bootstrap_servers, "events")
    assert b"x" == value
    assert cluster.tuned
    assert seconds < 3.0


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


async def test_another_process_reports_what_it_lacks(cluster: MockCluster) -> None:
    """`headrace up` keeps its routing table in its own memory: the embedded Kafka has no topic of
    it, and a service that is pointed at it reports that and the next command.
    """
    reader = KafkaRoutingReader(_options(cluster), start_seconds=2.0)
    try:
        with capture_logs() as logs, pytest.raises(LogUnavailable) as raised:
            await reader.start()
    finally:
        await reader.stop()
    for text in (str(raised.value), str(reader.problem)):
        assert "topic headrace.routing does not exist" in text
        assert "`headrace controller`" in text
        assert "`headrace up --kafka apache`" in text
    [logged] = [each for each in logs if each["event"] == "topic_not_readable"]
    assert "does not exist" in logged["error"]
    assert "check Kafka" not in logged["next_step"]


async def test_a_missing_topic_of_leases_is_reported(cluster: MockCluster) -> None:
    """A controller of an earlier version does not create it: no source would run, and nothing
    would say why.
    """
    options = _options(cluster)
    log = KafkaLog(options)
    await log.start()
    leases = KafkaSourceLeases(options, log)
    try:
        with capture_logs() as logs:
            await leases.start(_NoListener())
            await wait_until_async(lambda: bool(_failures(logs)), 20.0, what="a warning")
    finally:
        await leases.stop()
        await log.stop()
    warning = _failures(logs)[0]
    assert "topic headrace.sources does not exist" in warning["error"]
    assert "`headrace controller`" in warning["error"]


def _failures(logs: Sequence[MutableMapping[str, Any]]) -> list[MutableMapping[str, Any]]:
    return [each for each in logs if each["event"] == "source_leases_failed"]


def _options(cluster: MockCluster) -> KafkaOptions:
    return KafkaOptions(bootstrap_servers=cluster.bootstrap_servers, client_id="other")


class _NoListener:
    def on_acquired(self) -> None:
        """See `LeaseListener`."""

    async def on_released(self) -> None:
        """See `LeaseListener`."""


def test_it_has_no_address_before_its_start() -> None:
    """Requesting the address of a cluster that is not running is an error with this message."""
    with pytest.raises(Permanent, match="has not been started"):
        _ = MockCluster().bootstrap_servers
