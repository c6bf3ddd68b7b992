"""The Kafka that tests run against: the best that this machine supports, started once per session.

In this order: `KAFKA_BOOTSTRAP_SERVERS` if set; a container if Docker runs; Apache Kafka through
Maven and Java; the mock cluster of the client library. Tests marked `kafka` are skipped on the mock
cluster, and the skip reason says what stays unproven.
"""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from headrace.adapters.kafka.local.kafka_jars import KafkaNotInstallable, missing_requirement
from headrace.adapters.kafka.local.kafka_server import ApacheKafka
from headrace.adapters.kafka.local.mock_cluster import MockCluster
from tests.support.wait_until import wait_until

IMAGE = "apache/kafka:4.3.0"
ADMIN_SECONDS = 20.0
DOCKER_SECONDS = 5
UNPROVEN = (
    "not proven here: needs a real Apache Kafka, the mock cluster has no durable log, no topic"
    " administration and no broker restarts; set KAFKA_BOOTSTRAP_SERVERS, start Docker, or install"
    " Java 17 and Maven"
)


class Kind(StrEnum):
    """Which Kafka the session got."""

    GIVEN = "given by KAFKA_BOOTSTRAP_SERVERS"
    CONTAINER = "a container"
    APACHE = "Apache Kafka on this machine"
    MOCK = "the client library's mock cluster"


@dataclass
class KafkaUnderTest:
    """A running Kafka. `apache` is its process if the session started one that tests may stop,
    kill, freeze and restart.
    """

    bootstrap_servers: str
    kind: Kind
    apache: ApacheKafka | None = None
    embedded: MockCluster | None = None
    """The mock cluster with the settings that `headrace up` gives it."""
    _topics: list[str] = field(default_factory=list)

    @property
    def real(self) -> bool:
        """Whether it is an Apache Kafka."""
        return self.kind is not Kind.MOCK

    def create_topic(
        self,
        prefix: str = "test",
        *,
        name: str = "",
        partitions: int = 1,
        config: Mapping[str, str] | None = None,
    ) -> str:
        """Create a topic with a unique name, or `name` (the mock creates it at first use, with 4
        partitions); returns the name.
        """
        name = name or f"{prefix}-{uuid.uuid4().hex[:12]}"
        if self.real:
            new = NewTopic(
                name, num_partitions=partitions, replication_factor=1, config=dict(config or {})
            )
            admin = AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})
            admin.create_topics([new], operation_timeout=ADMIN_SECONDS)[name].result(ADMIN_SECONDS)
            wait_until(
                lambda: (
                    len(admin.list_topics(name, timeout=5).topics[name].partitions) == partitions
                ),
                what=f"topic {name} exists",
            )
            self._topics.append(name)
        elif self.embedded is not None:
            assert self.embedded.create_topic(name, partitions), name
        return name

    def delete_topics(self, names: Collection[str]) -> None:
        """Delete topics and wait until they are deleted."""
        if self.embedded is not None:
            for name in names:
                self.embedded.delete_topic(name)
            return
        admin = AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})
        # Each name once: the client crashes on duplicates.
        for future in admin.delete_topics(
            list(set(names)), operation_timeout=ADMIN_SECONDS
        ).values():
            future.result(ADMIN_SECONDS)
        wait_until(
            lambda: not set(names) & set(admin.list_topics(timeout=5).topics),
            ADMIN_SECONDS,
            f"topics {', '.join(names)} are deleted",
        )

    def tidy(self) -> None:
        """Delete the topics of `create_topic` from a Kafka that was given, since it outlives this
        session.
        """
        if self._topics and self.kind is Kind.GIVEN:
            with contextlib.suppress(
                KafkaException, AssertionError
            ):  # Already deleted by their test, or Kafka has stopped.
                self.delete_topics(self._topics)
        self._topics.clear()


def real_kafka_is_possible() -> bool:
    """Whether this machine can run a real Kafka for tests; cheap, starts nothing."""
    return (
        bool(os.environ.get("KAFKA_BOOTSTRAP_SERVERS"))
        or missing_requirement() is None
        or _docker_runs()
    )


@contextlib.contextmanager
def running_kafka() -> Iterator[KafkaUnderTest]:
    """Start the best one available, and stop it at the end."""
    given = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    with contextlib.ExitStack() as stack:
        found = (
            KafkaUnderTest(given, Kind.GIVEN)
            if given
            else _container(stack) or _apache(stack) or _mock(stack)
        )
        stack.callback(found.tidy)
        yield found


def _container(stack: contextlib.ExitStack) -> KafkaUnderTest | None:
    if not _docker_runs():
        return None
    from testcontainers.core.config import testcontainers_config
    from testcontainers.core.container import DockerContainer

    # The reaper would be one more image to pull; this fixture stops what it started.
    testcontainers_config.ryuk_disabled = True
    port = free_port()
    container = DockerContainer(IMAGE)
    container.ports = {"9092/tcp": ("127.0.0.1", port)}  # type: ignore[dict-item]  # loopback only; its annotation lacks the pair
    for name, value in _container_settings(port).items():
        container.with_env(name, value)
    try:
        container.start()
    # The Docker library's errors have no common base class; without the image the next kind is
    # tried.
    except Exception as error:
        print(
            f"no Kafka container ({type(error).__name__}: {str(error)[:200]}); trying Maven and"
            " Java"
        )
        container.stop()  # Closes the connections to the engine, too.
        return None
    stack.callback(container.stop)
    servers = f"127.0.0.1:{port}"
    admin = AdminClient({"bootstrap.servers": servers, "log_level": 0})
    wait_until(
        lambda: _answers(admin), 60.0, f"Kafka in the container answers on {servers}", every=0.2
    )
    return KafkaUnderTest(servers, Kind.CONTAINER)


def _container_settings(port: int) -> dict[str, str]:
    return {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        # The broker writes transaction markers to itself at its advertised address: the host's
        # address is not its own.
        "KAFKA_LISTENERS": "PLAINTEXT://:9092,CONTROLLER://:9093,INSIDE://:9094",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{port},INSIDE://localhost:9094",
        "KAFKA_INTER_BROKER_LISTENER_NAME": "INSIDE",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": (
            "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,INSIDE:PLAINTEXT"
        ),
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS": "4",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_NUM_PARTITIONS": "4",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
        "KAFKA_GROUP_CONSUMER_MIN_SESSION_TIMEOUT_MS": "6000",
        "KAFKA_GROUP_CONSUMER_SESSION_TIMEOUT_MS": "6000",
        "KAFKA_GROUP_CONSUMER_MIN_HEARTBEAT_INTERVAL_MS": "1000",
        "KAFKA_GROUP_CONSUMER_HEARTBEAT_INTERVAL_MS": "2000",
        "KAFKA_MESSAGE_MAX_BYTES": "2097152",
    }


def _apache(stack: contextlib.ExitStack) -> KafkaUnderTest | None:
    if missing_requirement() is not None:
        return None
    directory = stack.enter_context(
        tempfile.TemporaryDirectory(prefix="headrace-kafka-", ignore_cleanup_errors=True)
    )
    apache = ApacheKafka(Path(directory), progress=print)
    stack.callback(apache.kill)
    try:
        apache.start()
    except KafkaNotInstallable as error:
        print(f"{error}; using the mock cluster")
        return None
    return KafkaUnderTest(apache.bootstrap_servers, Kind.APACHE, apache)


def _mock(stack: contextlib.ExitStack) -> KafkaUnderTest:
    cluster = MockCluster()
    cluster.start()
    stack.callback(cluster.stop)
    return KafkaUnderTest(cluster.bootstrap_servers, Kind.MOCK, embedded=cluster)


def _docker_runs() -> bool:
    """Whether a Docker engine answers.

    A separate process asks: Docker's library leaves a socket open if nothing listens on the
    engine's socket file, and an unrelated test fails when that socket is garbage-collected.
    """
    if not Path("/var/run/docker.sock").exists() and "DOCKER_HOST" not in os.environ:
        return False
    command = [
        sys.executable,
        "-c",
        f"import docker; docker.from_env(timeout={DOCKER_SECONDS}).ping()",
    ]
    with contextlib.suppress(subprocess.TimeoutExpired):
        return (
            subprocess.run(
                command, capture_output=True, timeout=4 * DOCKER_SECONDS, check=False
            ).returncode
            == 0
        )
    return False


def _answers(admin: AdminClient) -> bool:
    try:
        return bool(admin.list_topics(timeout=2).brokers)
    except Exception:  # Any error: the caller's deadline decides.
        return False


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture(scope="session")
def kafka() -> Iterator[KafkaUnderTest]:
    """The session's Kafka: `.bootstrap_servers`, `.create_topic()`, `.apache` (its process, or None
    if the session did not start it).
    """
    with running_kafka() as found:
        yield found


@pytest.fixture(scope="session")
def embedded_kafka() -> Iterator[KafkaUnderTest]:
    """The embedded Kafka of `headrace up`, also if a real one is available: it is the default of
    new users.
    """
    with contextlib.ExitStack() as stack:
        yield _mock(stack)


@pytest.fixture
def private_kafka(tmp_path: Path) -> Iterator[ApacheKafka]:
    """An Apache Kafka process for this test alone, for tests that stop, kill or freeze it."""
    lack = missing_requirement()
    if lack is not None:
        pytest.skip(f"{UNPROVEN} ({lack})")
    apache = ApacheKafka(tmp_path / "kafka", heap_mb=384)
    try:
        apache.start()
        yield apache
    finally:
        apache.kill()
