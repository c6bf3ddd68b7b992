"""The session's Kafka fixture, and the lifecycle of the project's Apache Kafka process."""

import subprocess
import sys
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from headrace.adapters.kafka.local.kafka_server import ApacheKafka, DataInUse
from tests.support.kafka import KafkaUnderTest


def _write(servers: str, topic: str, value: bytes) -> int:
    producer = Producer({"bootstrap.servers": servers, "acks": "all", "message.timeout.ms": 20_000})
    producer.produce(topic, value)
    return int(producer.flush(20))


def _create(servers: str, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": servers})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(10)


def _read(servers: str, topic: str) -> bytes | None:
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": f"{topic}-reader",
            "auto.offset.reset": "earliest",
        }
    )
    try:
        consumer.subscribe([topic])
        message = consumer.poll(20)
        return None if message is None else message.value()
    finally:
        consumer.close()


@pytest.mark.kafka
def test_a_topic_of_the_session_holds_what_was_written(kafka: KafkaUnderTest) -> None:
    """A record that one client writes to a topic of the fixture is read by another."""
    topic = kafka.create_topic(partitions=3)
    assert 0 == _write(kafka.bootstrap_servers, topic, b"x")
    assert b"x" == _read(kafka.bootstrap_servers, topic)


@pytest.mark.kafka
def test_a_killed_broker_comes_back_with_its_data_on_its_port(private_kafka: ApacheKafka) -> None:
    """After kill -9 and a start, the address is the same and the record still exists. A stop ends
    the process.
    """
    servers = private_kafka.bootstrap_servers
    _create(servers, "kept")
    assert 0 == _write(servers, "kept", b"kept")
    assert private_kafka.exit_reason() is None
    private_kafka.kill()
    assert private_kafka.pid is None
    assert "was ended by SIGKILL" in (private_kafka.exit_reason() or "")
    assert private_kafka.log_tail()
    private_kafka.start()
    assert servers == private_kafka.bootstrap_servers
    assert b"kept" == _read(servers, "kept")
    private_kafka.stop()
    assert private_kafka.pid is None


@pytest.mark.kafka
def test_a_frozen_broker_answers_again_when_resumed(private_kafka: ApacheKafka) -> None:
    """A frozen broker stores nothing, and waiting records are stored when it resumes."""
    _create(private_kafka.bootstrap_servers, "late")
    producer = Producer(
        {"bootstrap.servers": private_kafka.bootstrap_servers, "message.timeout.ms": 20_000}
    )
    producer.list_topics("late", timeout=10)
    private_kafka.pause()
    producer.produce("late", b"x")
    assert 1 == producer.flush(0.5)
    private_kafka.cont()
    assert 0 == producer.flush(15)


@pytest.mark.kafka
def test_data_in_use_by_a_running_process_is_not_touched(
    private_kafka: ApacheKafka, tmp_path: Path
) -> None:
    """A second run with the same data must not stop the broker of the first. A broker whose owner
    has exited is stopped.
    """
    code = (
        "import sys, time; from pathlib import Path; "
        "from headrace.adapters.kafka.local.kafka_server import ApacheKafka; "
        "kafka = ApacheKafka(Path(sys.argv[1]), heap_mb=384); kafka.start();"
        " print('up', flush=True); time.sleep(120)"
    )
    directory = tmp_path / "shared"
    owner = subprocess.Popen(
        [sys.executable, "-c", code, str(directory)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert owner.stdout is not None
        assert owner.stdout.readline().strip() == "up"
        second = ApacheKafka(directory, heap_mb=384)
        with pytest.raises(DataInUse, match=f"in use by process {owner.pid}"):
            second.start()
    finally:
        owner.kill()
        owner.wait()
        if owner.stdout is not None:
            owner.stdout.close()
    second.start()  # stops the orphan first
    second.stop()
