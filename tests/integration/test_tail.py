"""Reading a topic from its end, on a real Kafka and on the embedded Kafka, which `headrace
dead-letters` reads in the same way.
"""

from collections.abc import Iterator
from contextlib import closing

import pytest
from confluent_kafka import Producer
from typer.testing import CliRunner, Result

from headrace.adapters.kafka.local.mock_cluster import MockCluster
from headrace.adapters.kafka.options import KafkaOptions
from headrace.adapters.kafka.tail import KafkaTail
from headrace.domain.errors import LogUnavailable, TopicMissing
from headrace.domain.record import StoredRecord
from headrace_cli.main import application
from tests.support.kafka import KafkaUnderTest, free_port

SECONDS = 20.0


@pytest.fixture
def embedded() -> Iterator[MockCluster]:
    """An embedded cluster for this test."""
    cluster = MockCluster()
    cluster.start()
    try:
        yield cluster
    finally:
        cluster.stop()


def _fill(servers: str, topic: str, partitions: int) -> None:
    """Write ten records, `0` to `9`, a second apart, distributed over the partitions."""
    producer = Producer({"bootstrap.servers": servers, "acks": "all"})
    for number in range(10):
        producer.produce(
            topic,
            str(number),
            partition=number % partitions,
            timestamp=1_700_000_000_000 + 1000 * number,
        )
    assert 0 == producer.flush(SECONDS)


def _value(record: StoredRecord) -> str | None:
    value = (record.value or b"").decode()
    return None if value == "8" else value


def _check(servers: str, topic: str) -> None:
    with closing(KafkaTail(KafkaOptions(bootstrap_servers=servers), seconds=SECONDS)) as tail:
        assert 10 == tail.record_counts(topic)[topic]
        windows = list(tail.read_newest_first(topic, 3, _value))
        assert ["9", "7"] == windows[0][:2], windows
        assert sorted("012345679") == sorted(value for window in windows for value in window)
        with pytest.raises(TopicMissing):
            tail.watermarks("no-such-topic")


@pytest.mark.kafka
@pytest.mark.parametrize("partitions", [1, 3])
def test_the_newest_are_returned_first_and_the_whole_topic_is_read(
    kafka: KafkaUnderTest, partitions: int
) -> None:
    """It is read window by window, each record once, without deleted records."""
    topic = kafka.create_topic(partitions=partitions)
    _fill(kafka.bootstrap_servers, topic, partitions)
    _check(kafka.bootstrap_servers, topic)


def test_the_embedded_kafka_is_read_in_the_same_way(embedded: MockCluster) -> None:
    """This also works from another process, because it is a port on loopback."""
    embedded.create_topic("dead", 1)
    _fill(embedded.bootstrap_servers, "dead", 1)
    _check(embedded.bootstrap_servers, "dead")


def test_a_kafka_that_does_not_answer_is_given_up() -> None:
    """Reading ends after the given time, with the address in the error."""
    port = free_port()
    with (
        closing(
            KafkaTail(KafkaOptions(bootstrap_servers=f"127.0.0.1:{port}"), seconds=0.5)
        ) as tail,
        pytest.raises(LogUnavailable, match=rf"127\.0\.0\.1:{port}: no answer within [01] s"),
    ):
        tail.watermarks("x")


OPTION = "--bootstrap-servers or KAFKA_BOOTSTRAP_SERVERS"


def _dead_letters(servers: str, *arguments: str) -> Result:
    command = ["dead-letters", *arguments, "--bootstrap-servers", servers]
    return CliRunner().invoke(application(command), command)


def test_a_kafka_that_the_services_do_not_use(embedded: MockCluster) -> None:
    """It answers and has no such topics. The message names it, and the option for another one."""
    servers = embedded.bootstrap_servers
    listed = _dead_letters(servers)
    assert (0, "") == (listed.exit_code, listed.stdout)
    assert f"no dead letter topics at {servers}; " in listed.stderr
    assert OPTION in listed.stderr
    assert "" == _dead_letters(servers, "-o", "json").stdout
    missing = _dead_letters(servers, "--topic", "x.dead")
    assert (1, "") == (missing.exit_code, missing.stdout)
    assert f"topic x.dead does not exist at {servers}; " in missing.stderr
    assert OPTION in missing.stderr
    embedded.create_topic("g.dead", 1)
    assert "no dead letters; 1 topics would hold them" in _dead_letters(servers).stderr


def test_no_kafka_at_the_address_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says how to name the Kafka of the services."""
    monkeypatch.setattr("headrace.adapters.kafka.tail.CONTACT_SECONDS", 0.2)
    servers = f"127.0.0.1:{free_port()}"
    for arguments in ((), ("--topic", "x.dead")):
        failed = _dead_letters(servers, *arguments)
        assert (1, "") == (failed.exit_code, failed.stdout)
        assert f"at {servers}: no answer within 0 s; " in failed.stderr
        assert OPTION in failed.stderr
