"""A cluster of two brokers, of which tests stop, freeze and restart the second one. The first one
is also the controller.
"""

import contextlib
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka import ElectionType, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from headrace.adapters.kafka.local.kafka_jars import missing_requirement
from headrace.adapters.kafka.local.kafka_server import ApacheKafka
from tests.support.headrace_under_test import lasting_port
from tests.support.wait_until import wait_until

SECONDS = 30.0
OFFSETS_TOPIC = "__consumer_offsets"
OFFSETS_PARTITIONS = 4


@dataclass(frozen=True, slots=True)
class KafkaPair:
    """The running brokers."""

    first: ApacheKafka
    second: ApacheKafka

    @property
    def bootstrap_servers(self) -> str:
        """Both."""
        return f"{self.first.bootstrap_servers},{self.second.bootstrap_servers}"

    def coordinator_of(self, group: str) -> int:
        """The broker that leads the partition with its committed offsets."""
        return self._leaders()[_hash(group) % OFFSETS_PARTITIONS]

    def groups_of(self, broker: int, count: int, prefix: str) -> list[str]:
        """Names of groups whose coordinator this broker is."""
        leaders = self._leaders()
        names = (f"{prefix}-{number}" for number in range(1_000))
        own = [name for name in names if leaders[_hash(name) % OFFSETS_PARTITIONS] == broker]
        assert len(own) >= count, leaders
        return own[:count]

    def give_back(self, group: str) -> None:
        """Let the second broker be the coordinator again of what it was before it was stopped."""
        found = [TopicPartition(OFFSETS_TOPIC, number) for number in range(OFFSETS_PARTITIONS)]
        admin = self._admin()

        def elect() -> bool:
            admin.elect_leaders(ElectionType.PREFERRED, found).result(SECONDS)
            return self.coordinator_of(group) == 2

        wait_until(elect, SECONDS, "the second broker leads again", every=0.3)

    def create_topic(self, topic: str) -> None:
        """Create a topic with one partition, which is on both."""
        admin = self._admin()
        admin.create_topics([NewTopic(topic, 1, 2)])[topic].result(SECONDS)

    def _leaders(self) -> dict[int, int]:
        topic = self._admin().list_topics(OFFSETS_TOPIC, timeout=SECONDS).topics[OFFSETS_TOPIC]
        return {number: each.leader for number, each in topic.partitions.items()}

    def _admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.first.bootstrap_servers, "log_level": 0})


@contextlib.contextmanager
def kafka_pair(directory: Path) -> Iterator[KafkaPair]:
    """Start both, stop them at the end. Committed offsets are on both."""
    lack = missing_requirement()
    if lack is not None:
        pytest.skip(f"not proven here: needs a cluster of two brokers: {lack}")
    controller = lasting_port()
    cluster = urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=").replace("-", "A")
    brokers = []
    for node in (1, 2):
        place = directory / f"broker-{node}"
        (place / "data").mkdir(parents=True)
        port, unused = lasting_port(), lasting_port()
        (place / "ports").write_text(f"{port} {controller if node == 1 else unused}", "ascii")
        # As after formatting: both have the same cluster.
        (place / "data" / "meta.properties").write_text(
            f"version=1\ncluster.id={cluster}\nnode.id={node}\n", encoding="ascii"
        )
        roles = {"process.roles": "broker", "listeners": f"PLAINTEXT://127.0.0.1:{port}"}
        settings = {
            "node.id": str(node),
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "offsets.topic.replication.factor": "2",
            "offsets.topic.num.partitions": str(OFFSETS_PARTITIONS),
            **(roles if node == 2 else {}),
        }
        brokers.append(ApacheKafka(place, heap_mb=320, settings=settings))
    pair = KafkaPair(*brokers)
    try:
        pair.first.start()
        pair.second.start()
        yield pair
    finally:
        pair.second.kill()
        pair.first.kill()


def _hash(text: str) -> int:
    """That of Java's strings, without its sign as Kafka uses it."""
    value = 0
    for character in text:
        value = (31 * value + ord(character)) & 0xFFFFFFFF
    return value if value < 2**31 else 2**32 - value
